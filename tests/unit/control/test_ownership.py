"""One owner: starts, stops, moves, failovers and overrides, command by command."""

import pytest

from actors.control.commands import (
    AddMember,
    AdvanceMove,
    BeginMove,
    CommitMove,
    DefineGuest,
    DrainNode,
    EndMove,
    EnrolMember,
    ExpireLease,
    FailOver,
    JoinNode,
    MarkReplica,
    Override,
    RemoveGuest,
    RemoveMember,
    RemoveNode,
    RenewLease,
    SetReplica,
    StartGuest,
    StopGuest,
    VoidMove,
    YieldLease,
)
from actors.control.decision import Electorate
from actors.control.leases import wait_ms
from actors.control.model import VERSION, LeaseState, Run
from actors.control.move_rules import BEFORE, ENDED_JOBS_KEPT, SKIPS_SINCE
from actors.control.ownership import Right, risk_of, standing
from actors.migration.states import ENDED, PAST_NO_RETURN, Ruling, State
from tests.unit.control.kit import Cluster, three_sites


def expiry(cluster, node, **other):
    lease = cluster.state.leases[node]
    fields = {
        "number": lease.number,
        "renewal": lease.renewal,
        "waited_ms": wait_ms(lease.terms),
        "drift_ppm": lease.terms.drift_ppm,
    }
    return ExpireLease(node=node, **(fields | other))


def begun(cluster, guest="web", target="b", job="m-1", until=State.BEGIN):
    cluster.done(BeginMove(job=job, guest=guest, target=target, epoch=cluster.state.guests[guest].epoch))
    for state in (State.PREPARE, State.PERFORM, State.SWITCHOVER):
        if list(State).index(state) <= list(State).index(until):
            cluster.done(AdvanceMove(job=job, state=state))


def rights(cluster, guest="web"):
    return {node: standing(cluster.state, guest, node).right for node in cluster.state.nodes}


# -- starts and stops ------------------------------------------------------------------------------------------------


def test_a_start_grants_a_newer_epoch_and_a_second_start_is_refused():
    cluster = three_sites()
    first = cluster.running("web", "a")
    assert cluster.refused(StartGuest(guest="web", node="b", epoch=first)) == "running"
    assert rights(cluster) == {"a": Right.RUN, "b": Right.NONE, "c": Right.NONE}
    assert standing(cluster.state, "web", "a").epoch == first
    assert cluster.refused(StopGuest(guest="web", epoch=first)) == "not-yours"
    cluster.done(StopGuest(guest="web", epoch=first), by="node:a")
    assert set(rights(cluster).values()) == {Right.NONE}
    assert cluster.refused(StartGuest(guest="web", node="b", epoch=0)) == "stale"
    assert cluster.done(StartGuest(guest="web", node="b", epoch=first)) > first


def test_a_guest_that_is_defined_anew_goes_on_above_its_old_epochs():
    cluster = three_sites()
    old = cluster.running("web", "a")
    assert cluster.refused(RemoveGuest(guest="web", epoch=old)) == "running"
    cluster.done(StopGuest(guest="web", epoch=old), by="node:a")
    cluster.done(RemoveGuest(guest="web", epoch=old))
    assert cluster.running("web", "b") > old


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda c: None, "unknown"),
        (lambda c: c.done(JoinNode(node="x", site="rome", role="witness", speaks=VERSION)), "no-host"),
        (lambda c: c.done(JoinNode(node="x", site="rome")), "no-lease"),
        (lambda c: (c.joined("x"), c.done(DrainNode(node="x", draining=True))), "draining"),
    ],
)
def test_a_guest_is_granted_only_to_a_host_with_a_lease(prepare, code):
    cluster = three_sites()
    cluster.running("web", "a")
    cluster.done(DefineGuest(guest="db", definition="<domain/>"))
    prepare(cluster)
    assert cluster.refused(StartGuest(guest="db", node="x", epoch=0)) == code
    epoch = cluster.state.guests["web"].epoch
    assert cluster.refused(BeginMove(job="m", guest="web", target="x", epoch=epoch)) == code


