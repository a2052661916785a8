"""Rows of the benchmark's file."""

import json
from pathlib import Path
from typing import Literal

import pytest

from actors.encoding.messages import LayerCount
from actors.errors import BadRequest
from benchmarks.moving.loads import LOADS, StoreState
from benchmarks.moving.plan import Task
from benchmarks.moving.rivals import Tuning
from benchmarks.moving.rows import (
    COLUMNS,
    Judged,
    Measured,
    Setting,
    median_total_s,
    pauses_row,
    row,
    tell_layers,
    with_speedup,
)
from benchmarks.report import Row, read, show, write

SETTING = Setting(link="100mbit,50ms,0%", load="64,2000,64", load_name="light", memory_mib=1024, cache_mib=320)


def task(system: str, store: StoreState | Literal[""] = "") -> Task:
    """A move under the light load."""
    return Task(load=LOADS[0], system=system, store=store, run=1)


PROMISED = {
    "system", "link", "load", "memory_mib", "store", "total_s", "pause_ms", "wire_bytes", "guest_ok", "rounds",
    "pause_guest_clock_ms", "pause_qemu_ms", "zstd_level", "channels", "speedup_vs_plain", "wire_bytes_back",
    "load_average",
}  # fmt: skip


def a_row(system: str = "qemu-plain", total_s: float | None = 60.2281, failure: str = "", ok: bool = True) -> Row:
    """A row of a move that took `total_s`."""
    measured = Measured(total_s=total_s, pause_ms=676.04, wire_bytes=719_585_096, rounds=12, failure=failure)
    judged = Judged(ok=ok, pause_ms=677.444, cached_mib=319, checks=9, problems=[] if ok else ["2 ticks are missing"])
    return row(SETTING, task(system), Tuning(channels=4), measured, judged, "")


def test_a_row_has_every_promised_column() -> None:
    [found] = with_speedup([a_row()])
    assert set(found) >= PROMISED | set(COLUMNS)
    assert (found["total_s"], found["pause_ms"], found["pause_guest_clock_ms"]) == (60.228, 676.0, 677.4)
    assert (found["link"], found["load"], found["memory_mib"], found["store"]) == (
        "100mbit,50ms,0%", "64,2000,64", 1024, "empty",
    )  # fmt: skip
    assert (found["channels"], found["zstd_level"], found["guest_ok"], found["note"]) == (4, None, True, "")
    assert found["cache_mib"] == 319


def test_the_store_is_what_the_move_made_use_of() -> None:
    measured = Measured(total_s=9.0, layers={"store": LayerCount(pages=85_640, bytes_in=1, bytes_out=1)})
    found = row(SETTING, task("novacron", "visited"), Tuning(), measured, Judged(ok=True), "")
    assert (found["asked"], found["store"]) == ("visited", "visited")
    found = row(SETTING, task("novacron", "empty"), Tuning(), measured, Judged(ok=True), "")
    assert (found["asked"], found["store"]) == ("empty", "image")
    found = row(SETTING, task("novacron", "visited"), Tuning(), Measured(total_s=9.0), Judged(ok=True), "")
    assert (found["asked"], found["store"]) == ("visited", "empty")


def test_a_move_that_was_given_up_says_so() -> None:
    found = a_row(total_s=None, failure="not finished within 600 s, aborted", ok=False)
    assert found["total_s"] is None
    assert found["guest_ok"] is False
    assert found["note"] == "not finished within 600 s, aborted; 2 ticks are missing"


def test_speedup_is_against_the_median_of_plain() -> None:
    rows = [
        a_row(total_s=58.0),
        a_row(total_s=60.0),
        a_row(total_s=80.0),
        a_row("novacron", 8.0),
        a_row("novacron", None),
    ]
    assert [one["speedup_vs_plain"] for one in with_speedup(rows)] == [1.03, 1.0, 0.75, 7.5, None]


def test_layers_are_told() -> None:
    layers = {
        "zero": LayerCount(pages=10, bytes_in=40_960, bytes_out=90, cpu_s=0.01),
        "delta": LayerCount(),
        "zstd": LayerCount(pages=128_000, bytes_in=524_288_000, bytes_out=180_120_000, cpu_s=12.34),
    }
    assert tell_layers(layers) == "zero 10 pages, 0.0 → 0.0 MB, 0.0 s; zstd 128000 pages, 524.3 → 180.1 MB, 12.3 s"


def test_without_plain_there_is_no_speedup() -> None:
    assert [one["speedup_vs_plain"] for one in with_speedup([a_row("novacron", 8.0)])] == [None]
    assert [one["speedup_vs_plain"] for one in with_speedup([a_row(total_s=None), a_row("novacron", 8.0)])] == [
        None,
        None,
    ]


def test_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.report.machine_facts", lambda: {"cores": 2})
    file = tmp_path / "migration.json"
    rows = with_speedup([a_row()])
    write("migration", rows, file)
    found = json.loads(file.read_text())
    assert set(found) == {"bench", "version", "machine", "rows"}
    assert found["bench"] == "migration"
    assert found["rows"] == rows
    assert list(tmp_path.iterdir()) == [file]


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show("moves", with_speedup([a_row()]), COLUMNS)
    printed = capsys.readouterr().out
    for text in (*COLUMNS, "qemu-plain", "719,585,096", "60.23", "–"):
        assert text in printed


def test_speedup_is_within_one_load() -> None:
    heavy = {**a_row("novacron", 20.0), "load_name": "heavy"}
    assert [one["speedup_vs_plain"] for one in with_speedup([a_row(total_s=60.0), heavy])] == [1.0, None]
    assert median_total_s([heavy], "novacron", "heavy") == 20.0
    assert median_total_s([heavy], "novacron", "light") is None


def test_pauses_become_medians_and_percentiles() -> None:
    moves = [
        Measured(total_s=float(n), pause_ms=100.0 + n, wire_bytes=n * 10, encoder_growth_bytes=n << 20)
        for n in range(1, 21)
    ]
    found = pauses_row(SETTING, task("novacron", "image"), [*moves, Measured(failure="the link fell")], Judged(ok=True))
    assert (found["moves"], found["total_s"], found["wire_bytes"]) == (20, 10.0, 100)
    assert (found["pause_p50_ms"], found["pause_p99_ms"], found["pause_max_ms"]) == (110.0, 120.0, 120.0)
    assert (found["pause_ms"], found["encoder_growth_mib"]) == (110.0, 20.0)
    assert found["note"] == "the link fell"
    assert len(str(found["pauses_ms"]).split()) == 20


def test_pauses_that_never_were_are_empty() -> None:
    found = pauses_row(SETTING, task("novacron"), [], Judged(ok=False, problems=["no ticks"]))
    assert (found["moves"], found["total_s"], found["pause_p99_ms"], found["note"]) == (0, None, None, "no ticks")


def test_a_file_is_read_back(tmp_path: Path) -> None:
    assert read(tmp_path / "none.json") == []
    write("migration", [a_row()], tmp_path / "rows.json")
    assert read(tmp_path / "rows.json") == [a_row()]
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(BadRequest, match="not a benchmark's file"):
        read(tmp_path / "other.json")
