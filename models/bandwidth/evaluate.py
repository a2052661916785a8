"""The evaluation: every data set of a directory, cross-validated over groups, beside every opponent, for several seeds.

Two kinds of rows come out. ``crossval``: nets trained on the other groups, as an operator's own training would be.
``shipped``: the forecaster as it is served, asked through its own interface (tier C: links never seen, unless the
row says ``trained_on``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.bandwidth import data, metrics
from models.bandwidth.calibration import Levels
from models.bandwidth.data import Array, Trace
from models.bandwidth.distribution import GRID, decide, on_grid, quantiles
from models.bandwidth.features import LONGEST, SIMPLE, batch, simple_forecasts
from models.bandwidth.module import Net, cdf, edges
from models.bandwidth.opponents import OPPONENTS, Trees, simple
from models.bandwidth.predict import Forecaster
from models.bandwidth.train import Args, Examples, examples, trace_truths, train

Row = dict[str, str | int | float | bool | None]
Progress = Callable[[str], None]
PERMISSIVE = ("fcc_wired", "norway_hsdpa", "wanify_snapshots")
_MOBILE = ("access", "cellular", "starlink", "5G")
_BLOCK = 4000
_AT_ONCE = 6  # moments of one trace asked about in one call, so that the guard has its whole record
SHIPPED_HORIZONS_S: Array = np.array([1.0, 5.0, 15.0, 20.0, 30.0, 60.0])


@dataclass(frozen=True)
class Plan:
    """How much is done. The default ends in about 20 minutes on two slow cores, `quick` in a few."""

    seeds: int = 3
    folds: int = 3
    pieces_per_set: int = 250
    updates: int = 400
    questions: int = 1000
    shipped_moments: int = 360
    trees: int = 100

    @staticmethod
    def quick() -> "Plan":
        """Less of everything."""
        return Plan(folds=2, pieces_per_set=80, updates=120, questions=600, shipped_moments=120, trees=50)

    def args(self, seed: int) -> Args:
        """The training's settings."""
        return Args(seed=seed, updates=self.updates, questions=self.questions, pieces_per_set=self.pieces_per_set)


def tier(link: str) -> str:
    """A: between clouds and wired; B: access and mobile; C: nothing is known of the links."""
    if link == "unknown":
        return "C"
    return "B" if any(word in link for word in _MOBILE) and "wired" not in link else "A"


def evaluate(
    data_dir: Path,
    index: Path | None = None,
    *,
    quick: bool = False,
    plan: Plan | None = None,
    shipped: Forecaster | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, object]:
    """Every row of the report, flat; ``{"bench": "bandwidth", "settings": …, "rows": […]}``.

    Args:
        data_dir: CSVs as `models.bandwidth.data` reads them.
        index: trace_id, group and kind of link; without it ``data_dir/index.csv`` if there is one, else every trace is
            its own group.
        shipped: also evaluate this forecaster, as it is served.

    Raises:
        ValueError: the directory holds no recorded links, or none long enough.
    """
    plan = plan or (Plan.quick() if quick else Plan())
    known = data.read_index(index or data_dir / "index.csv")
    traces = [trace for path in data.files(data_dir) for trace in data.read_traces(path, known)]
    links = {trace.dataset: trace.link for trace in traces}
    rows: list[Row] = []
    asked = examples(traces, plan.args(0))
    for seed in range(plan.seeds):
        rows += [{**row, "seed": seed} for row in _crossval(asked, links, plan, seed, progress)]
    if shipped is not None:
        progress("the shipped forecaster on links that it never saw")
        rows += list(served(shipped, traces, links, plan))
    return {"bench": "bandwidth", "settings": vars(plan), "rows": rows + worst(rows)}


def folds_of(asked: Examples, folds: int, seed: int) -> np.ndarray:
    """The fold of every question ``[N]``: all of a group's are in one, each data set is spread over all."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(asked.truth), np.int64)
    for name in np.unique(asked.dataset):
        groups = rng.permutation(np.unique(asked.group[asked.dataset == name]))
        place = {group: i % folds for i, group in enumerate(groups)}
        here = np.flatnonzero(asked.dataset == name)
        out[here] = [place[group] for group in asked.group[here]]
    return out


def of(asked: Examples, mask: np.ndarray) -> Examples:
    """The questions where `mask` is true; pieces stay as they are."""
    return replace(asked, **{n: getattr(asked, n)[mask] for n in Examples.__dataclass_fields__ if n != "steps"})


def distributions(nets: list[Net], asked: Examples) -> Array:
    """The nets' mean distribution for every question ``[N, G]``."""
    out = np.zeros((len(asked.truth), len(GRID)))
    places = edges().numpy().astype(np.float64)
    with torch.inference_mode():
        for first in range(0, len(out), _BLOCK):
            rows = np.arange(first, min(len(out), first + _BLOCK))
            used, link = np.unique(asked.piece[rows], return_inverse=True)
            parts = (asked.steps[used], link, asked.at[rows], asked.features[rows], asked.simple[rows])
            told = [net(*(torch.from_numpy(part) for part in parts)) for net in nets]
            out[rows] = on_grid([(c.double().numpy(), cdf(s).double().numpy()) for c, s in told], places)
    return out


