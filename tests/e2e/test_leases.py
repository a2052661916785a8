"""Leases that end by time, in a lab of three sites: a node that is cut off pauses its guests in time."""

from collections.abc import Iterator

import pytest

from actors.keeper.engine import Order
from actors.keeper.files import now_ms, read_note, read_order
from actors.lab.line import Change
from tests.e2e.conftest import built, three_sites
from tests.e2e.world import RESTART_S, TICKS_S, World, until

LAB = "e2e-leases"
SITES = ("london", "paris", "rome")
HERE, THERE = "london-1", "paris-1"
LEASED_S = 120.0
# D and a margin for a test machine on which other things run.
PAUSED_S = 60.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Three sites of one node each, every two of them joined by a line, with NovaCron running."""
    with built(three_sites(LAB)) as lab:
        yield World(lab)


def _order(world: World, node: str) -> Order | None:
    return read_order(world.lab.node(node).state_dir / "lib-novacron")


def _leased(world: World, node: str) -> bool:
    """Its lease ends by time, and has not ended."""
    order = _order(world, node)
    return order is not None and order.pause_at_ms is not None and order.pause_at_ms > now_ms()


def test_a_node_that_is_cut_off_pauses_its_guests_in_time_and_resumes_them(world: World) -> None:
    until("leases that end by time", lambda: all(_leased(world, f"{site}-1") for site in SITES), LEASED_S)
    watch = world.guest("cut-off", THERE)
    try:
        for line in ("london-paris", "paris-rome"):
            world.lab.link(line).change(Change(state="hole"))
        world.kill(THERE, "ray::NodeAgent")
        until("the guest to be paused", lambda: world.running_on("cut-off") == [], PAUSED_S)
        order = _order(world, THERE)
        assert order is not None
        assert order.pause_at_ms is not None
        assert now_ms() >= order.pause_at_ms
        note = read_note(world.lab.node(THERE).state_dir / "lib-novacron")
        assert [paused.guest for paused in note.paused] == ["cut-off"]
        assert world.running_on("cut-off") == []
        world.lab.restore_links()
        until("the guest to run on", lambda: world.running_on("cut-off") == [THERE], LEASED_S + RESTART_S)
        verdict = watch.until_ticks(40, TICKS_S)
        assert verdict.ok, verdict.problems
    finally:
        world.lab.restore_links()
        world.remove("cut-off")


def test_a_move_ends_right_though_the_leading_member_is_killed(world: World) -> None:
    watch = world.guest("led", HERE)
    try:
        world.lab.link("london-paris").change(Change(rate_bps=12_000_000))
        job = world.start_move("led", THERE)
        world.wait_copying(job.id)
        world.kill(world.api.cluster().leader, "ray::ClusterState")
        world.lab.restore_links()
        ended = world.wait(job.id)
        assert ended.state == "completed", ended.message
        watch.arrived(THERE)
        verdict = watch.until_ticks(40, TICKS_S)
        assert verdict.ok, verdict.problems
        assert world.running_on("led") == [THERE]
        back = world.wait(world.start_move("led", HERE).id)
        assert back.state == "completed", back.message
    finally:
        world.lab.restore_links()
        world.remove("led")
