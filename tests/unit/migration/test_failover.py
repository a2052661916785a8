"""Failovers at an operator's word, led by a site's manager: nothing is decreed before the target is known to be fit."""

import pytest

from actors.control.commands import AdvanceMove, BeginMove, DefineGuest, FailOver, Override, StopGuest, YieldLease
from actors.control.model import LeaseState, Run
from actors.errors import (
    Conflict,
    GuestUnknown,
    NodeUnknown,
    NoMajority,
    NoPlacement,
    NoTakeover,
    RuleBroken,
    SameNode,
    StateRefused,
)
from actors.hypervisor.messages import TakenOver
from actors.migration.messages import FailOverGuest
from actors.migration.states import State
from tests.unit.migration.site import DEFINITION, TwoSites

ASKED = FailOverGuest(guest="web", by="operator:test", reason="it burnt down", to="b1")


def asked(**changes: object) -> FailOverGuest:
    return FailOverGuest(**{"guest": "web", "by": "operator:test", "reason": "it burnt down", "to": "b1", **changes})


@pytest.fixture
async def lost(cluster: TwoSites) -> TwoSites:
    """The guest's node is gone: its agent answers no more, and its lease has not ended."""
    await cluster.world.states.guest("web")
    cluster.world.down.add(("agent", "a1"))
    return cluster


async def fail_over(cluster: TwoSites, order: FailOverGuest = ASKED, lead: str = "b1") -> TakenOver:
    return await cluster.ask("fail_over", order, TakenOver, lead)


def unchanged(cluster: TwoSites) -> None:
    state = cluster.world.states.state
    assert (state.guests["web"].node, state.leases["a1"].state) == ("a1", LeaseState.ACTIVE)
    assert not any(isinstance(command, Override | FailOver) for command in cluster.world.states.asked)
    assert cluster.agent("b1").state("web") == "absent"


def ends_lease(cluster: TwoSites, node: str = "a1") -> None:
    states = cluster.world.states
    states.must(YieldLease(node=node, number=states.state.leases[node].number), f"node:{node}")


async def test_a_guest_whose_nodes_lease_has_ended_is_taken_over(lost: TwoSites) -> None:
    ends_lease(lost)
    taken = await fail_over(lost)
    assert (taken.guest.node, lost.agent("b1").state("web")) == ("b1", "running")
    state = lost.world.states.state
    assert (state.guests["web"].node, state.guests["web"].run) == ("b1", Run.RUNNING)
    entry = state.audit[-1]
    assert (entry.command, entry.by) == ("failover", "operator:test")
    assert "it burnt down" in entry.detail


async def test_the_site_of_the_target_leads_it(lost: TwoSites) -> None:
    ends_lease(lost)
    assert (await fail_over(lost, lead="a1")).guest.node == "b1"
    assert lost.world.methods("manager", "b1") == ["fail_over"]


async def test_while_the_lease_lasts_nothing_happens_without_an_override(lost: TwoSites) -> None:
    for lead in ("a1", "b1"):
        with pytest.raises(StateRefused) as no:
            await fail_over(lost, lead=lead)
        assert no.value.refusal == "lease-held"
    unchanged(lost)


async def test_an_override_repeats_its_risk_and_both_are_in_the_trail(lost: TwoSites) -> None:
    for wrong in ("", "I know"):
        with pytest.raises(StateRefused) as no:
            await fail_over(lost, asked(override=True, risk=wrong))
        assert no.value.refusal == "risk-changed"
    assert lost.world.states.state.guests["web"].node == "a1"
    assert lost.world.states.state.leases["a1"].state is LeaseState.ACTIVE
    risk = str(no.value.fields["detail"])
    await fail_over(lost, asked(override=True, risk=risk))
    state = lost.world.states.state
    assert (state.guests["web"].node, state.leases["a1"].state) == ("b1", LeaseState.OVERRIDDEN)
    decree, taken = state.audit[-2:]
    assert [decree.command, taken.command] == ["override", "failover"]
    assert {decree.by, taken.by} == {"operator:test"}
    assert risk in decree.detail
    assert "it burnt down" in decree.detail


