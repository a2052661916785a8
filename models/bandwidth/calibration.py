"""Forecasts beside the later truth: how often it fell into what was promised, and bands corrected by that."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.distribution import GRID, quantiles
from models.bandwidth.forecast import Point


@dataclass(frozen=True, slots=True)
class Settled:
    """One forecast and what came of it, bytes per second."""

    made_s: float
    horizon_s: float
    point: Point
    truth: float

    @property
    def inside(self) -> bool:
        """True when the truth lay inside the interval."""
        return self.point.low <= self.truth <= self.point.high


class Ledger:
    """Keeps the last `limit` forecasts of a link: the open ones until their horizon is over, then with their truth."""

    def __init__(self, limit: int = 512) -> None:
        assert limit > 0
        self._open: deque[tuple[float, float, Point]] = deque(maxlen=limit)
        self.settled: deque[Settled] = deque(maxlen=limit)

    def made(self, now_s: float, horizon_s: float, point: Point) -> None:
        """Note a forecast that was given out."""
        self._open.append((now_s, horizon_s, point))

    def settle(self, now_s: float, truth: Callable[[float, float], float | None]) -> None:
        """Close every forecast whose horizon is over; one whose window was never measured is dropped, not counted."""
        waiting = []
        for made_s, horizon_s, point in self._open:
            if made_s + horizon_s > now_s:
                waiting.append((made_s, horizon_s, point))
                continue
            measured = truth(made_s, made_s + horizon_s)
            if measured is not None:
                self.settled.append(Settled(made_s, horizon_s, point, measured))
        self._open.clear()
        self._open.extend(waiting)

    @property
    def calibration(self) -> float:
        """Share of truths inside their interval (0.8 is what is promised); -1 when there is no truth yet."""
        if not self.settled:
            return -1.0
        return sum(each.inside for each in self.settled) / len(self.settled)


CALIBRATED = np.array([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99])
_WIDTHS = (0.1, 0.3, 0.8)  # of the middle 80 % in logarithms: steady, moving, wild and wilder links
_SPANS_S = (2.0, 10.0, 40.0)
KINDS = (len(_WIDTHS) + 1) * (len(_SPANS_S) + 1)
_ENOUGH = 200.0


@dataclass(frozen=True)
class Levels:
    """Which order of what is told before calibration has to be taken for a quantile to hold: conformal, per kind.

    ``table [KINDS, levels]`` is at `CALIBRATED`. A kind is how wide the net's band is by how far it looks ahead; a
    running link is told apart by that without a label. (Group-conditional conformal prediction, Vovk and others.)
    """

    table: Array

    @staticmethod
    def plain() -> "Levels":
        """No correction."""
        return Levels(np.tile(CALIBRATED, (KINDS, 1)))

    @staticmethod
    def learn(order: Array, kind: np.ndarray, weight: Array) -> "Levels":
        """From the orders ``[N]`` that truths turned out to be on links that the nets never saw, and their kinds.

        `weight` lets each group of links count alike. A kind with few truths leans on all others.
        """
        whole = _weighted_quantiles(order, weight, CALIBRATED)
        table = np.tile(whole, (KINDS, 1))
        for k in range(KINDS):
            here = kind == k
            if here.any():
                lean = _ENOUGH / (_ENOUGH + here.sum())
                table[k] = lean * whole + (1 - lean) * _weighted_quantiles(order[here], weight[here], CALIBRATED)
        return Levels(np.maximum.accumulate(np.clip(table, 1e-4, 1 - 1e-4), axis=1))

    def at(self, levels: Array, cdf: Array, horizons_s: Array) -> Array:
        """Orders to take ``[N, Q]`` for quantiles ``levels [Q]``."""
        table = self.table[kinds(cdf, horizons_s)]
        out = np.empty((len(cdf), len(levels)))
        for q, level in enumerate(levels):
            i = int(np.clip(np.searchsorted(CALIBRATED, level), 1, len(CALIBRATED) - 1))
            part = (level - CALIBRATED[i - 1]) / (CALIBRATED[i] - CALIBRATED[i - 1])
            out[:, q] = table[:, i - 1] + part * (table[:, i] - table[:, i - 1])
        return out


def kinds(cdf: Array, horizons_s: Array) -> np.ndarray:
    """The kind of every distribution ``[N]``."""
    low, high = quantiles(cdf, np.array([0.1, 0.9])).T
    out: np.ndarray = np.searchsorted(_WIDTHS, high - low) * (len(_SPANS_S) + 1) + np.searchsorted(_SPANS_S, horizons_s)
    return out


def order_of(cdf: Array, truth: Array) -> Array:
    """Which order of its distribution each truth ``[N]`` turned out to be."""
    at = np.clip(np.searchsorted(GRID, truth), 1, len(GRID) - 1)
    rows = np.arange(len(truth))
    part = np.clip((truth - GRID[at - 1]) / (GRID[at] - GRID[at - 1]), 0, 1)
    out: Array = cdf[rows, at - 1] + part * (cdf[rows, at] - cdf[rows, at - 1])
    return out


def _weighted_quantiles(values: Array, weight: Array, levels: Array) -> Array:
    order = np.argsort(values)
    share = (np.cumsum(weight[order]) - 0.5 * weight[order]) / weight.sum()
    out: Array = np.interp(levels, share, values[order])
    return out
