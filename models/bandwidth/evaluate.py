"""The evaluation: every data set of a directory, cross-validated over groups, beside every opponent, for several seeds.

Two kinds of rows come out, both of forecasters as they are served: guard, calibration and all, asked as a caller would.
``crossval``: trained on the other groups, as an operator's own training would be, beside gradient-boosted trees trained
on the same. ``shipped``: one that is there already (tier C: links never seen, unless the row says ``trained_on``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bandwidth import data, metrics
from models.bandwidth.data import Array, Trace
from models.bandwidth.features import SIMPLE, batch, simple_forecasts, view
from models.bandwidth.fit import fit
from models.bandwidth.folds import folds_of, of
from models.bandwidth.moments import Moments, draw
from models.bandwidth.opponents import OPPONENTS, Trees
from models.bandwidth.predict import Forecaster
from models.bandwidth.train import Args, examples

Row = dict[str, str | int | float | bool | None]
Progress = Callable[[str], None]
PERMISSIVE = ("fcc_wired", "norway_hsdpa", "wanify_snapshots")
_MOBILE = ("access", "cellular", "starlink", "5G")
_FEWEST = 20  # answers of a row
_FEWEST_OF_TREES = 30  # questions to train trees on
_PARTS_OF_TREES = 5  # one of so many parts of the groups calibrates them


@dataclass(frozen=True)
class Plan:
    """How much is done. The default ends within an hour on two slow cores, `quick` in a few minutes."""

    seeds: int = 3
    folds: int = 3
    members: int = 3
    pieces_per_set: int = 250
    updates: int = 400
    questions: int = 1000
    moments: int = 360
    trees: int = 100

    @staticmethod
    def quick() -> "Plan":
        """Less of everything."""
        return Plan(folds=2, pieces_per_set=80, updates=120, questions=600, moments=120, trees=50)

    def args(self, seed: int) -> Args:
        """The training's settings."""
        return Args(seed=seed, updates=self.updates, questions=self.questions, pieces_per_set=self.pieces_per_set)


@dataclass(frozen=True)
class Answers:
    """Of one data set and horizon ``[N]``: truths and every method's points in Mbit/s, bands ``[N, Q]``, who spoke."""

    truth: Array
    group: np.ndarray
    points: Mapping[str, Array]
    bands: Mapping[str, Array]
    method: np.ndarray


Asked = dict[tuple[str, float], Answers]


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
    for seed in range(plan.seeds):
        rows += [{**row, "seed": seed} for row in _crossval(traces, links, plan, seed, progress)]
    if shipped is not None:
        progress("the shipped forecaster on links that it never saw")
        rows += list(served(shipped, traces, links, plan))
    return {"bench": "bandwidth", "settings": vars(plan), "rows": rows + worst(rows)}


def _crossval(
    traces: Sequence[Trace], links: Mapping[str, str], plan: Plan, seed: int, progress: Progress
) -> Iterator[Row]:
    dataset, group = (np.array([getattr(trace, name) for trace in traces]) for name in ("dataset", "group"))
    fold = folds_of(dataset, group, plan.folds, seed)
    found: list[Asked] = []
    for k in range(plan.folds):
        progress(f"seed {seed}, fold {k + 1} of {plan.folds}")
        learn, test = ([traces[int(i)] for i in np.flatnonzero(part)] for part in (fold != k, fold == k))
        forecaster = fit(learn, plan.args(seed), plan.members)
        trees = _trees(learn, plan, seed)
        found.append(answers(forecaster, draw(test, plan.moments, np.random.default_rng(seed)), trees))
    for (name, horizon), said in sorted(_joined(found).items()):
        label: Row = {"protocol": "crossval", "dataset": name, "tier": tier(links[name]), "horizon_s": horizon}
        yield from _rows(label, said)


def _trees(traces: Sequence[Trace], plan: Plan, seed: int) -> dict[str, Trees]:
    """Trees of each data set that has enough for them, calibrated on groups they never saw."""
    asked = examples(traces, plan.args(seed))
    held = folds_of(asked.dataset, asked.group, _PARTS_OF_TREES, seed) == 0
    out = {}
    for name in np.unique(asked.dataset):
        learn, rest = (of(asked, (asked.dataset == name) & part) for part in (~held, held))
        if min(len(learn.truth), len(rest.truth)) >= _FEWEST_OF_TREES:
            out[str(name)] = Trees(seed, plan.trees).fit(learn.features, learn.truth)
            out[str(name)].calibrate(rest.features, rest.truth)
    return out


