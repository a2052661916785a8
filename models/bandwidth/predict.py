"""The served forecaster: its members' distribution, calibrated, guarded by the simple methods' record on a link.

``load_forecaster().predict(bw_mbps, t_s)`` takes what is known of a link, one sample or a thousand, and answers every
horizon with a point and seven quantiles, and with the method that spoke.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.calibration import CALIBRATED, KINDS, Levels, kinds, order_of
from models.bandwidth.data import Array, cells
from models.bandwidth.distribution import GRID, decide, on_grid, quantiles
from models.bandwidth.features import CLIP, LEVEL, SIMPLE, Batch, View, batch, horizon_cells, view
from models.bandwidth.forecast import QUANTILES
from models.bandwidth.guard import HEARD, loudest, stretch, weights
from models.bandwidth.inference import EDGES
from models.bandwidth.member import Member
from models.bandwidth.reckoning import past_answers

HORIZONS_S = (1.0, 5.0, 15.0, 30.0, 60.0)
# The record on a link: how long ago the net and the simple methods are asked again, in cells.
_AGO = np.array([1, 2, 3, 5, 8, 13, 21, 34])
_CHECKED = 64  # moments asked again in one call, over all its links
_TRUSTED = tuple(SIMPLE.index(name) for name in ("last", "mean3", "ewma", "mean10"))
# The middle 80 % of a distribution are about so many of its mean errors wide, be it normal or Laplace's.
_WIDE, _WIDE_IN_ERRORS = np.array([0.1, 0.9]), 3.2
_SEVERAL, _OVER_BEST = 5, 0.3  # cells; in logarithms
_FAR = 4.0  # a feature so many spreads from the training's mean lies beyond what it met

Series = tuple[Sequence[float] | Array, Sequence[float] | Array, Mapping[str, Sequence[float] | Array] | None]


@dataclass(frozen=True)
class Prediction:
    """What a link will carry in the mean over each horizon, Mbit/s.

    ``mean [H]`` is the point forecast, ``quantiles [H, Q]`` rise along `levels`. `method` says who has the most say:
    ``lstm`` (nets and trees), ``blend`` (the simple methods together), ``last`` or ``ewma`` where that has the better
    record on this link, or ``none`` when nothing is known.
    """

    horizons_s: tuple[float, ...]
    mean: Array
    quantiles: Array
    method: str
    levels: tuple[float, ...] = QUANTILES


@dataclass(frozen=True)
class _Told:
    """Of links and horizons ``[B, H]``, in logarithms: who is heard, and what is told before calibration.

    The band is the distribution ``cdf [B, H, G]``, moved from the members' point `centre` to `point` and stretched, and
    ends at ``ceiling [B, 1]``.
    """

    newest: View
    heard: Array
    cdf: Array
    centre: Array
    point: Array
    stretch: Array
    ceiling: Array


class Forecaster:
    """Members with their calibration; holds no state of any link.

    Args:
        members: their distributions are averaged; without any, the simple methods speak together, and around them is
            what EWMA got wrong on the link so far.
        levels: the calibration learned on links that the members never saw.
        version: its name in the registry.
    """

    def __init__(self, members: Sequence[Member], levels: Levels, version: str = "unpublished") -> None:
        self.members = list(members)
        self.levels = levels
        self.version = version

    def predict(
        self,
        bw_mbps: Sequence[float] | Array,
        t_s: Sequence[float] | Array,
        covariates: Mapping[str, Sequence[float] | Array] | None = None,
        horizons_s: Sequence[float] | Array = HORIZONS_S,
    ) -> Prediction:
        """One link: samples in Mbit/s with their times, in any order and spacing; NaN means not measured.

        Raises:
            ValueError: columns of different length, or a horizon that is no positive number.
        """
        return self.predict_batch([(bw_mbps, t_s, covariates)], horizons_s)[0]

    def predict_batch(
        self, links: Sequence[Series], horizons_s: Sequence[float] | Array = HORIZONS_S
    ) -> list[Prediction]:
        """Many links at once, as ``(bw_mbps, t_s, covariates)``; the answers are in their order.

        Raises:
            ValueError: as from `predict`.
        """
        horizons = np.asarray(horizons_s, dtype=np.float64)
        if horizons.ndim != 1 or not len(horizons) or not np.all(np.isfinite(horizons) & (horizons > 0)):
            raise ValueError("horizons_s must be positive numbers of seconds")
        read = [cells(t_s, mbps, extras) for mbps, t_s, extras in links]
        known = [i for i, (_, _, values, _) in enumerate(read) if len(values)]
        nothing = np.full(len(horizons), np.nan)
        wide = np.full((len(horizons), len(QUANTILES)), np.nan)
        out = [Prediction(tuple(map(float, horizons)), nothing, wide, "none") for _ in links]
        if not known:
            return out
        told = self._tell(batch([read[i] for i in known]), horizons)
        here = told.cdf.reshape(-1, told.cdf.shape[2])
        wanted = self.levels.at(np.array(QUANTILES), here, np.tile(horizons, len(known)))
        off = quantiles(here, wanted).reshape(*told.point.shape, -1) - told.centre[..., None]
        bands = told.point[..., None] + told.stretch[..., None] * off
        bands = np.minimum(bands, np.maximum(told.ceiling, told.point)[..., None])
        names = ["lstm" if self.members else "blend", *(SIMPLE[place] for place in HEARD)]
        points, bands = (told.newest.to_mbps(each[:, None])[:, 0] for each in (told.point, bands))
        for row, (i, who) in enumerate(zip(known, loudest(told.heard), strict=True)):
            out[i] = Prediction(tuple(map(float, horizons)), points[row], bands[row], names[who])
        return out

    def orders(self, links: Sequence[Series], horizons: Array, truth_mbps: Array) -> tuple[Array, np.ndarray]:
        """Which order of what is told of it each truth ``[B, H]`` turned out to be, before calibration, and its kind.

        Every link must have a sample. What is told is the served band: around the point of all that are heard, and
        stretched by the record on the link. An unknown truth (NaN) has no order (NaN).
        """
        told = self._tell(batch([cells(t_s, mbps, extras) for mbps, t_s, extras in links]), horizons)
        truth = told.newest.to_log(truth_mbps[:, None])[:, 0]
        here = told.cdf.reshape(-1, told.cdf.shape[2])
        order = order_of(here, (told.centre + (truth - told.point) / told.stretch).ravel())
        kind = kinds(here, np.tile(horizons, len(links)))
        return np.where(np.isfinite(truth), order.reshape(truth.shape), np.nan), kind.reshape(truth.shape)

    def _tell(self, b: Batch, horizons: Array) -> "_Told":
        ago = _AGO[: _CHECKED // len(b.mbps)]
        at = np.maximum(b.last - np.concatenate(([0], ago))[None, :], 0) if len(ago) else b.last
        v = view(b, horizons, at)
        distributions, far = self.distributions(b, v, at)
        shape = v.simple.shape[:3]
        points = decide(distributions).reshape(shape)
        expects = np.ones(shape)  # without earlier moments no record is to be compared with it
        if at.shape[1] > 1:
            expects = (np.diff(quantiles(distributions, _WIDE))[:, 0] / _WIDE_IN_ERRORS).reshape(shape)
        count, errors, expected = self._record(b, v, at, points, expects, horizons)
        heard = weights(count, errors, far.reshape(shape)[:, 0].mean(1), horizons)
        said = np.concatenate([points[:, 0, :, None], v.simple[:, 0][..., list(HEARD)]], axis=2)
        return _Told(
            newest=View(v.steps, v.features, v.simple, v.level[:, :1], v.floor[:, :1], v.error[:, :1]),
            heard=heard,
            cdf=distributions.reshape(*shape, -1)[:, 0],
            centre=points[:, 0],
            point=(heard * said).sum(2),
            stretch=stretch(heard, errors, expected, expects[:, 0]),
            ceiling=_ceiling(b, v),
        )

    def distributions(self, b: Batch, v: View, at: np.ndarray) -> tuple[Array, Array]:
        """The members' mean distribution at each moment and horizon ``[B·P·H, G]``; the share of features far off."""
        if not self.members:
            return _blend(v), np.zeros(v.error.size)
        count = v.simple.shape[2]
        link = np.repeat(np.arange(len(b.mbps)), at.shape[1] * count)
        cell = np.repeat(at.ravel(), count)
        features = v.features.reshape(-1, v.features.shape[3]).astype(np.float32)
        simple = v.simple.reshape(-1, v.simple.shape[3]).astype(np.float32)
        steps = v.steps.astype(np.float32)
        out = on_grid([member(steps, link, cell, features, simple) for member in self.members], EDGES)
        met = self.members[0].net
        off = np.abs(features - met.mean) > _FAR * met.scale
        off[:, LEVEL] = False
        return out, off.mean(1)

    @staticmethod
    def _record(
        b: Batch, v: View, at: np.ndarray, points: Array, expects: Array, horizons: Array
    ) -> tuple[Array, Array, Array]:
        """Of earlier moments: count ``[B, H]``, summed errors ``[B, H, 1 + K]``, and those that were expected."""
        count, expected = np.zeros((2, len(at), len(horizons)))
        errors = np.zeros((*count.shape, 1 + len(SIMPLE)))
        if at.shape[1] > 1:
            ahead = horizon_cells(horizons, b.step_s)
            simple = np.ascontiguousarray(v.simple)
            past_answers(b.mbps, ahead, at, v.level, v.floor, points, simple, expects, count, errors, expected)
        return count, errors, expected