# -- moves -----------------------------------------------------------------------------------------------------------


def test_a_move_has_one_point_of_no_return():
    cluster = three_sites()
    before = cluster.running("web", "a")
    begun(cluster, until=State.PREPARE)
    assert rights(cluster) == {"a": Right.LEAVE, "b": Right.NONE, "c": Right.NONE}
    cluster.done(AdvanceMove(job="m-1", state=State.PERFORM))
    assert rights(cluster) == {"a": Right.LEAVE, "b": Right.LEAVE, "c": Right.NONE}
    cluster.done(AdvanceMove(job="m-1", state=State.SWITCHOVER))
    after = cluster.done(CommitMove(job="m-1"))
    assert after > before
    assert rights(cluster) == {"a": Right.NONE, "b": Right.RUN, "c": Right.NONE}
    assert cluster.refused(AdvanceMove(job="m-1", state=State.ROLLING_BACK)) == "past-no-return"
    assert cluster.done(CommitMove(job="m-1")) == after
    cluster.done(AdvanceMove(job="m-1", state=State.CONFIRM))
    assert cluster.refused(EndMove(job="m-1", state=State.FAILED)) == "past-no-return"
    cluster.done(EndMove(job="m-1", state=State.COMPLETED))
    assert cluster.state.guests["web"].job == ""
    assert standing(cluster.state, "web", "b").epoch == after


@pytest.mark.parametrize("version", [SKIPS_SINCE - 1, SKIPS_SINCE])
def test_the_states_that_guard_nothing_may_be_skipped_from_version_5_on(version):
    cluster = three_sites(version=version)
    cluster.running("web", "a")
    begun(cluster)
    perform, over = AdvanceMove(job="m-1", state=State.PERFORM), EndMove(job="m-1", state=State.COMPLETED)
    if version < SKIPS_SINCE:
        assert cluster.refused(perform) == "not-then"
        cluster.done(AdvanceMove(job="m-1", state=State.PREPARE))
    cluster.done(perform)
    assert rights(cluster) == {"a": Right.LEAVE, "b": Right.LEAVE, "c": Right.NONE}
    assert cluster.refused(over) == "not-then"
    cluster.done(CommitMove(job="m-1"))
    if version < SKIPS_SINCE:
        assert cluster.refused(over) == "not-then"
        cluster.done(AdvanceMove(job="m-1", state=State.CONFIRM))
    cluster.done(over)
    assert rights(cluster) == {"a": Right.NONE, "b": Right.RUN, "c": Right.NONE}


def test_a_move_that_was_given_up_never_begins():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    void = VoidMove(job="m-1", guest="web", source="a", target="b")
    cluster.done(void)
    assert cluster.refused(BeginMove(job="m-1", guest="web", target="b", epoch=epoch)) == "busy"
    assert cluster.state.guests["web"].job == ""
    cluster.done(void)
    begun(cluster, job="m-2")
    cluster.done(VoidMove(job="m-2", guest="web", source="a", target="b"))
    assert rights(cluster) == {"a": Right.RUN, "b": Right.NONE, "c": Right.NONE}
    assert cluster.state.jobs["m-2"].state is State.FAILED


def test_a_move_that_was_started_can_not_be_taken_for_one_that_never_began():
    cluster = three_sites()
    cluster.running("web", "a")
    begun(cluster, until=State.PERFORM)
    void = VoidMove(job="m-1", guest="web", source="a", target="b")
    assert cluster.refused(void) == "not-then"
    cluster.done(CommitMove(job="m-1"))
    assert cluster.refused(void) == "past-no-return"
    cluster.done(EndMove(job="m-1", state=State.COMPLETED))
    assert cluster.refused(void) == "past-no-return"


