"""Training of the net: pieces of traces, balanced over data sets; the same seed gives the same weights on a CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.bandwidth.data import Array, Trace
from models.bandwidth.features import LEVEL, LONGEST, batch, truths, view
from models.bandwidth.module import Net, Shape, loss

HORIZONS_S: Array = np.array([1.0, 5.0, 15.0, 20.0, 30.0, 60.0])

MEMBERS = 3
"""Nets of a forecaster, if nothing else is said."""


@dataclass(frozen=True)
class Args:
    """What a training can be told.

    `pieces_per_set` bounds what is taken of one data set, `moments` how many moments of each piece are asked about;
    `trees` is how many are grown beside the net.
    """

    seed: int = 0
    updates: int = 700
    questions: int = 1500
    rate: float = 4e-3
    decay: float = 1e-2
    pieces_per_set: int = 700
    moments: int = 8
    hidden: int = 16
    width: int = 96
    recurrent: str = "lstm"
    trees: int = 100


@dataclass(frozen=True)
class Examples:
    """Questions with their truths: `steps [L, T, C]` of L pieces, and per question its piece, cell and data set."""

    steps: Array
    piece: np.ndarray
    at: np.ndarray
    features: Array
    simple: Array
    truth: Array
    dataset: np.ndarray
    horizon: Array
    level: Array
    floor: Array
    group: np.ndarray


def pieces(trace: Trace, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A trace in pieces of random length, so that short histories are met in training as often as long ones."""
    out, start = [], 0
    while start < len(trace):
        end = min(len(trace), start + int(rng.integers(24, LONGEST + 1)))
        out.append((start, end))
        start = end
    return out


def trace_truths(trace: Trace, horizons_s: Array) -> Array:
    """The truths after every cell ``[T, H]``, or only those that the trace is asked for."""
    if trace.asked is None:
        return truths(trace.t_s, trace.mbps, trace.step_s, horizons_s)
    out = np.full((len(trace), len(horizons_s)), np.nan)
    for cell, horizon, truth in trace.asked:
        out[cell, horizons_s == horizon] = truth
    return out


