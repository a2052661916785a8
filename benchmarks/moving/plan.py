"""Pure: which measurements a run of the benchmark consists of, in which order, and which of them a file has already."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from benchmarks.moving.loads import RAISED, NamedLoad, StoreState
from benchmarks.moving.rivals import NOVACRON, RAISED_RIVAL
from benchmarks.report import Row

Measure = Literal["move", "pauses"]
# NovaCron may refer to images or not; that is decided when the lab is built.
_WITHOUT_IMAGES: Final = ("empty",)


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One row to be: a `move` of a fresh guest, or the `pauses` of one guest that is moved to and fro.

    `store`: what the target's node knows; '' where that does not matter.
    """

    load: NamedLoad
    system: str
    store: StoreState | Literal[""]
    run: int
    measure: Measure = "move"

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """What tells its row from others."""
        return (self.load.load, self.system, self.store, self.run, self.measure)


def tasks(
    loads: Sequence[NamedLoad], stores: Sequence[StoreState], systems: Sequence[str], repeat: int, pauses: int
) -> list[Task]:
    """All of them: QEMU's ways first, once for each load and run; runs take turns.

    `pauses`: moves of one guest to and fro; 0: none.
    """
    found: list[Task] = []
    for load in loads:
        for run in range(1, repeat + 1):
            for system in systems:
                if system == NOVACRON:
                    found += [Task(load=load, system=system, store=store, run=run) for store in stores]
                elif system != RAISED_RIVAL or load.name in RAISED:
                    found.append(Task(load=load, system=system, store="", run=run))
        if pauses and NOVACRON in systems:
            found.append(Task(load=load, system=NOVACRON, store=stores[-1], run=1, measure="pauses"))
    return found


def by_lab(found: Iterable[Task]) -> Iterator[tuple[bool, list[Task]]]:
    """(whether NovaCron's nodes may refer to images, the tasks for such a lab); QEMU's own ways do not mind."""
    all_of_them = list(found)
    without = [task for task in all_of_them if task.store in _WITHOUT_IMAGES]
    others = [task for task in all_of_them if task.store not in _WITHOUT_IMAGES]
    if others:
        yield True, others
    if without:
        yield False, without


def missing(found: Iterable[Task], rows: Sequence[Row]) -> list[Task]:
    """Those that have no row among `rows` yet."""
    done = {(row.get("load"), row.get("system"), row.get("asked"), row.get("run"), row.get("measure")) for row in rows}
    return [task for task in found if task.key not in done]
