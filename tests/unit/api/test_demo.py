"""How the demo follows a guest's console from node to node."""

from functools import reduce
from operator import xor
from pathlib import Path

import pytest

from actors.errors import DeadlineExceeded
from api.cli import demo


def tick(seq: int) -> bytes:
    """A line as the workload prints it."""
    line = f"nova t {seq} {seq * 50_000_000} {seq * 50_000_000} 0 0 {seq} {seq} OK".encode()
    return line + b" *%02x\n" % reduce(xor, line, 0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {"london-1": tmp_path / "london.log", "paris-1": tmp_path / "paris.log"}


def test_there_and_back_with_a_file_that_is_appended_to(files: dict[str, Path]) -> None:
    watch = demo.Watch(files)
    files["london-1"].write_bytes(tick(1) + tick(2)[:9])
    assert watch.until_ticks("london-1", 1, 0.0).ticks == 1
    files["london-1"].write_bytes(tick(1) + tick(2))
    watch.rest_of("london-1")
    files["paris-1"].write_bytes(tick(3))
    assert watch.until_ticks("paris-1", 1, 0.0).ticks == 3
    watch.rest_of("paris-1")
    files["london-1"].write_bytes(tick(1) + tick(2) + tick(4))
    back = watch.until_ticks("london-1", 1, 0.0)
    assert (back.ok, back.ticks, back.missing) == (True, 4, 0), back.problems


def test_there_and_back_with_a_file_that_is_begun_anew(files: dict[str, Path]) -> None:
    watch = demo.Watch(files)
    files["london-1"].write_bytes(tick(1) + tick(2))
    watch.until_ticks("london-1", 2, 0.0)
    files["paris-1"].write_bytes(tick(3))
    watch.until_ticks("paris-1", 1, 0.0)
    files["london-1"].write_bytes(tick(4))
    back = watch.until_ticks("london-1", 1, 0.0)
    assert (back.ok, back.ticks) == (True, 4), back.problems


def test_a_guest_that_lost_time_is_not_called_well(files: dict[str, Path]) -> None:
    watch = demo.Watch(files)
    files["london-1"].write_bytes(tick(1) + tick(3))
    assert not watch.until_ticks("london-1", 2, 0.0).ok


def test_a_guest_that_says_nothing_is_an_error(files: dict[str, Path]) -> None:
    with pytest.raises(DeadlineExceeded, match="ticks of guest web1 on london-1"):
        demo.Watch(files).until_ticks("london-1", 1, 0.0)