def examples(traces: Sequence[Trace], args: Args, horizons_s: Array = HORIZONS_S) -> Examples:
    """What to train on.

    Raises:
        ValueError: no trace goes on long enough for any horizon.
    """
    rng = np.random.default_rng(args.seed)
    kept: list[tuple[Trace, int, int, Array, np.ndarray]] = []
    for name in sorted({trace.dataset for trace in traces}):
        found = []
        for trace in (t for t in traces if t.dataset == name):
            truth = trace_truths(trace, horizons_s)
            if trace.asked is None or len(trace) < 4:
                extra = truth
            else:  # beside what is asked, everything that happened teaches
                extra = np.where(np.isnan(truth), truths(trace.t_s, trace.mbps, trace.step_s, horizons_s), truth)
            for start, end in pieces(trace, rng):
                moments = np.flatnonzero(np.isfinite(extra[start:end]).any(1))
                if len(moments):
                    asked = np.flatnonzero(np.isfinite(truth[start:end]).any(1))
                    some = rng.choice(moments, min(args.moments, len(moments)), replace=False)
                    if trace.asked is not None:
                        some = np.union1d(asked, some[: args.moments // 2])
                    found.append((trace, start, end, extra[start:end], some))
        limit = args.pieces_per_set * (6 if name.startswith("wanify") else 1)
        order = rng.permutation(len(found))[:limit]
        kept += [found[i] for i in order]
    if not kept:
        raise ValueError("no trace goes on long enough for any horizon")
    return _look(kept, horizons_s)


def _look(kept: list[tuple[Trace, int, int, Array, np.ndarray]], horizons_s: Array) -> Examples:
    kept.sort(key=lambda each: each[2] - each[1])
    columns: dict[str, list[NDArray[Any]]] = {f: [] for f in Examples.__dataclass_fields__}
    for first in range(0, len(kept), 256):
        block = kept[first : first + 256]
        b = batch(
            [
                (t.step_s, t.t_s[s:e], t.mbps[s:e], {n: c[s:e] for n, c in t.covariates.items()})
                for t, s, e, _, _ in block
            ]
        )
        most = max(len(some) for *_, some in block)
        at = np.stack([np.resize(some, most) for *_, some in block])
        v = view(b, horizons_s, at)
        truth = np.stack([extra[at[i]] for i, (_, _, _, extra, _) in enumerate(block)])
        fresh = np.arange(most)[None, :] < np.array([[len(some)] for *_, some in block])
        ask = np.isfinite(truth) & fresh[:, :, None]
        row, moment, horizon = np.nonzero(ask)
        padded = np.zeros((len(b.mbps), LONGEST, v.steps.shape[2]), np.float32)
        padded[:, : v.steps.shape[1]] = v.steps
        columns["steps"].append(padded)
        columns["piece"].append(row + first)
        columns["at"].append(at[row, moment])
        columns["features"].append(v.features[row, moment, horizon].astype(np.float32))
        columns["simple"].append(v.simple[row, moment, horizon].astype(np.float32))
        columns["truth"].append(v.to_log(truth)[row, moment, horizon].astype(np.float32))
        columns["dataset"].append(np.array([t.dataset for t, *_ in block])[row])
        columns["group"].append(np.array([f"{t.dataset}/{t.group}" for t, *_ in block])[row])
        columns["horizon"].append(horizons_s[horizon])
        columns["level"].append(v.level[row, moment])
        columns["floor"].append(v.floor[row, moment])
    return Examples(**{name: np.concatenate(parts) for name, parts in columns.items()})


def train(data: Examples, args: Args, progress: Callable[[int, float], None] | None = None) -> Net:
    """A net trained on all of `data`; its scalers are of nothing else. The same seed gives the same net."""
    before = torch.are_deterministic_algorithms_enabled()
    # Gradients of rows that are gathered twice are else added up in whatever order the threads come to them.
    torch.use_deterministic_algorithms(True)
    try:
        return _train(data, args, progress)
    finally:
        torch.use_deterministic_algorithms(before)


def _train(data: Examples, args: Args, progress: Callable[[int, float], None] | None) -> Net:
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    net = Net(Shape(data.steps.shape[2], data.features.shape[1], args.hidden, args.width, args.recurrent))
    _scale(net, data)
    tensors = {n: torch.from_numpy(getattr(data, n)) for n in ("steps", "piece", "at", "features", "simple", "truth")}
    names, counts = np.unique(data.dataset, return_counts=True)
    share = dict(zip(names, np.sqrt(counts) / np.sqrt(counts).sum(), strict=True))
    by_set = {name: _by_piece(data.piece, np.flatnonzero(data.dataset == name)) for name in names}
    optimiser = torch.optim.AdamW(net.parameters(), args.rate, weight_decay=args.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, total_steps=args.updates)
    net.train()
    for update in range(args.updates):
        rows = np.concatenate([_draw(by_set[name], int(args.questions * share[name]) + 8, rng) for name in names])
        value = _step(net, tensors, torch.from_numpy(rows))
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(update + 1, float(value.detach()))
    return net.eval()


def _scale(net: Net, data: Examples) -> None:
    """Mean and spread of every feature over the training's own questions; NaN for one that never varies."""
    known = np.isfinite(data.features)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, data.features, 0).sum(0, dtype=np.float64) / count
    spread = np.sqrt(np.where(known, (data.features - mean) ** 2, 0).sum(0, dtype=np.float64) / count)
    net.mean.copy_(torch.from_numpy(np.where(spread > 1e-6, mean, np.nan)))
    net.scale.copy_(torch.from_numpy(np.maximum(spread, 1e-2)))
    used = data.steps.reshape(-1, data.steps.shape[2]).std(0) > 1e-6
    net.used.copy_(torch.from_numpy(used * 1.0))


def _by_piece(piece: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    order = rows[np.argsort(piece[rows], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(piece[order])) + 1)


def _draw(by_piece: list[np.ndarray], wanted: int, rng: np.random.Generator) -> np.ndarray:
    """Questions of whole pieces: the recurrent part runs once for all of a piece's."""
    out, have = [], 0
    while have < wanted:
        rows = by_piece[int(rng.integers(len(by_piece)))]
        out.append(rows)
        have += len(rows)
    return np.concatenate(out)


def _step(net: Net, tensors: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    used, link = torch.unique(tensors["piece"][rows], return_inverse=True)
    at = tensors["at"][rows]
    steps = tensors["steps"][used][:, : int(at.max()) + 1]
    features = tensors["features"][rows].clone()
    # Half the time the level is hidden: what is learned must hold for links of any rate.
    features[torch.rand(len(rows)) < 0.5, LEVEL] = torch.nan
    centre, shares = net(steps, link, at, features, tensors["simple"][rows])
    return loss(centre, shares, tensors["truth"][rows]).mean()
