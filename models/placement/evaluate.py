"""Compares ways of choosing a node on a trace: the same windows for each, and intervals over the windows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from models.placement.cluster import Floats
from models.placement.fragments import request_mix
from models.placement.learned.lifetimes import Lifetimes
from models.placement.learned.replay import known_before, simulate_blind, simulate_predicted, without_the_past
from models.placement.learned.scorer import Scorer
from models.placement.rules import PLAIN, Knobs, Rule, pick
from models.placement.simulator import DENIED, UNSEEN, Outcome, Run, outcome, simulate
from models.placement.sites import USD_PER_GB
from models.placement.tables import Nodes
from models.placement.traces import read_guests, read_nodes
from models.placement.windows import Shape, Window, cut

Row = dict[str, str | int | float | None]

Figures = dict[str, Floats]
"""Of each window, (windows,), by name."""
Sees = Literal["nothing", "predicted", "true"]


class Way(NamedTuple):
    """A way of choosing: the rule, what it is told of lifetimes, and the version that scores, if one does."""

    rule: Rule
    sees: Sees = "nothing"
    scorer: Scorer | None = None


POLICIES: dict[str, Way] = {
    "first-fit": Way(Rule.FIRST_FIT),
    "best-fit": Way(Rule.BEST_FIT),
    "worst-fit": Way(Rule.WORST_FIT),
    "random": Way(Rule.RANDOM),
    "alignment": Way(Rule.ALIGNMENT),
    "site-sticky": Way(Rule.SITE_STICKY),
    "predicted-lifetimes": Way(Rule.NILAS, "predicted"),
    "true-lifetimes": Way(Rule.NILAS, "true"),
}
"""What is compared. The lifetime rows are NILAS: with lifetimes learned from what left before the window's span, and,
as a reference and no rival, told when each guest really leaves."""


def learned(scorer: Scorer) -> dict[str, Way]:
    """A version's rows: with lifetimes as it would know them, and with none."""
    return {"learned": Way(Rule.SCORED, "predicted", scorer), "learned-blind": Way(Rule.SCORED, "nothing", scorer)}


SIZES: tuple[tuple[str, float, float], ...] = (("small", 0, 4), ("medium", 4, 16), ("large", 16, np.inf))
"""Size classes: name, more than, up to (vCPUs)."""
_BOOTSTRAPS = 1000
_TIMED = 200
_WARM_H = 24.0
"""Guests that had left so long before a window's span are not played; what they tell of lifetimes counts."""


