"""The machine as such: total, deterministic, bounded, the same from a snapshot."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.control import audit, snapshot
from actors.control.commands import CloseSession, DefineGuest, JoinNode, OpenSession, SetFlag, SetPolicy, Upgrade, seal
from actors.control.decision import Electorate, Refusal
from actors.control.engine import apply, skip
from actors.control.envelope import Envelope
from actors.control.model import VERSION, ControlState, Flag, LeaseState
from actors.control.ownership import may_execute
from actors.control.sessions import ANSWERS_KEPT, PER_CLIENT_MAX
from actors.control.watch import KEPT, Compacted, History
from actors.errors import SetupMissing, StateCorrupt
from tests.unit.control.chance import KINDS, some_command
from tests.unit.control.kit import Cluster, three_sites


def random_run(seed: int, steps: int) -> tuple[Cluster, list[tuple[type, str]]]:
    rng = random.Random(seed)
    cluster, seen = three_sites(version=1), []
    for _ in range(steps):
        cluster.among = Electorate(voters=(1, 2, 3), bft=rng.random() < 0.3)
        command, by = some_command(rng, cluster.state)
        epochs = {name: guest.epoch for name, guest in cluster.state.guests.items()}
        before = {name: may_execute(cluster.state, guest) for name, guest in cluster.state.guests.items()}
        free = {n for n, lease in cluster.state.leases.items() if lease.state is not LeaseState.ACTIVE}
        result = cluster.ask(command, by)
        seen.append((type(command), result.code))
        for name, guest in cluster.state.guests.items():
            assert guest.epoch >= epochs.get(name, 0)
            # Nobody is let in beside somebody who may still run it: V1, by the state alone.
            let_in = may_execute(cluster.state, guest) - before.get(name, frozenset())
            if let_in and type(command).__name__ not in {"AdvanceMove"}:
                assert before.get(name, frozenset()) <= free
        if rng.random() < 0.1:
            cluster.restart_twin()
    cluster.agreed()
    return cluster, seen


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_two_members_always_agree(seed):
    cluster, _ = random_run(seed, 150)
    assert audit.first_fault(cluster.audit) is None
    assert cluster.audit[-1].link == cluster.state.audit_link


def test_chance_reaches_every_command_and_nearly_every_refusal():
    seen = [each for seed in range(18) for each in random_run(seed, 300)[1]]
    assert {kind for kind, code in seen if not code} >= set(KINDS)
    rare = {
        Refusal.TOO_NEW,
        Refusal.SESSION_GAP,
        Refusal.FORGOTTEN,
        Refusal.NOT_YOURS,
        Refusal.FULL,
        Refusal.RISK_CHANGED,
        Refusal.LEASE_HELD,
        Refusal.LAST_MEMBER,
        Refusal.NO_QUORUM_LEFT,
    }
    assert {code for _, code in seen if code} >= set(Refusal) - rare


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(entry):
    cluster = Cluster()
    assert cluster.raw(entry).code == "malformed"


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.data())
def test_a_damaged_command_never_raises(rng, data):
    cluster = three_sites()
    command, by = some_command(rng, cluster.state)
    body = bytearray(msgspec.msgpack.encode(command))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cluster.raw(msgspec.msgpack.encode(Envelope(version=1, by=by, body=bytes(body))))
    cluster.agreed()


def test_an_entry_that_is_too_long_is_refused():
    assert Cluster().raw(bytes(200_000)).code == "malformed"


def test_entries_come_in_order_and_without_gaps():
    state = ControlState()
    skip(state, 1)
    with pytest.raises(ValueError, match="can't follow"):
        apply(state, 1, b"")
    with pytest.raises(ValueError, match="can't follow"):
        skip(state, 3)


# -- versions -------------------------------------------------------------------------------------------------------


def test_a_newer_command_is_refused_whatever_is_in_it():
    cluster = Cluster()
    known = msgspec.msgpack.encode(SetPolicy(name="p", value="v"))
    for body in (known, msgspec.msgpack.encode({"do": "teleport"}), b"\xc1"):
        entry = msgspec.msgpack.encode(Envelope(version=VERSION, by="operator:ann", body=body))
        assert cluster.raw(entry).code == "too-new"
    assert cluster.state.policies == {}


def test_a_command_with_a_field_of_tomorrow_is_refused_today():
    body = msgspec.msgpack.encode({"do": "setpolicy", "name": "p", "value": "v", "hue": 3})
    assert Cluster().raw(msgspec.msgpack.encode(Envelope(version=1, by="x", body=body))).code == "malformed"


def test_newer_rules_need_every_member_to_know_them():
    cluster = three_sites(version=1)
    cluster.done(JoinNode(node="a", site="london", speaks=VERSION - 1))
    assert cluster.refused(Upgrade(to=VERSION)) == "too-new"
    assert cluster.refused(Upgrade(to=1)) == "stale"


def test_a_member_that_does_not_know_the_rules_it_promised_stops():
    state = ControlState()
    apply(state, 1, seal(JoinNode(node="a", site="x", speaks=VERSION + 1), by="m"))
    with pytest.raises(SetupMissing, match=f"version {VERSION + 1}"):
        apply(state, 2, seal(Upgrade(to=VERSION + 1), by="m"))
    assert state.cluster.version == 1
    assert state.applied == 1


# -- sessions -------------------------------------------------------------------------------------------------------


def test_a_command_that_is_sent_twice_takes_effect_once():
    cluster = three_sites()
    session = cluster.done(OpenSession())
    command = DefineGuest(guest="web", definition="<d/>")
    first = cluster.ask(command, session=session, number=1)
    again = cluster.ask(command, session=session, number=1)
    assert again == first
    assert cluster.ask(command, session=session, number=2).code == "stale"
    assert cluster.ask(command, session=session, number=2).code == "stale"
    assert cluster.state.audit_count == len(cluster.audit)


def test_what_is_forgotten_is_refused_and_not_done_again():
    cluster = three_sites()
    session = cluster.done(OpenSession())
    for number in range(1, ANSWERS_KEPT + 3):
        cluster.done(SetPolicy(name="p", value=str(number)), session=session, number=number)
    assert cluster.refused(SetPolicy(name="p", value="old"), session=session, number=2) == "forgotten"
    assert cluster.ask(SetPolicy(name="p", value="old"), session=session, number=3).accepted
    assert cluster.state.policies["p"].value == str(ANSWERS_KEPT + 2)
    assert cluster.refused(SetPolicy(name="p", value="x"), session=session, number=1000) == "session-gap"
    assert len(cluster.state.sessions[str(session)].answers) == ANSWERS_KEPT


def test_a_session_is_its_clients_and_the_oldest_one_goes():
    cluster = three_sites()
    sessions = [cluster.done(OpenSession()) for _ in range(PER_CLIENT_MAX)]
    assert cluster.refused(SetPolicy(name="p", value="v"), by="operator:eve", session=sessions[0], number=1) == (
        "session-unknown"
    )
    cluster.done(SetPolicy(name="p", value="v"), session=sessions[0], number=1)
    cluster.done(OpenSession())
    assert str(sessions[0]) in cluster.state.sessions
    assert cluster.refused(SetPolicy(name="p", value="v"), session=sessions[1], number=1) == "session-unknown"
    cluster.done(CloseSession(closes=sessions[0]), session=sessions[0], number=2)
    assert cluster.refused(SetPolicy(name="p", value="v"), session=sessions[0], number=1) == "session-unknown"


# -- audit ----------------------------------------------------------------------------------------------------------


def test_the_trail_outlives_what_the_state_keeps():
    cluster = three_sites()
    for number in range(audit.KEPT + 5):
        cluster.done(SetFlag(component="hde", percent=number % 101, reason=f"step {number}"))
    assert len(cluster.state.audit) == audit.KEPT
    assert len(cluster.audit) == cluster.state.audit_count
    assert audit.first_fault(cluster.audit) is None


@pytest.mark.parametrize(
    "changed", [{"by": "operator:eve"}, {"detail": "x"}, {"body": b"x"}, {"index": 1}, {"number": 9}]
)
def test_a_changed_audit_entry_is_found(changed):
    cluster = three_sites()
    trail = list(cluster.audit)
    trail[4] = msgspec.structs.replace(trail[4], **changed)
    assert audit.first_fault(trail) == trail[4].number
    assert audit.first_fault(cluster.audit[:3] + cluster.audit[4:]) == 5


# -- snapshots ------------------------------------------------------------------------------------------------------


def test_equal_states_have_equal_bytes_whatever_the_order_of_their_tables():
    cluster, _ = random_run(3, 200)
    state = snapshot.decode(snapshot.encode(cluster.state))
    for name in ("nodes", "leases", "guests", "jobs", "policies", "sessions"):
        setattr(state, name, dict(reversed(getattr(state, name).items())))
    assert snapshot.encode(state) == snapshot.encode(cluster.state)
    assert snapshot.digest_of(snapshot.encode(state)) == snapshot.digest_of(snapshot.encode(cluster.state))
    state.policies["q"] = Flag(component="hde")
    assert snapshot.digest_of(snapshot.encode(state)) != snapshot.digest_of(snapshot.encode(cluster.state))


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_snapshot_is_refused(data):
    good = snapshot.encode(three_sites().state)
    bad = bytearray(good)
    at = data.draw(st.integers(0, len(bad) - 1))
    bad[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateCorrupt):
        snapshot.decode(bytes(bad))
    with pytest.raises(StateCorrupt):
        snapshot.decode(good[:at])
    with pytest.raises(StateCorrupt):
        snapshot.decode(good + b"\0")


def test_a_snapshot_that_breaks_an_invariant_is_refused():
    cluster = three_sites()
    cluster.running("web", "a")
    del cluster.state.nodes["a"]
    with pytest.raises(StateCorrupt, match="no node"):
        snapshot.decode(snapshot.encode(cluster.state))


def test_a_snapshot_of_newer_rules_asks_for_a_newer_novacron():
    state = ControlState()
    state.cluster = msgspec.structs.replace(state.cluster, version=VERSION + 1)
    with pytest.raises(SetupMissing):
        snapshot.decode(snapshot.encode(state))


# -- watching -------------------------------------------------------------------------------------------------------


def test_a_watcher_goes_on_from_its_revision_and_sees_all_or_is_told():
    cluster = three_sites()
    history = History(cluster.state.revision)
    start = cluster.state.revision
    cluster.events.clear()
    cluster.running("web", "a")
    history.add(tuple(cluster.events))
    seen = history.after(start)
    assert [(event.table, event.key) for event in seen] == [("guests", "web"), ("guests", "web")]
    assert history.after(seen[0].revision) == seen[1:]
    assert history.after(cluster.state.revision) == []
    for _ in range(KEPT):
        history.add((msgspec.structs.replace(seen[1], revision=seen[1].revision + 1),))
    with pytest.raises(Compacted):
        history.after(start)
    with pytest.raises(Compacted):
        History(7).after(6)
