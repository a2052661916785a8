"""What a forecaster sees at a moment: everything as a ratio to the link's recent level, nothing from after it.

Rows of a batch are links, columns cells (``models.bandwidth.data``), filled from the left. The loops are compiled
(``seeing.py``), because a site asks for a hundred links at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.bandwidth.data import COVARIATES, Array
from models.bandwidth.seeing import CLIP, COLUMNS, FEATURES, LEVEL, SMOOTHING, lay, see

__all__ = [
    "CLIP",
    "LEVEL",
    "LONGEST",
    "SIMPLE",
    "SMOOTHING",
    "Batch",
    "View",
    "batch",
    "horizon_cells",
    "simple_forecasts",
    "truths",
    "view",
]

LONGEST = 64  # cells looked back on
SIMPLE = ("last", "mean3", "ewma", "harmonic", "mean10", "ols", "mean30", "earlier")


@dataclass(frozen=True)
class Batch:
    """Links side by side: rates and times ``[B, T]``, number of cells and step ``[B]``, covariates ``[B, T, K]``."""

    mbps: Array
    t_s: Array
    length: np.ndarray
    step_s: Array
    covariates: Array

    @property
    def last(self) -> np.ndarray:
        """Positions of the newest cells ``[B, 1]``."""
        return self.length[:, None] - 1


@dataclass(frozen=True)
class View:
    """Of `P` moments in each of `B` links and `H` horizons.

    ``steps [B, T, C]`` cell by cell; ``features [B, P, H, F]`` of the moments; ``simple [B, P, H, K]`` logarithms
    of the simple methods' forecasts over the level; ``level [B, P]`` in Mbit/s, ``floor [B, P]`` what is added to both
    before a logarithm; ``error [B, P, H]`` the mean |log error| of EWMA so far.
    """

    steps: Array
    features: Array
    simple: Array
    level: Array
    floor: Array
    error: Array

    def to_log(self, mbps: Array) -> Array:
        """Mbit/s ``[B, P, ...]`` as the logarithm of its ratio to the level."""
        shape = self.level.shape + (1,) * (mbps.ndim - 2)
        floor = self.floor.reshape(shape)
        out: Array = np.log((mbps + floor) / (self.level.reshape(shape) + floor))
        return np.clip(out, -CLIP, CLIP)

    def to_mbps(self, logs: Array) -> Array:
        """The inverse of `to_log`, never negative."""
        shape = self.level.shape + (1,) * (logs.ndim - 2)
        floor = self.floor.reshape(shape)
        out: Array = np.maximum(np.exp(logs) * (self.level.reshape(shape) + floor) - floor, 0.0)
        return out


def batch(links: Sequence[tuple[float, Array, Array, Mapping[str, Array]]]) -> Batch:
    """Links as ``cells`` gives them, side by side; each must have a cell. Only the newest `LONGEST` cells count."""
    width = max(min(len(values), LONGEST) for _, _, values, _ in links)
    shape = (len(links), width)
    mbps, t_s, known = np.zeros(shape), np.zeros(shape), np.full((*shape, len(COVARIATES)), np.nan)
    length, steps = np.ones(len(links), np.int64), np.ones(len(links))
    for row, (step, times, values, extras) in enumerate(links):
        places = np.array([COVARIATES.index(name) for name in extras], np.int64)
        columns = np.array(list(extras.values())) if extras else np.empty((0, len(values)))
        lay(step, times, values, columns, places, row, mbps, t_s, length, steps, known)
    return Batch(mbps, t_s, length, steps, known)


def horizon_cells(horizons_s: Array, step_s: Array) -> np.ndarray:
    """How many cells ``[B, H]`` each horizon is."""
    return np.maximum(1, np.round(horizons_s[None, :] / step_s[:, None] + 1e-9)).astype(np.int64)


def truths(t_s: Array, mbps: Array, step_s: float, horizons_s: Array) -> Array:
    """Means over the horizons after each cell of one trace ``[T, H]``; NaN where they were not measured."""
    count = len(mbps)
    out = np.full((count, len(horizons_s)), np.nan)
    total = np.concatenate(([0.0], np.cumsum(mbps)))
    for j, horizon in enumerate(horizons_s):
        n = max(1, round(horizon / step_s + 1e-9))
        if n >= count or horizon < 0.5 * step_s:
            continue
        i = np.arange(count - n)
        whole = t_s[i + n] - t_s[i] <= 1.3 * horizon + 0.3 * step_s
        out[i[whole], j] = (total[i + n + 1] - total[i + 1])[whole] / n
    return out


def simple_forecasts(b: Batch, horizons_s: Array, at: np.ndarray | None = None) -> Array:
    """The simple methods' forecasts ``[B, P, H, K]`` in Mbit/s, in the order of `SIMPLE`."""
    return _see(b, horizons_s, at)[1]


def view(b: Batch, horizons_s: Array, at: np.ndarray | None = None) -> View:
    """What is seen of each link at moments ``at [B, P]`` (the newest if None) for the horizons ``[H]``."""
    return _see(b, horizons_s, at)[0]


def _see(b: Batch, horizons_s: Array, at: np.ndarray | None) -> tuple[View, Array]:
    at = b.last if at is None else at
    horizons, at = np.ascontiguousarray(horizons_s, np.float64), np.ascontiguousarray(at, np.int64)
    rows = (*at.shape, len(horizons))
    steps, features = np.empty((*b.mbps.shape, COLUMNS)), np.empty((*rows, FEATURES))
    simple, level, floor, error = np.empty((*rows, len(SIMPLE))), np.empty(at.shape), np.empty(at.shape), np.empty(rows)
    see(
        b.mbps, b.t_s, b.step_s, b.covariates, horizons, horizon_cells(horizons, b.step_s), at,
        steps, features, simple, level, floor, error,
    )  # fmt: skip
    return View(steps, features, features[..., -len(SIMPLE) :], level, floor, error), simple