def _ceiling(b: Batch, v: View) -> Array:
    """What no quantile tops ``[B, 1]``, in logarithms: a third over the best of several cells, if not all are 0."""
    best = b.mbps.max(1, keepdims=True)
    top = np.log((best + v.floor[:, :1]) / (v.level[:, :1] + v.floor[:, :1]))
    out: Array = np.where((b.length[:, None] >= _SEVERAL) & (best > 0), top + _OVER_BEST, CLIP)
    return out


def _blend(v: View) -> Array:
    """Logistic distributions ``[B·P·H, G]`` around the mean of the trusted simple methods."""
    centre = v.simple[..., list(_TRUSTED)].mean(-1).ravel()
    # A Laplace or normal error with this mean has about this spread.
    scale = np.maximum(0.75 * v.error.ravel(), 0.005)
    out: Array = 1 / (1 + np.exp(-np.clip((GRID[None, :] - centre[:, None]) / scale[:, None], -40, 40)))
    return out


def load_members(arrays: Mapping[str, NDArray[Any]]) -> tuple[list[Member], Levels]:
    """Members and calibration of a version's arrays, as `as_arrays` wrote them.

    Raises:
        ValueError: they are not of a forecaster.
    """
    if "levels" not in arrays or arrays["levels"].shape != (KINDS, len(CALIBRATED)):
        raise ValueError("there is no calibration of a forecaster in it")
    if any(name.startswith("net0/") for name in arrays):
        raise ValueError("it was trained when nets spoke without trees: train a version anew")
    count = len({name.partition("/")[0] for name in arrays if "/" in name})
    heads = [f"member{i}/" for i in range(count)]
    parts = [{name.removeprefix(head): one for name, one in arrays.items() if name.startswith(head)} for head in heads]
    return [Member.of(part) for part in parts], Levels(np.asarray(arrays["levels"], np.float64))


def as_arrays(forecaster: Forecaster) -> dict[str, NDArray[Any]]:
    """Everything of a forecaster that is stored: members and calibration."""
    out: dict[str, NDArray[Any]] = {
        f"member{i}/{name}": one for i, each in enumerate(forecaster.members) for name, one in each.arrays.items()
    }
    return {**out, "levels": forecaster.levels.table}
