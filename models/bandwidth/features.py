"""What a forecaster sees at a moment: everything as a ratio to the link's recent level, nothing from after it.

Rows of a batch are links, columns cells (``models.bandwidth.data``), filled from the left. All is vectorised over
links, because a site asks for a hundred at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.bandwidth.data import COVARIATES, Array

LONGEST = 64  # cells looked back on
SIMPLE = ("last", "mean3", "ewma", "harmonic", "mean10", "ols", "mean30", "earlier")
SMOOTHING = 0.3
CLIP = 5.0
_FLOOR = 0.02  # of the mean over the whole window: what is less counts as this much in a logarithm
_FLOOR_MBPS = 0.01
_LAGS = (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 19)
_WINDOWS = (2, 3, 5, 10, 20, 40)
# The place of the one feature that is no ratio, the logarithm of the level.
LEVEL = len(_LAGS) + len(_WINDOWS) + 6


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
    for i, (step, times, values, extras) in enumerate(links):
        n = min(len(values), LONGEST)
        mbps[i, :n], t_s[i, :n] = values[-n:], times[-n:] - times[-n]
        t_s[i, n:] = t_s[i, n - 1] + step * np.arange(1, width - n + 1)
        length[i], steps[i] = n, step
        for k, name in enumerate(COVARIATES):
            if name in extras:
                known[i, :n, k] = extras[name][-n:]
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


def _take(values: Array, at: np.ndarray) -> Array:
    return np.take_along_axis(values, np.maximum(at, 0), axis=1)


class _Window:
    """Sums over the last cells of every moment, and where a run without a pause began."""

    def __init__(self, b: Batch) -> None:
        self.b = b
        rows, width = b.mbps.shape
        zero = np.zeros((rows, 1))
        self.total = np.concatenate([zero, np.cumsum(b.mbps, 1)], 1)
        self.floor_of_moment = _FLOOR * self.total[:, 1:] / np.arange(1, width + 1) + _FLOOR_MBPS
        self.log = np.log(b.mbps + self.floor_of_moment)
        self.ewma = np.empty_like(b.mbps)
        level = b.mbps[:, 0]
        # The first value weighs as if it had always been there, as opponents compute it too.
        for t in range(width):
            level = level + SMOOTHING * (b.mbps[:, t] - level)
            self.ewma[:, t] = level
        self.gap = np.diff(b.t_s, axis=1, prepend=b.t_s[:, :1] - b.step_s[:, None]) / b.step_s[:, None]
        index = np.broadcast_to(np.arange(width), b.mbps.shape)
        self.start = np.maximum.accumulate(np.where(self.gap > 2.5, index, 0), axis=1)

    def mean(self, at: np.ndarray, n: int | np.ndarray) -> Array:
        """Mean of the up to `n` newest cells at moments ``at [B, P]``."""
        first = np.maximum(at + 1 - n, 0)
        out: Array = (_take(self.total, at + 1) - _take(self.total, first)) / (at + 1 - first)
        return out


def _harmonic(b: Batch, at: np.ndarray, n: int = 5) -> Array:
    inverse = np.concatenate([np.zeros((len(at), 1)), np.cumsum(1 / np.maximum(b.mbps, _FLOOR_MBPS), 1)], 1)
    first = np.maximum(at + 1 - n, 0)
    out: Array = (at + 1 - first) / (_take(inverse, at + 1) - _take(inverse, first))
    return out


def _ols(b: Batch, at: np.ndarray, cells: np.ndarray, n: int = 10) -> Array:
    """A line through the last `n` cells, its mean over the horizon, between half their least and twice their most."""
    back = np.arange(n)[None, None, :]
    where = at[:, :, None] - back
    known = where >= 0
    values = (
        np.take_along_axis(b.mbps[:, None, :], np.maximum(where, 0), axis=2) if at.shape[1] == 1 else _lags(b, where)
    )
    weight = known * 1.0
    count = weight.sum(2)
    x = -back * weight
    mean_x, mean_y = x.sum(2) / count, (values * weight).sum(2) / count
    spread = ((-back - mean_x[:, :, None]) ** 2 * weight).sum(2)
    slope = ((-back - mean_x[:, :, None]) * (values - mean_y[:, :, None]) * weight).sum(2) / np.maximum(spread, 1e-9)
    ahead = (cells[:, None, :] + 1) / 2
    line = mean_y[:, :, None] + slope[:, :, None] * (ahead - mean_x[:, :, None])
    low, high = np.where(known, values, np.inf).min(2), np.where(known, values, 0).max(2)
    out: Array = np.clip(line, 0.5 * low[:, :, None], 2 * high[:, :, None])
    return out


def _lags(b: Batch, where: np.ndarray) -> Array:
    out: Array = b.mbps[np.arange(len(b.mbps))[:, None, None], np.maximum(where, 0)]
    return out


def _earlier(w: _Window, at: np.ndarray, cells: np.ndarray) -> tuple[Array, Array]:
    """How the run before the pause went on from the same age: (mean over the horizon, level then), NaN if unknown."""
    start = _take(w.start, at)
    before = _take(w.start, start - 1)
    first = before + (at - start)  # the same age in the run before
    last = np.minimum(first[:, :, None] + cells[:, None, :], start[:, :, None] - 1)
    known = (start > 0)[:, :, None] & (last - first[:, :, None] >= np.maximum(1, cells[:, None, :] // 2))
    rows = np.arange(len(at))[:, None, None]
    first3 = np.broadcast_to(first[:, :, None], last.shape)
    mean = (w.total[rows, last + 1] - w.total[rows, np.minimum(first3, last) + 1]) / np.maximum(last - first3, 1)
    level = _take(w.ewma, np.minimum(first, start - 1))[:, :, None]
    return np.where(known, mean, np.nan), np.where(known, level, np.nan)


def _past_errors(b: Batch, w: _Window, at: np.ndarray, cells: np.ndarray) -> tuple[Array, Array, Array]:
    """Of EWMA and last value at this horizon, over moments whose truth is known: mean |log error|, bias, count."""
    rows, width = b.mbps.shape
    errors = []
    memory = 16
    for h in range(cells.shape[1]):
        n = cells[:, h : h + 1]
        end = np.minimum(np.arange(width)[None, :] + n, width - 1)
        mean = (np.take_along_axis(w.total, end + 1, 1) - w.total[:, 1:]) / np.maximum(end - np.arange(width), 1)
        floor = w.floor_of_moment
        # A truth must not reach over a pause.
        whole = (np.arange(width)[None, :] + n < width) & (
            np.take_along_axis(w.start, end, 1) <= np.arange(width)[None, :]
        )
        for of in (w.ewma, b.mbps):
            error = np.where(whole, np.log((mean + floor) / (of + floor)), 0.0)
            sums = [
                np.concatenate([np.zeros((rows, 1)), np.cumsum(v, 1)], 1) for v in (np.abs(error), error, whole * 1.0)
            ]
            last = np.maximum(at - n + 1, 0)
            first = np.maximum(last - memory, 0)
            errors.append([_take(s, last) - _take(s, first) for s in sums])
    packed = np.stack([np.stack(e) for e in errors]).reshape(cells.shape[1], 2, 3, *at.shape)
    absolute, bias, count = np.moveaxis(packed, (0, 1), (-2, -1))  # [B, P, H, 2] each
    # With no error known, a link is taken to be off by a quarter; that fades as errors come.
    return (absolute + 0.25 * 2) / (count + 2), bias / (count + 2), count


def simple_forecasts(b: Batch, horizons_s: Array, at: np.ndarray | None = None) -> Array:
    """The simple methods' forecasts ``[B, P, H, K]`` in Mbit/s, in the order of `SIMPLE`."""
    at = b.last if at is None else at
    return _simple(b, _Window(b), at, horizon_cells(horizons_s, b.step_s))