def evaluate(
    trace: Path,
    nodes: Path | None = None,
    loads: tuple[float, ...] = (0.7, 0.9, 1.1),
    *,
    windows: int = 20,
    seeds: int = 5,
    hosts: int = 60,
    shape: Shape | None = None,
    scorer: Scorer | None = None,
    ways: dict[str, Way] | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> list[Row]:
    """One flat row for each load and policy of `ways` (`POLICIES`), and for `scorer`.

    Shares are 0..1, decisions in microseconds. Each figure is the mean over ``windows * seeds`` windows;
    ``…_low``, ``…_high`` bound 90 % of its bootstrap means; differences (``…_over_…``) are paired. ``best_rule``: that
    of those without lifetimes which rejects the fewest cores at that load. `progress` hears a line for each row.

    Raises:
        ValueError: a file isn't one that can be read, or the trace has no lifetimes.
    """
    compared = {**(POLICIES if ways is None else ways), **({} if scorer is None else learned(scorer))}
    guests, pattern = read_guests(trace), None if nodes is None else read_nodes(nodes)
    rows: list[Row] = []
    for load in loads:
        cuts = [
            window
            for seed in range(seeds)
            for window in cut(guests, windows, load, seed=seed, hosts=hosts, shape=shape, pattern=pattern)
        ]
        rows += compare(cuts, compared, load, progress)
    return rows


def compare(
    windows: list[Window],
    ways: dict[str, Way],
    load: float,
    progress: Callable[[str], None] = lambda _line: None,
) -> list[Row]:
    """One flat row for each of `ways` over the same `windows`, as `evaluate` has them; `load` is only told."""
    learn = any(way.sees == "predicted" for way in ways.values())
    known = [known_before(window) if learn else None for window in windows]
    played = [without_the_past(window, _WARM_H) for window in windows]
    found: dict[str, tuple[Row, Figures]] = {}
    for policy, way in ways.items():
        found[policy] = _compare(played, known, way)
        mean = found[policy][1]["rejected_cores"].mean()
        progress(f"load {load:g}, {policy}: {mean:.2%} of the cores rejected in {len(windows)} windows")
    return _paired(load, found, ways)


def _paired(load: float, found: dict[str, tuple[Row, Figures]], ways: dict[str, Way]) -> list[Row]:
    """The rows of a load, each with its differences from the rules that set the bars."""
    rules = [policy for policy, way in ways.items() if way.sees == "nothing" and way.scorer is None]
    best = min(rules, key=lambda policy: float(found[policy][1]["rejected_cores"].mean()), default="")
    bars = [
        ("rejected_cores", "first_fit", "first-fit"),
        ("rejected_cores", "best_rule", best),
        ("split_pairs", "site_sticky", "site-sticky"),
        ("cpu_allocated", "first_fit", "first-fit"),
    ]
    rows = []
    for policy, (row, figures) in found.items():
        row |= {"policy": policy, "load": load, "best_rule": best}
        for figure, name, rival in bars:
            if rival in found:
                over = figures[figure] - found[rival][1][figure]
                head = f"{figure}_over_{name}"
                row[head] = float(over.mean())
                row[f"{head}_low"], row[f"{head}_high"] = interval(over)
        rows.append(row)
    return rows


def interval(values: Floats, share: float = 0.9) -> tuple[float, float]:
    """The bounds of the middle `share` of the bootstrap means of `values`, (k,)."""
    picks = np.random.default_rng(0).integers(0, len(values), (_BOOTSTRAPS, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def _play(window: Window, known: Lifetimes | None, way: Way, knobs: Knobs) -> Run:
    if way.sees == "predicted" and known is not None:
        return simulate_predicted(window, way.rule, knobs, lifetimes=known)
    if way.sees != "true":
        return simulate_blind(window, way.rule, knobs)
    return simulate(window.nodes, window.guests, way.rule, window.span, knobs)


def _compare(windows: list[Window], known: list[Lifetimes | None], way: Way) -> tuple[Row, Figures]:
    plain = PLAIN if way.scorer is None else way.scorer.knobs()
    outcomes: list[Outcome] = []
    sizes: list[dict[str, float]] = []
    usd, seconds = [], []
    for index, (window, lifetimes) in enumerate(zip(windows, known, strict=True)):
        mix = request_mix(window.guests) if way.rule is Rule.FGD else PLAIN.mix
        knobs = plain._replace(seed=index, mix=mix)
        run = _play(window, lifetimes, way, knobs)
        outcomes.append(outcome(run))
        sizes.append(_by_size(run))
        usd.append(USD_PER_GB * float(run.pairs.sum() - np.trace(run.pairs)))
        if index == 0:
            seconds = _decide(run, way.rule, knobs)
    row: Row = {
        "windows": len(windows),
        "hosts": float(np.mean([len(window.nodes.cpu) for window in windows])),
        "decision_p50_us": 1e6 * float(np.quantile(seconds, 0.5)),
        "decision_p99_us": 1e6 * float(np.quantile(seconds, 0.99)),
        "split_usd": float(np.mean(usd)),
    }
    figures = {name: np.array([getattr(one, name) for one in outcomes], np.float64) for name in Outcome._fields}
    row |= {name: float(values.mean()) for name, values in figures.items()}
    for name in ("rejected_cores", "split_pairs", "cpu_allocated"):
        row[f"{name}_low"], row[f"{name}_high"] = interval(figures[name])
    for name in sizes[0]:
        row[name] = float(np.mean([one[name] for one in sizes]))
    return row, figures


def _by_size(run: Run) -> dict[str, float]:
    """Shares of the guests and cores of each size class that were rejected."""
    guests = run.guests
    seen = (guests.arrive >= run.span[0]) & (guests.arrive < run.span[1]) & (run.placed != UNSEEN)
    shares: dict[str, float] = {}
    for name, above, most in SIZES:
        of_size = seen & (guests.vcpus > above) & (guests.vcpus <= most)
        denied = of_size & (run.placed == DENIED)
        shares[f"rejected_guests_{name}"] = float(denied.sum()) / max(int(of_size.sum()), 1)
        shares[f"rejected_cores_{name}"] = float(guests.vcpus[denied].sum()) / max(
            float(guests.vcpus[of_size].sum()), 1.0
        )
    return shares


def _decide(run: Run, rule: Rule, knobs: Knobs) -> list[float]:
    """Seconds that single decisions take on the cluster as the run left it."""
    nodes: Nodes = run.nodes
    count = len(run.guests.arrive)
    took = []
    for g in range(max(count - _TIMED, 0), count):
        begun = time.perf_counter()
        pick(int(rule), nodes, run.state, run.guests, g, float(run.clock[0]), knobs, -1)
        took.append(time.perf_counter() - begun)
    return took
