"""A guest's console is followed from node to node."""

from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from actors.errors import DeadlineExceeded
from actors.lab.guests.watch import Watch


def tick(seq: int) -> bytes:
    """A line as the workload prints it."""
    line = f"nova t {seq} {seq * 50_000_000} {seq * 50_000_000} 0 0 {seq} {seq} OK".encode()
    return line + b" *%02x\n" % reduce(xor, line, 0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {"london-1": tmp_path / "london.log", "paris-1": tmp_path / "paris.log"}


def test_there_and_back_with_a_file_that_is_appended_to(files: dict[str, Path]) -> None:
    watch = Watch("web1", files, "london-1")
    files["london-1"].write_bytes(tick(1) + tick(2)[:9])
    watch.read()
    assert watch.verdict.ticks == 1
    # What it printed after the last look, before it left, is not lost.
    files["london-1"].write_bytes(tick(1) + tick(2))
    watch.arrived("paris-1")
    files["paris-1"].write_bytes(tick(3))
    watch.arrived("london-1")
    files["london-1"].write_bytes(tick(1) + tick(2) + tick(4))
    watch.read()
    back = watch.verdict
    assert (back.ok, back.ticks, back.missing) == (True, 4, 0), back.problems


def test_there_and_back_with_a_file_that_is_begun_anew(files: dict[str, Path]) -> None:
    watch = Watch("web1", files, "london-1")
    files["london-1"].write_bytes(tick(1) + tick(2))
    watch.arrived("paris-1")
    files["paris-1"].write_bytes(tick(3))
    watch.arrived("london-1")
    files["london-1"].write_bytes(tick(4))
    watch.read()
    assert (watch.verdict.ok, watch.verdict.ticks) == (True, 4), watch.verdict.problems


def test_a_guest_that_lost_time_is_not_called_well(files: dict[str, Path]) -> None:
    watch = Watch("web1", files, "london-1")
    files["london-1"].write_bytes(tick(1) + tick(3))
    watch.read()
    assert not watch.verdict.ok


def test_a_guest_that_says_nothing_is_an_error(files: dict[str, Path]) -> None:
    with pytest.raises(DeadlineExceeded, match="more ticks of guest web1 on london-1"):
        Watch("web1", files, "london-1").until_ticks(1, 0.0)