def test_a_rolled_back_move_leaves_the_guest_and_its_epoch_is_never_used():
    cluster = three_sites()
    before = cluster.running("web", "a")
    begun(cluster, until=State.PERFORM)
    promised = cluster.state.jobs["m-1"].epoch
    cluster.done(AdvanceMove(job="m-1", state=State.ROLLING_BACK, error="cancelled"))
    assert cluster.refused(EndMove(job="m-1", state=State.CANCELLED)) == "not-then"
    cluster.done(EndMove(job="m-1", state=State.CANCELLED, ruling=Ruling.SOURCE_KEEPS))
    assert cluster.refused(CommitMove(job="m-1")) == "not-then"
    assert standing(cluster.state, "web", "a") == (Right.RUN, before)
    begun(cluster, job="m-2")
    assert cluster.state.jobs["m-2"].epoch > promised


def test_a_guest_that_ended_during_its_move_is_nobodys():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    begun(cluster, until=State.SWITCHOVER)
    assert cluster.refused(StopGuest(guest="web", epoch=epoch), by="node:a") == "busy"
    cluster.done(AdvanceMove(job="m-1", state=State.ROLLING_BACK))
    cluster.done(EndMove(job="m-1", state=State.FAILED, ruling=Ruling.GUEST_ENDED))
    assert set(rights(cluster).values()) == {Right.NONE}
    assert cluster.state.guests["web"].run is Run.STOPPED


def test_the_target_may_turn_out_to_have_it_while_rolling_back():
    cluster = three_sites()
    cluster.running("web", "a")
    begun(cluster, until=State.SWITCHOVER)
    cluster.done(AdvanceMove(job="m-1", state=State.ROLLING_BACK))
    cluster.done(CommitMove(job="m-1"))
    assert rights(cluster)["b"] is Right.RUN


def test_a_move_that_was_never_started_can_not_be_committed():
    cluster = three_sites()
    cluster.running("web", "a")
    begun(cluster, until=State.PREPARE)
    assert cluster.refused(CommitMove(job="m-1")) == "not-then"
    cluster.done(AdvanceMove(job="m-1", state=State.ROLLING_BACK))
    assert cluster.refused(CommitMove(job="m-1")) == "not-then"
    cluster.done(EndMove(job="m-1", state=State.FAILED))


def test_a_moving_guest_is_frozen():
    cluster = three_sites()
    cluster.running("web", "a")
    begun(cluster)
    number = cluster.state.guests["web"].definition_number
    epoch = cluster.state.guests["web"].epoch
    assert cluster.refused(DefineGuest(guest="web", definition="<other/>", after=number)) == "busy"
    assert cluster.refused(BeginMove(job="m-2", guest="web", target="c", epoch=epoch)) == "busy"
    assert cluster.refused(RemoveGuest(guest="web", epoch=epoch)) == "running"


def test_every_state_of_a_move_can_be_entered_here_as_the_manager_enters_it():
    assert set(BEFORE) == set(State) - {State.BEGIN}
    for state, before in BEFORE.items():
        assert not before & ENDED
        assert (state in PAST_NO_RETURN) or not before & PAST_NO_RETURN


def test_only_the_newest_ended_moves_are_kept():
    cluster = three_sites()
    cluster.running("web", "a")
    for number in range(ENDED_JOBS_KEPT + 3):
        begun(cluster, job=f"m-{number}")
        cluster.done(AdvanceMove(job=f"m-{number}", state=State.ROLLING_BACK))
        cluster.done(EndMove(job=f"m-{number}", state=State.FAILED))
    assert len(cluster.state.jobs) == ENDED_JOBS_KEPT
    assert "m-2" not in cluster.state.jobs
    assert "m-3" in cluster.state.jobs


# -- failover --------------------------------------------------------------------------------------------------------