def to_mbps(asked: Examples, logs: Array) -> Array:
    """Logarithms ``[N]`` or ``[N, Q]`` as Mbit/s."""
    shape = (-1,) + (1,) * (logs.ndim - 1)
    floor, level = asked.floor.reshape(shape), asked.level.reshape(shape)
    out: Array = np.maximum(np.exp(logs) * (level + floor) - floor, 0.0)
    return out


def balance(asked: Examples) -> Array:
    """Weights ``[N]`` with which every data set counts alike."""
    _, inverse, counts = np.unique(asked.dataset, return_inverse=True, return_counts=True)
    weights: Array = 1.0 / counts[inverse]
    return weights


def _crossval(asked: Examples, links: dict[str, str], plan: Plan, seed: int, progress: Progress) -> Iterator[Row]:
    count = len(asked.truth)
    fold = folds_of(asked, plan.folds + 1, seed)
    points = {name: simple(name, asked.simple) for name in OPPONENTS}
    points |= {"lstm": np.zeros(count), "hgb": np.zeros(count)}
    bands = {name: np.zeros((count, len(metrics.LEVELS))) for name in ("lstm", "hgb")}
    tested = np.zeros(count, bool)
    for k in range(plan.folds):
        progress(f"seed {seed}, fold {k + 1} of {plan.folds}")
        held, test = fold == (k + 1) % (plan.folds + 1), fold == k
        learn = ~held & ~test
        net = train(of(asked, learn), plan.args(seed))
        calibration = of(asked, held)
        levels = Levels.learn(
            distributions([net], calibration), calibration.truth, calibration.horizon, balance(calibration)
        )
        now = of(asked, test)
        found = distributions([net], now)
        points["lstm"][test] = decide(found)
        bands["lstm"][test] = quantiles(found, levels.at(metrics.LEVELS, found, now.horizon))
        for name in np.unique(now.dataset):
            here = asked.dataset == name
            masks = [here & part for part in (learn, held, test)]
            if min(mask.sum() for mask in masks) < 30:
                continue
            trees = Trees(seed, plan.trees).fit(asked.features[masks[0]], asked.truth[masks[0]])
            trees.calibrate(asked.features[masks[1]], asked.truth[masks[1]])
            points["hgb"][masks[2]], bands["hgb"][masks[2]] = trees.predict(asked.features[masks[2]])
            tested |= masks[2]
    yield from _rows(asked, tested, points, bands, links, "crossval")


def _rows(
    asked: Examples,
    tested: np.ndarray,
    points: dict[str, Array],
    bands: dict[str, Array],
    links: dict[str, str],
    protocol: str,
) -> Iterator[Row]:
    truth = to_mbps(asked, asked.truth.astype(np.float64))
    for name in np.unique(asked.dataset):
        for horizon in np.unique(asked.horizon):
            here = tested & (asked.dataset == name) & (asked.horizon == horizon)
            if here.sum() < 20:
                continue
            part = of(asked, here)
            label: Row = {
                "protocol": protocol,
                "dataset": str(name),
                "tier": tier(links[str(name)]) if protocol == "crossval" else "C",
                "horizon_s": float(horizon),
                "questions": int(here.sum()),
                "groups": len(np.unique(part.group)),
            }
            yield from _scored(label, part, truth[here], {m: p[here] for m, p in points.items()}, bands, here)


def _scored(
    label: Row, part: Examples, truth: Array, points: dict[str, Array], bands: dict[str, Array], here: np.ndarray
) -> Iterator[Row]:
    scores = {}
    for method, logs in points.items():
        mbps = to_mbps(part, logs)
        scores[method] = {**metrics.point_scores(mbps, truth), **metrics.interval(mbps, truth, part.group)}
        if method in bands:
            scores[method] |= metrics.band_scores(to_mbps(part, bands[method][here]), truth)
    for method, found in scores.items():
        skill = {f"skill_{o}": 1 - found["wape"] / max(scores[o]["wape"], 1e-9) for o in scores if o != method}
        yield {**label, "method": method, **found, **(skill if method in {"lstm", "served"} else {})}