def _simple(b: Batch, w: _Window, at: np.ndarray, cells: np.ndarray) -> Array:
    flat = [_take(b.mbps, at), w.mean(at, 3), _take(w.ewma, at), _harmonic(b, at), w.mean(at, 10)]
    shape = (*at.shape, cells.shape[1])
    wide = [np.broadcast_to(values[:, :, None], shape) for values in flat]
    mean, level = _earlier(w, at, cells)
    ewma = wide[2]
    ratio = np.clip(mean / np.maximum(level, _FLOOR_MBPS), 0.2, 5.0)
    earlier = np.where(np.isnan(mean), ewma, ewma * np.where(np.isnan(ratio), 1.0, ratio))
    long = np.broadcast_to(w.mean(at, 30)[:, :, None], shape)
    return np.stack([*wide, _ols(b, at, cells), long, earlier], axis=-1)


def view(b: Batch, horizons_s: Array, at: np.ndarray | None = None) -> View:
    """What is seen of each link at moments ``at [B, P]`` (the newest if None) for the horizons ``[H]``."""
    at = b.last if at is None else at
    w, cells = _Window(b), horizon_cells(horizons_s, b.step_s)
    level, floor = w.mean(at, 5), _take(w.floor_of_moment, at)
    frame = View(np.empty(0), np.empty(0), np.empty(0), level, floor, np.empty(0))
    simple = frame.to_log(_simple(b, w, at, cells))
    shape = (*at.shape, len(horizons_s))

    def ratio(values: Array) -> Array:
        return np.clip(np.log((values + floor) / (level + floor)), -CLIP, CLIP)

    flat = [np.where(at >= k, ratio(_take(b.mbps, at - k)), np.nan) for k in _LAGS]
    flat += [np.where(at + 1 >= k, ratio(w.mean(at, k)), np.nan) for k in _WINDOWS]
    moves = np.concatenate(
        [np.zeros((len(at), 1)), np.cumsum(np.abs(np.diff(w.log, axis=1, prepend=w.log[:, :1])), 1)], 1
    )
    zeros = np.concatenate([np.zeros((len(at), 1)), np.cumsum(b.mbps <= floor.min(1, keepdims=True), 1)], 1)
    for n in (3, 10, 30):
        first = np.maximum(at + 1 - n, 0)
        flat.append(np.log(1e-3 + (_take(moves, at + 1) - _take(moves, first)) / (at + 1 - first)))
    flat.append((_take(zeros, at + 1) - _take(zeros, np.maximum(at - 9, 0))) / 10)
    age = at - _take(w.start, at)
    flat += [
        np.log1p(at),
        np.log1p(age),
        np.log(level + _FLOOR_MBPS),
        np.broadcast_to(np.log(b.step_s)[:, None], at.shape),
    ]
    flat += _covariates(b, at, level)
    wide = [np.broadcast_to(values[:, :, None], shape) for values in flat]
    absolute, bias, count = _past_errors(b, w, at, cells)
    earlier, earlier_level = _earlier(w, at, cells)
    wide += [
        np.broadcast_to(np.log(horizons_s)[None, None, :], shape),
        np.broadcast_to(np.log(cells)[:, None, :], shape),
        *np.moveaxis(np.log(absolute + 1e-3), -1, 0),
        *np.moveaxis(bias, -1, 0),
        np.log1p(count[..., 0]),
        frame.to_log(earlier),
        np.clip(np.log((earlier + floor[..., None]) / (earlier_level + floor[..., None])), -CLIP, CLIP),
        *np.moveaxis(simple, -1, 0),
    ]
    return View(_steps(b, w), np.stack(wide, -1), simple, level, floor, absolute[..., 0])