def test_a_failover_waits_for_the_end_of_the_owners_lease():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    fail_over = FailOver(guest="web", to="b", epoch=epoch)
    assert cluster.refused(fail_over) == "lease-held"
    assert cluster.refused(expiry(cluster, "a", waited_ms=wait_ms(cluster.state.cluster.terms) - 1)) == "too-soon"
    assert cluster.refused(expiry(cluster, "a", drift_ppm=1_001)) == "too-soon"
    cluster.done(RenewLease(node="a", number=cluster.state.leases["a"].number, renewal=1, terms=2), by="node:a")
    assert cluster.refused(expiry(cluster, "a", renewal=0)) == "stale"
    cluster.done(expiry(cluster, "a"))
    assert cluster.done(fail_over) > epoch
    assert rights(cluster) == {"a": Right.NONE, "b": Right.RUN, "c": Right.NONE}
    assert cluster.refused(fail_over) == "stale"


def test_an_owner_that_is_back_in_time_keeps_its_guests():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    cluster.done(expiry(cluster, "a"))
    renewal = RenewLease(node="a", number=cluster.state.leases["a"].number, renewal=1, terms=2)
    assert cluster.refused(renewal, by="node:a") == "lease-ended"
    cluster.leased("a")
    assert cluster.refused(FailOver(guest="web", to="b", epoch=epoch)) == "lease-held"
    assert standing(cluster.state, "web", "a") == (Right.RUN, epoch)


def test_in_a_started_move_both_sides_must_have_lost_their_lease():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    begun(cluster, until=State.PERFORM)
    cluster.done(expiry(cluster, "a"))
    assert cluster.refused(FailOver(guest="web", to="c", epoch=epoch)) == "lease-held"
    cluster.done(expiry(cluster, "b"))
    cluster.done(FailOver(guest="web", to="c", epoch=epoch))
    assert cluster.state.jobs["m-1"].state is State.FAILED
    assert cluster.refused(CommitMove(job="m-1")) == "not-then"
    assert rights(cluster) == {"a": Right.NONE, "b": Right.NONE, "c": Right.RUN}


def test_past_the_point_of_no_return_only_the_target_counts():
    cluster = three_sites()
    cluster.running("web", "a")
    begun(cluster, until=State.PERFORM)
    epoch = cluster.done(CommitMove(job="m-1"))
    cluster.done(expiry(cluster, "b"))
    cluster.done(FailOver(guest="web", to="c", epoch=epoch))
    assert cluster.state.jobs["m-1"].state is State.COMPLETED


def test_a_failover_goes_on_from_a_replica_of_the_same_history():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    generation = cluster.done(SetReplica(guest="web", node="b", rpo_ms=5000))
    mark = {"guest": "web", "node": "b", "generation": generation, "captured_at_ms": 7}
    cluster.done(MarkReplica(**mark, of_epoch=epoch, checkpoint=4))
    assert cluster.refused(MarkReplica(**mark, of_epoch=epoch, checkpoint=4)) == "stale"
    cluster.done(expiry(cluster, "a"))
    assert cluster.refused(FailOver(guest="web", to="b", epoch=epoch, checkpoint=3)) == "stale"
    assert cluster.refused(FailOver(guest="web", to="c", epoch=epoch, checkpoint=5)) == "unknown"
    newer = cluster.done(FailOver(guest="web", to="b", epoch=epoch, checkpoint=5))
    assert "web/b" not in cluster.state.replicas
    # The old primary is back: nothing that it has counts any more (V15).
    cluster.leased("a")
    cluster.done(SetReplica(guest="web", node="a", rpo_ms=5000))
    assert cluster.refused(MarkReplica(**mark | {"node": "a"}, of_epoch=epoch, checkpoint=9)) == "stale"
    cluster.done(expiry(cluster, "b"))
    assert cluster.refused(FailOver(guest="web", to="a", epoch=newer, checkpoint=9)) == "stale"


# -- leases that no clock ends, and overrides ------------------------------------------------------------------------


def test_two_sites_need_a_third_voice_before_leases_end_by_time():
    cluster = Cluster()
    cluster.joined("a", "london")
    cluster.joined("a2", "london")
    cluster.joined("b", "paris")
    assert cluster.refused(cluster.terms()) == "no-third-voice"
    cluster.done(JoinNode(node="w", site="rome", role="witness", speaks=VERSION))
    cluster.done(cluster.terms())
    assert cluster.refused(RemoveNode(node="w")) == "no-third-voice"


