"""The rows of a run of the benchmark, as they come: what each system is told, when to stop, what the file holds."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.moving.plan import Task
from benchmarks.moving.rivals import RAISED_RIVAL, RIVALS, Tuning
from benchmarks.moving.rows import Judged, Measured, Setting, median_total_s, pauses_row, row, with_speedup
from benchmarks.moving.run import Bench
from benchmarks.moving.tuning import best, near_enough, next_start_s, next_tuning, tell
from benchmarks.report import Row, write

_TUNED: Final = "qemu-multifd-zstd"
_CHANNELS, _ZSTD_LEVEL = 4, 1  # where nothing was given or found
_STARTS_MAX: Final = 3


class Sheet:
    """Collects rows; `file` is written anew after each, so that a run that is broken off keeps what it has.

    Args:
        rows: those that are there already.
        link, memory_mib, cache_mib: what all rows have in common.
        given: channels and zstd level of multifd, 0: to be found.
        pauses: moves to and fro of one guest.
        aim_s: when qemu-raised is to end; 0: when NovaCron does.
        until: monotonic seconds; nothing is begun after.
        tell: called with each step, for people.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        file: Path | None,
        link: str,
        memory_mib: int,
        cache_mib: int,
        given: tuple[int, int],
        pauses: int,
        aim_s: float,
        until: float,
        tell: Callable[[str], None],
    ) -> None:
        self.rows = list(rows)
        self._file = file
        self._link = link
        self._memory_mib = memory_mib
        self._cache_mib = cache_mib
        self._given = given
        self._pauses = pauses
        self._aim_s = aim_s
        self._until = until
        self._tell = tell
        self._tried = ""

    def measure(self, bench: Bench, tasks: Sequence[Task]) -> None:
        """Carry out `tasks`, as far as there is time."""
        channels, level = self._find_tuning(bench, tasks)
        for task in tasks:
            if time.monotonic() > self._until:
                self._tell("the time that was given is over")
                return
            found = self._row(bench, task, channels, level)
            if found is not None:
                self._add(found)

    def _row(self, bench: Bench, task: Task, channels: int, level: int) -> Row | None:
        setting = Setting(
            link=self._link,
            load=task.load.load,
            load_name=task.load.name,
            memory_mib=self._memory_mib,
            cache_mib=self._cache_mib,
        )
        if task.measure == "pauses":
            moves, judged = bench.pauses(task, self._pauses, self._until)
            return pauses_row(setting, task, moves, judged)
        if task.system == RAISED_RIVAL:
            aim_s = self._aim_s or median_total_s(self.rows, "novacron", task.load.name)
            if aim_s is None:
                self._tell(f"{RAISED_RIVAL}: no move of NovaCron's says how long it is to take; --aim does")
                return None
            tuning = Tuning.of(_TUNED, self._memory_mib, channels, level)
            return row(setting, task, *self._raised(bench, task, tuning, aim_s), f"aim {aim_s:.1f} s")
        rival = next((one for one in RIVALS if one == task.system), None)
        tuning = Tuning.of(rival, self._memory_mib, channels, level) if rival else Tuning()
        measured, judged = bench.measure(task, tuning)
        return row(setting, task, tuning, measured, judged, self._tried if task.system == _TUNED else "")

    def _raised(self, bench: Bench, task: Task, tuning: Tuning, aim_s: float) -> tuple[Tuning, Measured, Judged]:
        """Move a guest again until the pause was raised at the right moment, a few times at most; the nearest."""
        found: list[tuple[Tuning, Measured, Judged]] = []
        while len(found) < _STARTS_MAX and time.monotonic() < self._until:
            starts = [(one.raise_after_s, measured.total_s) for one, measured, _ in found]
            now = msgspec.structs.replace(tuning, raise_after_s=next_start_s(starts, aim_s))
            found.append((now, *bench.measure(task, now)))
            if near_enough(found[-1][1].total_s, aim_s):
                break
        return min(found, key=lambda one: abs((one[1].total_s or float("inf")) - aim_s))

    def _find_tuning(self, bench: Bench, tasks: Sequence[Task]) -> tuple[int, int]:
        """Channels and zstd level for multifd: given, or found in a few moves where they are needed."""
        channels, level = self._given
        load = next((task.load for task in tasks if task.system in (_TUNED, RAISED_RIVAL)), None)
        if load is not None and not (channels and level):
            tried = bench.tune(_TUNED, load, lambda so_far: next_tuning(so_far, *self._given))
            self._tried = tell(tried)
            winner = best(tried)
            if winner is not None:
                channels, level = winner.channels, winner.zstd_level
                self._tell(f"{_TUNED}: zstd level {level} and {channels} channels served it best, of {self._tried}")
        return channels or _CHANNELS, level or _ZSTD_LEVEL

    def _add(self, found: Row) -> None:
        self.rows.append(found)
        if self._file is not None:
            write("migration", with_speedup(self.rows), self._file)
