"""Trains the score by an evolution strategy (CMA-ES, Hansen) on what is really wanted: whole windows, few cores denied.

A placement's worth shows hours later, in what no longer fits; the strategy needs no gradient through that and no
credit for single steps, only the figures of a window. Every candidate plays the same windows, begins where the rules
of thumb are, and what is kept has to be better than that beginning on windows that the search never saw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.placement.kernel import Floats
from models.placement.learned.course import BOUNDS, Bounds, Course, course, limits
from models.placement.learned.scorer import SCORED, Scorer
from models.placement.tables import Guests

REACH: dict[str, float] = {
    "tight": 0.3,
    "cpu_left": 0.3,
    "memory_left": 0.3,
    "node_used": 0.3,
    "node_empty": 0.5,
    "order": 0.2,
    "doublings": 0.1,
    "shorter": 0.3,
    "tenant_elsewhere": 0.5,
    "apart": 2.0,
    "fresh": 0.3,
    "site_free": 0.2,
    "lost8": 0.1,
    "lost16": 0.1,
    "lost32": 0.1,
}
"""How far the search looks around its beginning, per feature."""

BEGINNINGS: dict[str, dict[str, float]] = {
    "best fit": {"tight": -1.0, "apart": -8.0, "fresh": 1.0},
    "and few new nodes": {
        "tight": -0.25,
        "cpu_left": -0.25,
        "node_empty": -1.0,
        "doublings": -0.05,
        "apart": -8.0,
        "fresh": 1.0,
    },
}
"""Rules of thumb as points of the space, each loath to split a large tenant; the best of them is where it begins. The
second was found by hand on windows of the first two fifths of two traces."""


@dataclass(frozen=True, slots=True)
class Args:
    """What a training can be told.

    `windows` of about `hosts` nodes are cut from the first `period` of each trace for each of `loads`, as many
    from `checked` to choose what is kept; half of all are played without lifetimes. `bounds` weighs the figures.
    Every `check_every` of `generations` of `population` candidates their mean is checked.
    """

    seed: int = 0
    generations: int = 40
    population: int = 10
    windows: int = 4
    hosts: int = 50
    loads: tuple[float, ...] = (0.7, 0.9)
    period: tuple[float, float] = (0.08, 0.34)
    checked: tuple[float, float] = (0.3, 0.4)
    check_every: int = 3
    warm_h: float = 6.0
    bounds: Bounds = BOUNDS


def train(traces: list[Guests], args: Args, progress: Callable[[int, float], None] | None = None) -> Scorer:
    """A scorer trained on the first part of `traces`; the same seed gives the same one.

    `progress` is told each generation and its candidates' mean cost.

    Raises:
        ValueError: a trace has no lifetimes or is too short.
    """
    from cmaes import CMA

    lessons = course(traces, args.loads, args.windows, args.hosts, args.period, args.warm_h, args.seed)
    exam = course(traces, args.loads, args.windows, args.hosts, args.checked, args.warm_h, args.seed + 1)
    low, high = limits([*lessons.windows, *exam.windows])

    def cost(of: Course, weights: Floats) -> float:
        return of.cost(Scorer(weights, low, high), args.bounds)

    begins = [np.array([named.get(name, 0.0) for name in SCORED]) for named in BEGINNINGS.values()]
    begin = min(begins, key=lambda weights: cost(lessons, weights))
    reach = np.array([REACH[name] for name in SCORED])
    search = CMA(mean=np.zeros(len(SCORED)), sigma=0.3, seed=args.seed, population_size=args.population)
    best, least = begin, cost(exam, begin)
    for generation in range(1, args.generations + 1):
        asked = [search.ask() for _ in range(search.population_size)]
        results = [(tried, cost(lessons, begin + reach * tried)) for tried in asked]
        search.tell(results)
        if progress is not None:
            progress(generation, float(np.mean([value for _, value in results])))
        if generation % args.check_every == 0 or generation == args.generations:
            mean = begin + reach * search.mean
            if (found := cost(exam, mean)) < least:
                best, least = mean, found
    return Scorer(best, low, high)