def test_a_lone_site_takes_over_nothing_until_an_operator_says_what_is_risked():
    cluster = Cluster()
    cluster.joined("a", "london")
    cluster.joined("b", "paris")
    epoch = cluster.running("web", "a")
    cluster.running("db", "b")
    assert cluster.refused(expiry(cluster, "a")) == "lease-held"
    decree = {"nodes": ("a",), "reason": "the site burns"}
    assert cluster.refused(Override(**decree, risk="nothing")) == "risk-changed"
    risk = risk_of(cluster.state, ("a",))
    assert "web" in risk
    assert "db" not in risk
    cluster.done(Override(**decree, risk=risk, lineage=True), by="operator:ann")
    assert risk in cluster.audit[-1].detail
    assert cluster.audit[-1].by == "operator:ann"
    newer = cluster.done(FailOver(guest="web", to="b", epoch=epoch))
    # Above whatever the lost part of the cluster went on to grant.
    assert newer > epoch + 2**31
    assert cluster.state.leases["a"].state is LeaseState.OVERRIDDEN


def test_a_holder_that_gave_up_its_lease_frees_its_guests():
    cluster = three_sites()
    epoch = cluster.running("web", "a")
    number = cluster.state.leases["a"].number
    assert cluster.refused(YieldLease(node="a", number=number), by="node:b") == "not-yours"
    cluster.done(YieldLease(node="a", number=number), by="node:a")
    cluster.done(FailOver(guest="web", to="b", epoch=epoch))


def test_new_terms_hold_from_the_next_renewal_on():
    cluster = Cluster()
    for node in ("a", "b", "c"):
        cluster.joined(node)
    number = cluster.state.leases["a"].number
    cluster.done(cluster.terms(takeover="lease", duration_ms=2000, pause_ms=500))
    # Its holder was told that it need not pause, so nothing ends its lease.
    assert cluster.refused(expiry(cluster, "a")) == "lease-held"
    assert cluster.refused(RenewLease(node="a", number=number, renewal=1, terms=1), by="node:a") == "terms-changed"
    cluster.done(RenewLease(node="a", number=number, renewal=1, terms=2), by="node:a")
    cluster.done(cluster.terms(takeover="lease", duration_ms=60_000, pause_ms=500))
    cluster.done(expiry(cluster, "a"))


def test_a_node_goes_only_when_nothing_is_left_on_it():
    cluster = three_sites()
    cluster.joined("d")
    epoch = cluster.running("web", "d")
    assert cluster.refused(RemoveNode(node="d")) == "lease-held"
    number = cluster.state.leases["d"].number
    cluster.done(YieldLease(node="d", number=number), by="node:d")
    assert cluster.refused(RemoveNode(node="d")) == "in-use"
    cluster.done(StopGuest(guest="web", epoch=epoch))
    cluster.done(RemoveGuest(guest="web", epoch=epoch))
    cluster.done(RemoveNode(node="d"))
    cluster.joined("d")
    assert cluster.state.leases["d"].number > number


def test_a_third_voice_is_taken_out_only_once_it_is_lost():
    cluster = three_sites()
    cluster.among = Electorate(voters=(1, 2, 3))
    for number, node in enumerate("abc", 1):
        enrol = EnrolMember(number=number, node=node, site="x", key=f"{number}" * 64)
        cluster.done(enrol, by=f"member:{node}")
    assert cluster.refused(RemoveMember(node="c", number=3)) == "no-third-voice"
    cluster.done(RemoveMember(node="c", number=3, lost=True))
    assert cluster.state.nodes["c"].speaks == 0
    # It comes back under a new number, with the others still in touch.
    assert cluster.refused(AddMember(node="c")) == "changing"
    cluster.among = Electorate(voters=(1, 2))
    assert cluster.done(AddMember(node="c")) == 4
