"""What a score is trained on: windows of traces, what rules of thumb reach in them, and one cost for a candidate."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.placement.kernel import Floats
from models.placement.learned.lifetimes import Lifetimes
from models.placement.learned.replay import known_before, simulate_blind, simulate_predicted, without_the_past
from models.placement.learned.scorer import Scorer
from models.placement.rules import Rule
from models.placement.simulator import Outcome, outcome, simulate
from models.placement.tables import Guests
from models.placement.windows import Window, cut

RIVALS = (Rule.FIRST_FIT, Rule.BEST_FIT, Rule.SITE_STICKY)

Cell = tuple[int, float, bool]
"""Trace, load, and whether lifetimes are known: figures are means over the windows of one."""


class Bounds(NamedTuple):
    """What a point (0.01) of a figure costs, in points of rejected cores.

    `split`: of tenants' pairs beyond site-sticky's and `split_free`; `allocated`: of cores below first fit's less
    `allocated_free`; `worst`: of the cell with the highest cost, beside the mean of all.
    """

    split: float = 0.3
    split_free: float = 0.005
    allocated: float = 0.5
    allocated_free: float = 0.001
    worst: float = 0.5


BOUNDS = Bounds()


class Bar(NamedTuple):
    """What is to be beaten in a cell: the fewest cores that a rule rejects, site-sticky's pairs, first fit's cores."""

    rejected: float
    split: float
    allocated: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """A window, and what is known of lifetimes before it (None: nothing)."""

    window: Window
    lifetimes: Lifetimes | None


@dataclass(frozen=True, slots=True)
class Course:
    """The lessons of each cell, and its bar."""

    lessons: dict[Cell, list[Lesson]]
    bars: dict[Cell, Bar]

    @property
    def windows(self) -> list[Window]:
        """All of them."""
        return [lesson.window for lessons in self.lessons.values() for lesson in lessons]

    def reached(self, scorer: Scorer) -> dict[Cell, list[Outcome]]:
        """What `scorer` reaches in each lesson."""
        return {cell: [_play(lesson, scorer) for lesson in lessons] for cell, lessons in self.lessons.items()}

    def cost(self, scorer: Scorer, bounds: Bounds) -> float:
        """Points of rejected cores beyond the best rule's, with what `bounds` adds; less is better."""
        points = np.array([_points(found, self.bars[cell], bounds) for cell, found in self.reached(scorer).items()])
        return float(points.mean() + bounds.worst * points.max())


def course(
    traces: list[Guests],
    loads: tuple[float, ...],
    windows: int,
    hosts: int,
    period: tuple[float, float],
    warm_h: float,
    seed: int,
) -> Course:
    """`windows` for each trace and load, every second one without lifetimes.

    Raises:
        ValueError: a trace has no lifetimes or is too short.
    """
    lessons: defaultdict[Cell, list[Lesson]] = defaultdict(list)
    for number, guests in enumerate(traces):
        for load in loads:
            cuts = cut(guests, windows, load, seed=seed, hosts=hosts, period=period)
            for index, whole in enumerate(cuts):
                known = known_before(whole) if index % 2 == 0 else None
                lessons[number, load, known is not None].append(Lesson(without_the_past(whole, warm_h), known))
    return Course(dict(lessons), {cell: _bar(found) for cell, found in lessons.items()})


def limits(windows: list[Window]) -> tuple[Floats, Floats]:
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


def _bar(lessons: list[Lesson]) -> Bar:
    found = {rule: [outcome(simulate(*one.window[:2], rule, one.window.span)) for one in lessons] for rule in RIVALS}
    rejected = min(_mean(outcomes, "rejected_cores") for outcomes in found.values())
    split, allocated = _mean(found[Rule.SITE_STICKY], "split_pairs"), _mean(found[Rule.FIRST_FIT], "cpu_allocated")
    return Bar(rejected, split, allocated)


def _points(found: list[Outcome], bar: Bar, bounds: Bounds) -> float:
    split = max(0.0, _mean(found, "split_pairs") - bar.split - bounds.split_free)
    idle = max(0.0, bar.allocated - bounds.allocated_free - _mean(found, "cpu_allocated"))
    return 100.0 * (_mean(found, "rejected_cores") - bar.rejected + bounds.split * split + bounds.allocated * idle)


def _mean(outcomes: list[Outcome], figure: str) -> float:
    return float(np.mean([getattr(one, figure) for one in outcomes]))


def _play(lesson: Lesson, scorer: Scorer) -> Outcome:
    window, knobs = lesson.window, scorer.knobs()
    if lesson.lifetimes is None:
        return outcome(simulate_blind(window, Rule.SCORED, knobs))
    return outcome(simulate_predicted(window, Rule.SCORED, knobs, lifetimes=lesson.lifetimes))
