"""Two sites without a third voice: a lone site keeps what it runs and takes over nothing until an operator decides."""

import subprocess

import pytest

from actors.errors import NoMajority, StateRefused
from actors.keeper.files import read_order
from actors.lab.lab import Lab
from actors.lab.line import Change
from tests.e2e.world import BOOT_S, RESTART_S, TICKS_S, World, until

HERE, THERE = "london-1", "paris-1"
REASON = "nobody in Paris answers the telephone"


@pytest.fixture
def world(lab: Lab) -> World:
    """The session's lab."""
    return World(lab)


def _leader(world: World) -> str:
    return world.api.cluster().leader


def test_a_lone_site_keeps_what_it_runs_and_takes_over_nothing_until_an_override(world: World) -> None:
    watch = world.guest("alone", THERE)
    try:
        for node in (HERE, THERE):
            order = read_order(world.lab.node(node).state_dir / "lib-novacron")
            assert order is not None
            assert order.pause_at_ms is None, "where the majority can't outlive a site no lease ends by time"
        world.lab.link("london-paris").change(Change(state="hole"))
        until("no majority", lambda: not _leader(world), RESTART_S)
        for override in (False, True):
            with pytest.raises(NoMajority):
                world.api.fail_over("alone", REASON, to=HERE, override=override, risk="whatever")
        assert not world.has_domain(HERE, "alone")
        verdict = watch.until_ticks(10, TICKS_S)
        assert verdict.ok, verdict.problems
        assert world.running_on("alone") == [THERE]

        world.lab.restore_links()
        until("a leader", lambda: _leader(world), RESTART_S)
        with pytest.raises(StateRefused) as held:
            world.api.fail_over("alone", REASON, to=HERE)
        with pytest.raises(StateRefused) as asked:
            world.api.fail_over("alone", REASON, to=HERE, override=True)
        assert (held.value.refusal, asked.value.refusal) == ("lease-held", "risk-changed")
        assert world.running_on("alone") == [THERE]

        # A decree that is wrong: Paris lives. It hears of it with its next renewal, and demotes itself.
        risk = str(asked.value.fields["detail"])
        taken = world.api.fail_over("alone", REASON, to=HERE, override=True, risk=risk)
        assert (taken.guest.node, taken.guest.state) == (HERE, "running")
        until("the old owner to pause it", lambda: world.domain_state(THERE, "alone") == "paused", RESTART_S)
        until("it to run at the new owner", lambda: world.running_on("alone") == [HERE], BOOT_S)
        decree, grant = [one for one in world.api.audit().entries if one.command in ("override", "failover")][-2:]
        said = (decree.command, grant.command, decree.by, grant.by)
        assert said == ("override", "failover", *[f"operator:api@{HERE}"] * 2)
        assert risk in decree.detail
        assert REASON in grant.detail
    finally:
        world.lab.restore_links()
        until("a leader", lambda: _leader(world), RESTART_S)
        old = ["virsh", "-q", "-c", world.lab.node(THERE).libvirt_uri]
        for command in ("destroy", "undefine"):
            subprocess.run([*old, command, "alone"], capture_output=True, timeout=BOOT_S, check=False)
        world.remove("alone")