def served(forecaster: Forecaster, traces: Sequence[Trace], links: Mapping[str, str], plan: Plan) -> Iterator[Row]:
    """Of a forecaster that is there already, on any links."""
    asked = answers(forecaster, draw(traces, plan.moments, np.random.default_rng(0)))
    for (name, horizon), said in sorted(asked.items()):
        label: Row = {"protocol": "shipped", "dataset": name, "tier": "C", "link": links[name], "horizon_s": horizon}
        yield from _rows({**label, "trained_on": name in PERMISSIVE}, said)


def answers(forecaster: Forecaster, some: Iterator[Moments], trees: Mapping[str, Trees] | None = None) -> Asked:
    """What the forecaster, the simple methods and the trees (by data set) say of moments, beside the truth."""
    parts: dict[tuple[str, float], list[Answers]] = {}
    for each in some:
        said = forecaster.predict_batch(each.links, each.horizons_s)
        b = batch(
            [
                (
                    each.trace.step_s,
                    np.asarray(t_s),
                    np.asarray(mbps),
                    {n: np.asarray(c) for n, c in (more or {}).items()},
                )
                for mbps, t_s, more in each.links
            ]
        )
        simple_mbps = simple_forecasts(b, each.horizons_s)[:, 0]
        seen = view(b, each.horizons_s)
        grown = (trees or {}).get(each.trace.dataset)
        for j, horizon in enumerate(each.horizons_s):
            known = np.isfinite(each.truth[:, j])
            points = {"served": np.array([one.mean[j] for one in said])}
            points |= {o: simple_mbps[:, j, SIMPLE.index(o)] for o in OPPONENTS}
            bands = {"served": np.stack([one.quantiles[j] for one in said])}
            if grown is not None:
                logs = grown.predict(seen.features[:, 0, j])
                points["hgb"], bands["hgb"] = (seen.to_mbps(each_log[:, None])[:, 0] for each_log in logs)
            part = Answers(
                each.truth[known, j],
                np.full(known.sum(), each.trace.group),
                {name: point[known] for name, point in points.items()},
                {name: band[known] for name, band in bands.items()},
                np.array([one.method for one in said])[known],
            )
            parts.setdefault((each.trace.dataset, float(horizon)), []).append(part)
    return {key: _put_together(found) for key, found in parts.items()}


def _joined(found: Sequence[Asked]) -> Asked:
    keys = {key for one in found for key in one}
    return {key: _put_together([one[key] for one in found if key in one]) for key in keys}


def _put_together(parts: Sequence[Answers]) -> Answers:
    """One after the other; of methods, those that answered everything."""
    methods = set.intersection(*(set(part.points) for part in parts))
    banded = set.intersection(*(set(part.bands) for part in parts))
    return Answers(
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.group for part in parts]),
        {name: np.concatenate([part.points[name] for part in parts]) for name in sorted(methods)},
        {name: np.concatenate([part.bands[name] for part in parts]) for name in sorted(banded)},
        np.concatenate([part.method for part in parts]),
    )


def _rows(label: Row, said: Answers) -> Iterator[Row]:
    if len(said.truth) < _FEWEST:
        return
    label = {**label, "questions": len(said.truth), "groups": len(np.unique(said.group))}
    scores = {}
    for method, mbps in said.points.items():
        scores[method] = {
            **metrics.point_scores(mbps, said.truth),
            **metrics.interval(mbps, said.truth, said.group),
        }
        if method in said.bands:
            scores[method] |= metrics.band_scores(said.bands[method], said.truth)
            scores[method] |= metrics.coverage_interval(said.bands[method], said.truth, said.group)
    skill = {f"skill_{o}": 1 - scores["served"]["wape"] / max(scores[o]["wape"], 1e-9) for o in scores if o != "served"}
    guarded = float(np.mean(said.method != "lstm"))
    for method, found in scores.items():
        yield {**label, "method": method, **found, **({**skill, "guarded": guarded} if method == "served" else {})}


def worst(rows: Sequence[Row]) -> list[Row]:
    """Per data set, horizon and method the seed with the lowest acc15, marked ``worst``."""
    by: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row["protocol"], row["dataset"], row["horizon_s"], row["method"])
        if row["protocol"] == "crossval" and (key not in by or float(row["acc15"] or 0) < float(by[key]["acc15"] or 0)):
            by[key] = row
    return [{**row, "worst": True} for row in by.values()]
