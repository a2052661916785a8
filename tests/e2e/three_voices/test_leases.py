"""Leases that end by time, in two sites with a witness: a node that is cut off pauses its guests in time, and one that
is lost has its guests taken over."""

import subprocess

import pytest

from actors.errors import StateRefused
from actors.keeper.engine import Order
from actors.keeper.files import now_ms, read_note, read_order
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.line import Change
from tests.e2e.world import BOOT_S, RESTART_S, TICKS_S, World, until

HERE, THERE = "london-1", "paris-1"
GRANTS, ENDS = {"startguest", "failover"}, {"override", "expirelease"}
LEASED_S = 120.0
# D and a margin for a test machine on which other things run.
PAUSED_S = 60.0


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return World(lab)


def _order(world: World, node: str) -> Order | None:
    return read_order(world.lab.node(node).state_dir / "lib-novacron")


def _leased(world: World, node: str) -> bool:
    """Its lease ends by time, and has not ended."""
    order = _order(world, node)
    return order is not None and order.pause_at_ms is not None and order.pause_at_ms > now_ms()


def test_a_node_that_is_cut_off_pauses_its_guests_in_time_and_resumes_them(world: World) -> None:
    until("leases that end by time", lambda: all(_leased(world, node) for node in (HERE, THERE)), LEASED_S)
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
        world.kill_member(world.api.cluster().leader)
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


def _owner(world: World, guest: str) -> list[tuple[str, str]]:
    """Who was granted the guest, one command after the other, oldest first."""
    entries = world.api.audit(guest).entries
    return [(e.command, str(e.body.get("to") or e.body["node"])) for e in entries if e.command in GRANTS]


def test_a_guest_of_a_lost_node_is_taken_over_and_the_node_that_returns_does_not_run_it(world: World) -> None:
    until("leases that end by time", lambda: all(_leased(world, node) for node in (HERE, THERE)), LEASED_S)
    world.guest("lost", THERE)
    reason = "its rack burned down"
    try:
        with pytest.raises(StateRefused) as held:
            world.api.fail_over("lost", reason, to=HERE)
        with pytest.raises(StateRefused) as asked:
            world.api.fail_over("lost", reason, to=HERE, override=True)
        assert (held.value.refusal, asked.value.refusal) == ("lease-held", "risk-changed")
        assert (world.running_on("lost"), world.has_domain(HERE, "lost")) == ([THERE], False)
        risk = str(asked.value.fields["detail"])
        assert "lost" in risk

        world.power_off(THERE)
        # By then the lease may have ended by itself, and nothing is left to decree.
        taken = world.api.fail_over("lost", reason, to=HERE, override=True, risk=risk)
        assert (taken.guest.node, taken.guest.state) == (HERE, "running")
        assert _owner(world, "lost") == [("startguest", THERE), ("failover", HERE)]
        started, entry = [one for one in world.api.audit("lost").entries if one.command in GRANTS]
        assert (entry.by, reason in entry.detail) == (f"operator:api@{HERE}", True)
        between = world.api.audit(since=started.revision).entries
        ends = [one for one in between if one.command in ENDS and one.revision < entry.revision]
        assert ends, "nobody owned it before the other's lease had ended or was decreed away"
        console = world.lab.node(HERE).run_dir / "console-lost.log"
        verdict = Watch("lost", {HERE: console}, HERE).until_ticks(20, BOOT_S)
        assert verdict.ok, verdict.problems

        uri = world.lab.node(THERE).libvirt_uri
        old = ["virsh", "-q", "-c", uri, "start", "lost"]
        world.power_on(THERE, lambda: subprocess.run(old, check=True, timeout=BOOT_S))
        until("the old copy that libvirt started to be paused", lambda: world.running_on("lost") == [HERE], PAUSED_S)
        until("the node to hold a lease again", lambda: _leased(world, THERE), LEASED_S)
        until("the node to say why", lambda: _withheld(world, "lost", THERE), LEASED_S)
        assert world.domain_state(THERE, "lost") == "paused"
        assert world.running_on("lost") == [HERE]
        assert _owner(world, "lost")[-1] == ("failover", HERE)
    finally:
        subprocess.run(["virsh", "-q", "-c", world.lab.node(THERE).libvirt_uri, "destroy", "lost"], check=False)
        world.remove("lost")


def _withheld(world: World, guest: str, node: str) -> bool:
    found = [one for one in world.api.guests().guests if (one.name, one.node) == (guest, node)]
    return any(f"{HERE} owns it" in one.note for one in found)
