"""The forecaster that is served: the nets' distribution, calibrated, guarded by the simple methods' record on the link.

``load_forecaster().predict(bw_mbps, t_s)`` takes what is known of a link, one sample or a thousand, and answers every
horizon with a point and seven quantiles, and with the method that spoke.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.bandwidth.calibration import Levels
from models.bandwidth.data import Array, cells
from models.bandwidth.distribution import GRID, decide, on_grid, quantiles
from models.bandwidth.features import LEVEL, SIMPLE, Batch, View, batch, horizon_cells, view
from models.bandwidth.forecast import QUANTILES
from models.bandwidth.guard import HEARD, loudest, stretch, weights
from models.bandwidth.module import Net, Shape, cdf, edges
from models.bandwidth.reckoning import past_answers

HORIZONS_S = (1.0, 5.0, 15.0, 30.0, 60.0)
_EDGES: Array = edges().numpy().astype(np.float64)
# The record on a link: how long ago the net and the simple methods are asked again, in cells.
_AGO = np.array([1, 2, 3, 5, 8, 13, 21, 34])
_CHECKED = 64  # moments asked again in one call, over all its links
_TRUSTED = tuple(SIMPLE.index(name) for name in ("last", "mean3", "ewma", "mean10"))
# The middle 80 % of a distribution are about so many of its mean errors wide, be it normal or Laplace's.
_WIDE, _WIDE_IN_ERRORS = np.array([0.1, 0.9]), 3.2
_FAR = 4.0  # a feature so many spreads from the training's mean lies beyond what it met

Series = tuple[Sequence[float] | Array, Sequence[float] | Array, Mapping[str, Sequence[float] | Array] | None]


@dataclass(frozen=True)
class Prediction:
    """What a link will carry in the mean over each horizon, Mbit/s.

    ``mean [H]`` is the point forecast, ``quantiles [H, Q]`` rise along `levels`. `method` says who has the most say:
    ``lstm``, ``blend`` (the simple methods together), ``last`` or ``ewma`` where that has the better record on this
    link, or ``none`` when nothing is known.
    """

    horizons_s: tuple[float, ...]
    mean: Array
    quantiles: Array
    method: str
    levels: tuple[float, ...] = QUANTILES


class Forecaster:
    """Nets with their calibration; holds no state of any link.

    Args:
        nets: members, whose distributions are averaged; without any, the simple methods speak together, and around them
            is what EWMA got wrong on the link so far.
        levels: the calibration learned on links that the nets never saw.
        version: its name in the registry.
    """

    def __init__(self, nets: Sequence[Net], levels: Levels, version: str = "unpublished") -> None:
        self.nets = [net.eval() for net in nets]
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
        points, bands, spoke = self._answer(batch([read[i] for i in known]), horizons)
        for row, i in enumerate(known):
            out[i] = Prediction(tuple(map(float, horizons)), points[row], bands[row], spoke[row])
        return out

    def _answer(self, b: Batch, horizons: Array) -> tuple[Array, Array, list[str]]:
        ago = _AGO[: _CHECKED // len(b.mbps)]
        at = np.maximum(b.last - np.concatenate(([0], ago))[None, :], 0) if len(ago) else b.last
        v = view(b, horizons, at)
        distributions, far = self.distributions(b, v, at)
        shape = v.simple.shape[:3]
        points = decide(distributions).reshape(shape)
        now = points[:, 0]
        expects = np.ones(shape)  # without earlier moments no record is to be compared with it
        if at.shape[1] > 1:
            levels = self.levels.at(_WIDE, distributions, np.tile(horizons, at.size))
            expects = (np.diff(quantiles(distributions, levels))[:, 0] / _WIDE_IN_ERRORS).reshape(shape)
        count, errors, expected = self._record(b, v, at, points, expects, horizons)
        heard = weights(count, errors, far.reshape(shape)[:, 0].mean(1), horizons)
        said = np.concatenate([now[..., None], v.simple[:, 0][..., list(HEARD)]], axis=2)
        point = (heard * said).sum(2)
        here = distributions.reshape(*shape, -1)[:, 0].reshape(-1, distributions.shape[1])
        wanted = self.levels.at(np.array(QUANTILES), here, np.tile(horizons, len(now)))
        off = quantiles(here, wanted).reshape(*now.shape, -1) - now[..., None]
        bands = point[..., None] + stretch(heard, errors, expected, expects[:, 0])[..., None] * off
        newest = View(v.steps, v.features, v.simple, v.level[:, :1], v.floor[:, :1], v.error[:, :1])
        mbps = newest.to_mbps(point[:, None])[:, 0], newest.to_mbps(bands[:, None])[:, 0]
        names = ["lstm" if self.nets else "blend", *(SIMPLE[place] for place in HEARD)]
        return mbps[0], mbps[1], [names[who] for who in loudest(heard)]

    def distributions(self, b: Batch, v: View, at: np.ndarray) -> tuple[Array, Array]:
        """The nets' mean distribution of every moment and horizon ``[B·P·H, G]``, and the share of features far off."""
        if not self.nets:
            return _blend(v), np.zeros(v.error.size)
        count = v.simple.shape[2]
        link = torch.arange(len(b.mbps)).repeat_interleave(at.shape[1] * count)
        cell = torch.from_numpy(np.repeat(at.ravel(), count))
        features = torch.from_numpy(v.features.reshape(-1, v.features.shape[3]).astype(np.float32))
        simple = torch.from_numpy(v.simple.reshape(-1, v.simple.shape[3]).astype(np.float32))
        steps = torch.from_numpy(v.steps.astype(np.float32))
        with torch.inference_mode():
            told = [net(steps, link, cell, features, simple) for net in self.nets]
            out = on_grid([(c.double().numpy(), cdf(s).double().numpy()) for c, s in told], _EDGES)
            off = (features - self.nets[0].mean).abs() > _FAR * self.nets[0].scale
            off[:, LEVEL] = False
        return out, off.to(torch.float64).mean(1).numpy()

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


def _blend(v: View) -> Array:
    """Logistic distributions ``[B·P·H, G]`` around the mean of the trusted simple methods."""
    centre = v.simple[..., list(_TRUSTED)].mean(-1).ravel()
    # A Laplace or normal error with this mean has about this spread.
    scale = np.maximum(0.75 * v.error.ravel(), 0.005)
    out: Array = 1 / (1 + np.exp(-np.clip((GRID[None, :] - centre[:, None]) / scale[:, None], -40, 40)))
    return out


def load_nets(tensors: Mapping[str, torch.Tensor]) -> tuple[list[Net], Levels]:
    """Nets and calibration of a version's tensors, as `as_tensors` wrote them."""
    steps, features, hidden, width, members = (int(n) for n in tensors["shape"])
    nets = []
    for i in range(members):
        net = Net(Shape(steps, features, hidden, width))
        net.load_state_dict({k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"net{i}/")})
        nets.append(net)
    return nets, Levels(tensors["levels"].numpy().astype(np.float64))


def as_tensors(forecaster: Forecaster) -> dict[str, torch.Tensor]:
    """Everything of a forecaster that is stored: nets and calibration."""
    shape = forecaster.nets[0].shape
    out = {f"net{i}/{k}": v for i, net in enumerate(forecaster.nets) for k, v in net.state_dict().items()}
    out["shape"] = torch.tensor([shape.steps, shape.features, shape.hidden, shape.width, len(forecaster.nets)])
    out["levels"] = torch.from_numpy(forecaster.levels.table)
    return out