async def test_nothing_is_decreed_for_a_target_that_can_not_boot_it(lost: TwoSites) -> None:
    lost.agent("b1").fail = "check_takeover"
    with pytest.raises(NoTakeover):
        await fail_over(lost, asked(override=True, risk="whatever"))
    unchanged(lost)


async def test_a_move_may_leave_two_nodes_that_may_run_it(lost: TwoSites) -> None:
    states = lost.world.states
    epoch = states.state.guests["web"].epoch
    states.must(BeginMove(job="j", guest="web", target="a2", epoch=epoch), "node:a1")
    for state in (State.PREPARE, State.PERFORM):
        states.must(AdvanceMove(job="j", state=state), "node:a1")
    ends_lease(lost)
    with pytest.raises(StateRefused, match="a2 may still run web"):
        await fail_over(lost)
    ends_lease(lost, "a2")
    await fail_over(lost)
    assert (states.state.guests["web"].node, states.state.jobs["j"].state) == ("b1", State.FAILED)


async def test_what_can_be_started_where_it_is_is_not_taken_over(cluster: TwoSites) -> None:
    states = cluster.world.states
    epoch = (await states.guest("web")).epoch
    with pytest.raises(SameNode):
        await fail_over(cluster, asked(to="a1"), lead="a1")
    states.must(StopGuest(guest="web", epoch=epoch), "node:a1")
    cluster.agent("a1").put("web", "shut-off")
    with pytest.raises(Conflict, match="shut-off on a1"):
        await fail_over(cluster)


async def test_a_stopped_guest_of_a_node_that_does_not_answer_is_started_elsewhere(lost: TwoSites) -> None:
    epoch = lost.world.states.state.guests["web"].epoch
    lost.world.states.must(StopGuest(guest="web", epoch=epoch), "node:a1")
    assert (await fail_over(lost)).guest.node == "b1"
    assert lost.world.states.state.guests["web"].run is Run.RUNNING


async def test_what_nobody_knows(lost: TwoSites) -> None:
    ends_lease(lost)
    with pytest.raises(NodeUnknown):
        await fail_over(lost, asked(to="c1"))
    with pytest.raises(GuestUnknown):
        await fail_over(lost, asked(guest="ghost"))
    lost.world.states.away = True
    with pytest.raises(NoMajority):
        await fail_over(lost)


async def test_placement_chooses_among_those_that_answer(lost: TwoSites) -> None:
    ends_lease(lost)
    lost.agent("a2").free_mib = 0
    assert (await fail_over(lost, asked(to=""))).guest.node == "b1"


async def test_nothing_is_decreed_where_there_is_room_nowhere(lost: TwoSites) -> None:
    for node in ("a2", "b1"):
        lost.agent(node).free_mib = 0
    with pytest.raises(NoPlacement):
        await fail_over(lost, asked(to="", override=True, risk="whatever"))
    unchanged(lost)


async def test_a_node_that_is_named_keeps_the_rules_that_placement_keeps(lost: TwoSites) -> None:
    ends_lease(lost)
    states = lost.world.states
    rules = "<metadata><n:placement xmlns:n='https://novacron.dev/xmlns/placement/1' sites='left'/></metadata></domain>"
    number = states.state.guests["web"].definition_number
    order = DefineGuest(guest="web", definition=DEFINITION.replace("</domain>", rules), after=number)
    states.must(order, "node:a1")
    with pytest.raises(RuleBroken, match="sovereignty: in site right, allowed are left"):
        await fail_over(lost)
    assert (await fail_over(lost, asked(to="a2"))).guest.node == "a2"


async def test_a_group_that_was_lost_with_the_node_holds_no_failover_up(lost: TwoSites) -> None:
    ends_lease(lost)
    states = lost.world.states
    rules = "<metadata><n:placement xmlns:n='https://novacron.dev/xmlns/placement/1' together='p'/></metadata></domain>"
    number = states.state.guests["web"].definition_number
    order = DefineGuest(guest="web", definition=DEFINITION.replace("</domain>", rules), after=number)
    states.must(order, "node:a1")
    assert (await fail_over(lost)).guest.node == "b1"
