"""The grid of `bench transport`: what is asked for, and what the rows say."""

import pytest

from actors.errors import BadRequest
from benchmarks.carrying.points import GRID, SYSTEMS, Carried, Point, parse_points, parse_systems, row, with_best


def test_the_whole_grid_is_the_default() -> None:
    assert parse_points("") == GRID
    assert len(set(GRID)) == 18
    assert parse_systems("") == list(SYSTEMS)


def test_points_and_systems_are_named() -> None:
    assert parse_points("100/50/0.1, 500/10/0") == [Point(100, 50, 0.1), Point(500, 10, 0)]
    assert parse_systems("scp,amst") == ["amst", "scp"]
    shape = Point(500, 150, 0.5).shape
    assert (shape.rate_bps, shape.delay_us, shape.loss_percent) == (500_000_000, 75_000, 0.5)


@pytest.mark.parametrize("text", ["100", "100/50", "100/50/x", "100/50/101", "-1/50/0", "100/50/0/1"])
def test_a_point_that_can_not_be_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="MBIT/RTT_MS/LOSS_PERCENT"):
        parse_points(text)


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(BadRequest, match="ftp"):
        parse_systems("ftp")


def test_rows_are_compared_with_the_best_of_iperf3_at_the_same_point() -> None:
    def carried(mbit: float) -> Carried:
        return Carried(carried_bytes=mbit * 1e6, seconds=8.0)

    here, there = Point(100, 50, 0), Point(100, 50, 0.5)
    rows = [
        row(here, "amst", 1, carried(90)),
        row(here, "iperf3-1-cubic", 1, carried(50)),
        row(here, "iperf3-8-bbr", 1, carried(100)),
        row(there, "amst", 1, carried(80)),
        row(there, "scp", 1, Carried(failure="nothing arrived")),
    ]
    found = with_best(rows)
    assert [one["share_of_best"] for one in found] == [0.9, 0.5, 1.0, None, None]
    assert found[0]["goodput_mbit"] == 90.0
    assert found[4]["goodput_mbit"] is None
    assert found[4]["note"] == "nothing arrived"