def served(forecaster: Forecaster, traces: list[Trace], links: dict[str, str], plan: Plan) -> Iterator[Row]:
    """Asks the forecaster as a caller would, with everything up to a moment, and takes only what it answers."""
    rng = np.random.default_rng(0)
    for (name, horizon), answers in sorted(_answers(forecaster, _moments(traces, plan.shipped_moments, rng)).items()):
        truth, group = np.array([a.truth for a in answers]), np.array([a.group for a in answers])
        if len(truth) < 20:
            continue
        label: Row = {"protocol": "shipped", "dataset": name, "tier": "C", "link": links[name], "horizon_s": horizon}
        label |= {"questions": len(truth), "groups": len(np.unique(group)), "trained_on": name in PERMISSIVE}
        points = {"served": np.array([a.mean for a in answers])}
        points |= {o: np.array([a.simple[SIMPLE.index(o)] for a in answers]) for o in OPPONENTS}
        scores = {m: {**metrics.point_scores(p, truth), **metrics.interval(p, truth, group)} for m, p in points.items()}
        scores["served"] |= metrics.band_scores(np.stack([a.bands for a in answers]), truth)
        skill = {f"skill_{o}": 1 - scores["served"]["wape"] / max(scores[o]["wape"], 1e-9) for o in OPPONENTS}
        guarded = float(np.mean([a.method != "lstm" for a in answers]))
        yield {**label, "method": "served", **scores["served"], **skill, "guarded": guarded}
        yield from ({**label, "method": o, **scores[o]} for o in OPPONENTS)


class _Answer(NamedTuple):
    truth: float
    group: str
    mean: float
    bands: Array
    simple: Array
    method: str


def _moments(traces: list[Trace], wanted: int, rng: np.random.Generator) -> Iterator[tuple[Trace, np.ndarray]]:
    """About `wanted` moments of each data set, few of each trace where it has many: those of one call together."""
    for name in sorted({trace.dataset for trace in traces}):
        found = [trace for trace in traces if trace.dataset == name]
        each, left = max(_AT_ONCE, -(-wanted // len(found))), wanted
        for i in rng.permutation(len(found)):
            moments = np.flatnonzero(np.isfinite(trace_truths(found[i], SHIPPED_HORIZONS_S)).any(1))
            moments = rng.choice(moments, min(each, len(moments)), replace=False)
            for first in range(0, len(moments), _AT_ONCE):
                yield found[i], moments[first : first + _AT_ONCE]
            left -= len(moments)
            if left <= 0:
                break


def _answers(
    forecaster: Forecaster, some: Iterator[tuple[Trace, np.ndarray]]
) -> dict[tuple[str, float], list[_Answer]]:
    out: dict[tuple[str, float], list[_Answer]] = {}
    for trace, moments in some:
        truth = trace_truths(trace, SHIPPED_HORIZONS_S)
        asked = SHIPPED_HORIZONS_S[np.isfinite(truth[moments]).any(0)]
        past = [(max(0, m + 1 - 4 * LONGEST), m + 1) for m in moments]
        columns = [{n: c[s:e] for n, c in trace.covariates.items()} for s, e in past]
        links = [(trace.mbps[s:e], trace.t_s[s:e], c) for (s, e), c in zip(past, columns, strict=True)]
        answers = forecaster.predict_batch(links, asked)
        simple_mbps = simple_forecasts(batch([(trace.step_s, t, v, c) for v, t, c in links]), asked)[:, 0]
        for i, m in enumerate(moments):
            for j, horizon in enumerate(asked):
                value = float(truth[m, horizon == SHIPPED_HORIZONS_S][0])
                if np.isfinite(value):
                    said = answers[i]
                    answer = _Answer(
                        value, trace.group, float(said.mean[j]), said.quantiles[j], simple_mbps[i, j], said.method
                    )
                    out.setdefault((trace.dataset, float(horizon)), []).append(answer)
    return out


def worst(rows: list[Row]) -> list[Row]:
    """Per data set, horizon and method the seed with the lowest acc15, marked ``worst``."""
    by: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row["protocol"], row["dataset"], row["horizon_s"], row["method"])
        if row["protocol"] == "crossval" and (key not in by or float(row["acc15"] or 0) < float(by[key]["acc15"] or 0)):
            by[key] = row
    return [{**row, "worst": True} for row in by.values()]
