"""Rows as they come: what each system is told, when to stop, and the search for the moment to raise a pause."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.moving import sheet as sheets
from benchmarks.moving.loads import LOADS
from benchmarks.moving.plan import Task, missing, tasks
from benchmarks.moving.rivals import Tuning
from benchmarks.moving.rows import Judged, Measured
from benchmarks.moving.run import Bench
from benchmarks.moving.sheet import Sheet
from benchmarks.moving.tuning import Tried
from benchmarks.report import read

LIGHT, HEAVY = LOADS[0], LOADS[1]


class Pretended:
    """A bench that notes what it is asked. NovaCron takes 20 s; a raised pause ends the move 5 s after it began."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Tuning]] = []
        self.now = 0.0

    def measure(self, task: Task, tuning: Tuning) -> tuple[Measured, Judged]:
        self.told.append((task.system, tuning))
        self.now += 100.0
        raised_s = tuning.raise_after_s + 5.0 if tuning.raise_after_s else 60.0
        return Measured(total_s=20.0 if task.system == "novacron" else raised_s, pause_ms=250.0), Judged(ok=True)

    def pauses(self, _: Task, moves: int, __: float) -> tuple[list[Measured], Judged]:
        return [Measured(total_s=9.0, pause_ms=float(n)) for n in range(1, moves + 1)], Judged(ok=True)

    def tune(self, _: str, __: object, choose: Callable[[Tried], Tuning | None]) -> Tried:
        tried: list[tuple[Tuning, Measured]] = []
        while (tuning := choose(tried)) is not None:
            tried.append((tuning, Measured(total_s=40.0 + abs(tuning.channels - 4) + tuning.zstd_level)))
        return tried


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    made = Pretended()
    monkeypatch.setattr(sheets, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made


def sheet(file: Path | None = None, given: tuple[int, int] = (4, 1), aim_s: float = 0.0, until: float = 1e9) -> Sheet:
    """One without rows yet."""
    return Sheet([], file, "100mbit,50ms,0%", 1024, 320, given, 3, aim_s, until, lambda _: None)


def test_rows_come_in_order_and_are_in_the_file(bench: Pretended, tmp_path: Path) -> None:
    plan = tasks([LIGHT], ["image"], ["qemu-plain", "qemu-multifd-zstd", "novacron"], 1, 3)
    made = sheet(tmp_path / "rows.json")
    made.measure(cast(Bench, bench), plan)
    rows = read(tmp_path / "rows.json")
    assert [(row["system"], row["measure"]) for row in rows] == [
        ("qemu-plain", "move"), ("qemu-multifd-zstd", "move"), ("novacron", "move"), ("novacron", "pauses"),
    ]  # fmt: skip
    assert [row["speedup_vs_plain"] for row in rows] == [1.0, 1.0, 3.0, 6.67]
    assert (rows[3]["moves"], rows[3]["pause_p99_ms"]) == (3, 3.0)
    assert missing(plan, rows) == []


def test_nothing_is_begun_when_the_time_is_over(bench: Pretended) -> None:
    plan = tasks([LIGHT], ["image"], ["qemu-plain", "qemu-xbzrle", "qemu-multifd"], 1, 0)
    made = sheet(until=150.0)
    made.measure(cast(Bench, bench), plan)
    assert len(made.rows) == 2
    assert missing(plan, made.rows) == plan[2:]


def test_a_tuning_is_sought_only_for_whom_it_is(bench: Pretended) -> None:
    made = sheet(given=(0, 0))
    made.measure(cast(Bench, bench), tasks([LIGHT], ["image"], ["qemu-multifd-zstd"], 1, 0))
    assert bench.told == [("qemu-multifd-zstd", Tuning(channels=4, zstd_level=1))]
    assert str(made.rows[0]["tuning_tried"]).startswith("level 1 × 2: 43.0 s; level 1 × 4: 41.0 s")


def test_a_pause_is_raised_so_that_the_move_ends_with_novacrons(bench: Pretended) -> None:
    made = sheet()
    made.measure(cast(Bench, bench), tasks([HEAVY], ["image"], ["novacron", "qemu-raised"], 1, 0))
    assert [tuning.raise_after_s for system, tuning in bench.told if system == "qemu-raised"] == [12.0, 15.0]
    assert (made.rows[-1]["system"], made.rows[-1]["total_s"], made.rows[-1]["raise_after_s"]) == (
        "qemu-raised", 20.0, 15.0,
    )  # fmt: skip


def test_a_pause_is_not_raised_without_an_aim(bench: Pretended) -> None:
    made = sheet()
    made.measure(cast(Bench, bench), tasks([HEAVY], ["image"], ["qemu-raised"], 1, 0))
    assert made.rows == []
    made = sheet(aim_s=17.0)
    made.measure(cast(Bench, bench), tasks([HEAVY], ["image"], ["qemu-raised"], 1, 0))
    assert made.rows[0]["tuning_tried"] == "aim 17.0 s"