def _covariates(b: Batch, at: np.ndarray, level: Array) -> list[Array]:
    column = {name: _take(b.covariates[:, :, k], at) for k, name in enumerate(COVARIATES)}
    rtts = b.covariates[:, :, COVARIATES.index("rtt_ms")]
    least = _take(np.fmin.accumulate(rtts, axis=1), at)
    rtt, cwnd = column["rtt_ms"], column["cwnd_kb"]
    with np.errstate(divide="ignore", invalid="ignore"):
        day = column["tod_s"] * (2 * np.pi / 86400)
        rows = [
            np.log(np.maximum(rtt, 0.05)),
            np.log(np.maximum(rtt, 0.05) / np.maximum(least, 0.05)),
            np.log((column["jitter_ms"] + 0.01) / np.maximum(rtt, 0.05)),
            np.sqrt(column["loss"]),
            np.log1p(column["retrans"]),
            np.log((cwnd * 8 + 0.1) / np.maximum(rtt, 0.05) / (level + _FLOOR_MBPS)),
            np.sin(day),
            np.cos(day),
            np.log(np.maximum(column["distance_miles"], 1.0)),
            column["links"] / 8,
            np.log((column["received_mbps"] + _FLOOR_MBPS) / (level + _FLOOR_MBPS)),
            column["cpu"] / 100,
            column["cpu_remote"] / 100,
            column["memory"],
        ]
    retrans = b.covariates[:, :, COVARIATES.index("retrans")]
    sums = np.concatenate([np.zeros((len(at), 1)), np.cumsum(np.nan_to_num(np.log1p(np.maximum(retrans, 0))), 1)], 1)
    recent = (_take(sums, at + 1) - _take(sums, np.maximum(at - 4, 0))) / 5
    rows.append(np.where(np.isnan(column["retrans"]), np.nan, recent))
    return [np.clip(row, -12, 12) for row in rows]


def _steps(b: Batch, w: _Window) -> Array:
    """Cell by cell ``[B, T, C]`` what a recurrent net reads; unknown is 0 beside a flag."""
    before = np.concatenate([w.ewma[:, :1], w.ewma[:, :-1]], 1)
    floor = w.floor_of_moment
    columns = [
        np.log((b.mbps + floor) / (before + floor)),
        np.log((b.mbps + floor) / (w.ewma + floor)),
        np.concatenate([np.zeros((len(floor), 1)), np.diff(w.log, axis=1)], 1),
        np.log(np.maximum(w.gap, 0.1)) / 2,
        (b.mbps <= floor) * 1.0,
    ]
    for name, scale in (("rtt_ms", 1.0), ("jitter_ms", 0.5), ("retrans", 1.0), ("cwnd_kb", 1.0)):
        values = np.log1p(np.maximum(b.covariates[:, :, COVARIATES.index(name)], 0) * scale)
        change = np.diff(values, axis=1, prepend=values[:, :1])
        columns += [np.nan_to_num(change if name != "retrans" else values / 5), np.isfinite(values) * 1.0]
    out: Array = np.clip(np.stack(columns, -1), -CLIP, CLIP)
    return out
