"""Trains the score by an evolution strategy (CMA-ES, Hansen) on what is really wanted: whole windows, few cores denied.

A placement's worth shows hours later, in what no longer fits; the strategy needs no gradient through that and no
credit for single steps, only the figures of a window. Each candidate of a generation sees the same windows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.placement.kernel import Floats
from models.placement.learned.lifetimes import Lifetimes
from models.placement.learned.replay import known_before, simulate_blind, simulate_predicted, without_the_past
from models.placement.learned.scorer import SCORED, Scorer
from models.placement.rules import Rule
from models.placement.simulator import Outcome, outcome, simulate
from models.placement.tables import Guests
from models.placement.windows import Window, cut

BEGIN: dict[str, tuple[float, float]] = {
    "tight": (-1.0, 0.5),
    "cpu_left": (0.0, 0.5),
    "memory_left": (0.0, 0.5),
    "node_empty": (-6.0, 3.0),
    "doublings": (-1.0, 0.7),
    "shorter": (0.0, 1.0),
    "home": (1.0, 1.0),
    "tenant_elsewhere": (-8.0, 3.0),
    "site_free": (0.5, 1.0),
    "lost8": (0.0, 0.3),
    "lost16": (0.0, 0.3),
    "lost32": (0.0, 0.3),
}
"""Where the search begins (NILAS that is loath to split a tenant) and how far it looks, per feature."""

RIVALS = (Rule.FIRST_FIT, Rule.BEST_FIT, Rule.SITE_STICKY)
_SPLIT_FREE = 0.003


@dataclass(frozen=True, slots=True)
class Args:
    """What a training can be told.

    `windows` are cut from the first `period` of each trace for each of `loads`; each generation of `population`
    candidates sees `batch` of them, `blind` of those without lifetimes. `split` and `fragments` price a point of split
    pairs beyond site-sticky's, and of fragmentation at 16, in points of rejected cores.
    """

    seed: int = 0
    generations: int = 40
    population: int = 12
    windows: int = 6
    hosts: int = 30
    loads: tuple[float, ...] = (0.7, 0.9)
    period: tuple[float, float] = (0.08, 0.4)
    batch: int = 8
    blind: float = 0.25
    split: float = 0.3
    fragments: float = 0.02
    warm_h: float = 12.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """A window, what is known of lifetimes before it, what the best rule rejects, and the pairs site-sticky splits."""

    window: Window
    lifetimes: Lifetimes | None
    rejected: float
    split: float


def lessons(traces: list[Guests], args: Args) -> list[Lesson]:
    """The windows to learn on, with the rules' figures. Raises ValueError where a trace can't be cut."""
    found = []
    for guests in traces:
        for load in args.loads:
            for whole in cut(guests, args.windows, load, seed=args.seed, hosts=args.hosts, period=args.period):
                window = without_the_past(whole, args.warm_h)
                rivals = {r: outcome(simulate(window.nodes, window.guests, r, window.span)) for r in RIVALS}
                rejected = min(one.rejected_cores for one in rivals.values())
                found.append(Lesson(window, known_before(whole), rejected, rivals[Rule.SITE_STICKY].split_pairs))
    return found


def cost(lesson: Lesson, reached: Outcome, args: Args) -> float:
    """Points beyond the best rule's; less is better."""
    split = max(0.0, reached.split_pairs - lesson.split - _SPLIT_FREE)
    rejected = reached.rejected_cores - lesson.rejected
    return 100.0 * (rejected + args.split * split + args.fragments * reached.fragmentation16)


def train(traces: list[Guests], args: Args, progress: Callable[[int, float], None] | None = None) -> Scorer:
    """A scorer trained on the first part of `traces`; the same seed gives the same one.

    `progress` is told each generation and its candidates' mean cost.

    Raises:
        ValueError: a trace has no lifetimes or is too short.
    """
    from cmaes import CMA

    known = lessons(traces, args)
    begin, scale = (np.array(column) for column in zip(*(BEGIN[name] for name in SCORED), strict=True))
    search = CMA(mean=np.zeros(len(SCORED)), sigma=0.5, seed=args.seed, population_size=args.population)
    rng = np.random.default_rng(args.seed)
    low, high = _limits([lesson.window for lesson in known])
    for generation in range(args.generations):
        rows = rng.choice(len(known), min(args.batch, len(known)), replace=False)
        blind = rng.random(len(rows)) < args.blind
        results: list[tuple[Floats, float]] = []
        for _ in range(search.population_size):
            tried = search.ask()
            scorer = Scorer(begin + scale * tried, low, high)
            results.append((tried, _mean_cost(scorer, [known[row] for row in rows], blind.tolist(), args)))
        search.tell(results)
        if progress is not None:
            progress(generation + 1, float(np.mean([value for _, value in results])))
    return Scorer(begin + scale * search.mean, low, high)


def _mean_cost(scorer: Scorer, batch: list[Lesson], blind: list[bool], args: Args) -> float:
    knobs = scorer.knobs()
    total = 0.0
    for lesson, unseeing in zip(batch, blind, strict=True):
        if unseeing:
            run = simulate_blind(lesson.window, Rule.SCORED, knobs)
        else:
            run = simulate_predicted(lesson.window, Rule.SCORED, knobs, lifetimes=lesson.lifetimes)
        total += cost(lesson, outcome(run), args)
    return total / len(batch)


def _limits(windows: list[Window]) -> tuple[Floats, Floats]:
    """The least and the most of `LIMITS` in `windows`."""
    columns = [
        [window.guests.vcpus for window in windows],
        [window.guests.memory for window in windows],
        [window.nodes.cpu * window.nodes.cells for window in windows],
        [window.nodes.memory * window.nodes.cells for window in windows],
        [np.array([len(window.nodes.cpu)]) for window in windows],
    ]
    low = np.array([min(float(part.min()) for part in column) for column in columns])
    high = np.array([max(float(part.max()) for part in column) for column in columns])
    return low, high
