"""Whose word a command is: in BFT nobody speaks for another, and nobody says what can't be told from a lie."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.control import author_rules, engine, sessions, signing
from actors.control.attest import vouched
from actors.control.commands import (
    AddMember,
    AdvanceMove,
    BeginMove,
    CommitMove,
    DefineGuest,
    DrainNode,
    EndMove,
    EnrolMember,
    EnrolNode,
    ExpireLease,
    FailOver,
    JoinNode,
    MarkReplica,
    OpenSession,
    Override,
    RemoveGuest,
    RemoveNode,
    RemoveReplica,
    RenewLease,
    SetFlag,
    SetPolicy,
    SetReplica,
    SetTerms,
    Signed,
    StartGuest,
    StopGuest,
    Upgrade,
    YieldLease,
    seal,
)
from actors.control.decision import UNTOLD, Electorate
from actors.control.envelope import Envelope
from actors.control.keys import public_of
from actors.control.model import VERSION
from actors.control.ownership import risk_of
from actors.control.sessions import PER_NODE_MAX
from actors.control.signing import SIGNED_SINCE, seal_signed
from actors.migration.states import State
from tests.unit.control.kit import BFT, Cluster, _tables, enrolment, secret_of, three_sites

RAFT = Electorate(voters=BFT.voters)


@pytest.fixture
def cluster() -> Cluster:
    """In BFT: web runs on a and moves to b, db runs on a, old is stopped there with a replica at c."""
    made = three_sites()
    epoch = made.running("web", "a")
    made.running("db", "a")
    stopped = made.running("old", "a")
    made.done(SetReplica(guest="old", node="c", rpo_ms=1))
    made.done(StopGuest(guest="old", epoch=stopped), by="node:a")
    made.done(BeginMove(job="m", guest="web", target="b", epoch=epoch), by="node:a")
    for state in (State.PREPARE, State.PERFORM):
        made.done(AdvanceMove(job="m", state=state), by="node:a")
    made.done(JoinNode(node="m1", site="x", speaks=VERSION))
    made.enrolled("a", "b", "c")
    return made


def unchanged(cluster: Cluster, entry: bytes) -> str:
    """Why `entry` is refused; no record has changed, and no session remembers it."""
    before = _tables(cluster.state), dict(cluster.state.sessions), dict(cluster.state.openings)
    result = cluster.raw(entry)
    assert not result.accepted, result
    assert (_tables(cluster.state), cluster.state.sessions, cluster.state.openings) == before
    return result.code


def placed(cluster: Cluster, command, by="node:a", signer="node:a") -> bytes:
    return seal_signed(command, signer, secret_of(signer).sign, by=by, at_ms=7, **cluster.place(by, signer))


def lease_of(cluster: Cluster, node="a"):
    return cluster.state.leases[node]


def epoch_of(cluster: Cluster, guest: str) -> int:
    return cluster.state.guests[guest].epoch


def stop(c):
    return StopGuest(guest="db", epoch=epoch_of(c, "db"))


def give_back(c):
    return YieldLease(node="a", number=lease_of(c).number)


def decree(c):
    return Override(nodes=("a",), risk=risk_of(c.state, ("a",)), reason="r")


# -- in others' names -------------------------------------------------------------------------------------------------

IN_OTHERS_NAMES = [
    give_back,
    stop,
    decree,
    lambda c: RenewLease(node="a", number=lease_of(c).number, renewal=1, terms=c.state.cluster.terms.number),
    lambda c: CommitMove(job="m"),
    lambda c: EndMove(job="m", state=State.FAILED),
    lambda c: BeginMove(job="n", guest="db", target="b", epoch=epoch_of(c, "db")),
    lambda c: DefineGuest(guest="db", definition="<x/>", after=c.state.guests["db"].definition_number),
    lambda c: StartGuest(guest="old", node="a", epoch=epoch_of(c, "old")),
    lambda c: OpenSession(),
    lambda c: Upgrade(to=VERSION),
    lambda c: SetPolicy(name="p", value="x"),
    lambda c: ExpireLease(node="a", number=1, renewal=0, waited_ms=10**6, drift_ppm=1),
]


@pytest.mark.parametrize("lie", IN_OTHERS_NAMES)
@pytest.mark.parametrize("by", ["node:a", "operator:ann", "operator:ann@a", "member:m1", "members"])
def test_without_a_signature_nobody_has_said_it(cluster, lie, by):
    assert unchanged(cluster, seal(lie(cluster), by=by)) == "unsigned"


@pytest.mark.parametrize("lie", [give_back, stop, lambda c: CommitMove(job="m")])
def test_nobody_signs_in_another_name(cluster, lie):
    """The liar is on c, with the keys of node c and of member 4."""
    command = lie(cluster)
    place = cluster.place("node:a", "node:a")
    for signer, by, key in (
        ("node:a", "node:a", "node:c"),
        ("node:c", "node:a", "node:c"),
        ("member:4", "node:a", "member:4"),
        ("member:4", "member:m1", "member:4"),
        ("member:1", "member:m1", "member:4"),
        ("node:a", "operator:ann", "node:c"),
        ("node:c", "operator:ann@a", "node:c"),
        ("node:nobody", "node:a", "node:c"),
        ("member:9", "node:a", "node:c"),
        ("eve", "node:a", "node:c"),
    ):
        entry = seal_signed(command, signer, secret_of(key).sign, by=by, **place)
        assert unchanged(cluster, entry) in ("forged", "not-yours", "no-key"), (signer, by)


@settings(max_examples=150)
@given(st.data())
def test_an_envelope_that_is_altered_anywhere_is_refused_and_the_right_one_still_counts(data):
    cluster = three_sites()
    cluster.enrolled("a", "b", "c")
    good = placed(cluster, DrainNode(node="b", draining=True))
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 2))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(bad) != good:
        unchanged(cluster, bytes(bad))
    assert cluster.raw(good).accepted


@pytest.mark.parametrize(
    ("field", "value"),
    [("by", "node:b"), ("by", "operator:ann"), ("session", 1), ("number", 99), ("at_ms", 8), ("version", 4),
     ("version", 1), ("version", VERSION + 1)],
)  # fmt: skip
def test_each_field_of_the_envelope_is_covered(cluster, field, value):
    good = placed(cluster, give_back(cluster))
    envelope = msgspec.msgpack.decode(good, type=Envelope)
    assert unchanged(cluster, msgspec.msgpack.encode(replace(envelope, **{field: value})))
    outer = msgspec.msgpack.decode(envelope.body, type=Signed)
    for other in (
        replace(outer, signer="node:b"),
        replace(outer, signature="00" * 64),
        replace(outer, body=msgspec.msgpack.encode(give_back(cluster)) + b"\xc0"),
        replace(outer, body=msgspec.msgpack.encode(YieldLease(node="b", number=lease_of(cluster, "b").number))),
        replace(outer, body=envelope.body),
    ):
        body = msgspec.msgpack.encode(other)
        assert unchanged(cluster, msgspec.msgpack.encode(replace(envelope, body=body)))
    assert cluster.raw(good).accepted


# -- what is not the author's to say ----------------------------------------------------------------------------------


def terms(c, **other):
    now = c.state.cluster.terms
    fields = {"after": now.number, "duration_ms": 60_000, "pause_ms": 5000, "drift_ppm": 1000, "takeover": "lease"}
    return SetTerms(**(fields | other))


NOT_THEIRS = [
    (decree, "not-in-bft"),
    (lambda c: RemoveNode(node="a"), "not-in-bft"),
    (lambda c: AddMember(node="a"), "not-in-bft"),
    (terms, "not-in-bft"),
    (stop, "not-yours"),
    (give_back, "not-yours"),
    (lambda c: CommitMove(job="m"), "not-yours"),
    (lambda c: AdvanceMove(job="m", state=State.ROLLING_BACK), "not-yours"),
    (lambda c: EndMove(job="m", state=State.FAILED), "not-yours"),
    (lambda c: BeginMove(job="n", guest="db", target="c", epoch=epoch_of(c, "db")), "not-yours"),
    (lambda c: DefineGuest(guest="db", definition="<x/>", after=c.state.guests["db"].definition_number), "not-yours"),
    (lambda c: RemoveGuest(guest="old", epoch=epoch_of(c, "old")), "not-yours"),
    (lambda c: StartGuest(guest="old", node="a", epoch=epoch_of(c, "old")), "not-yours"),
    (lambda c: FailOver(guest="db", to="a", epoch=epoch_of(c, "db")), "not-yours"),
    (lambda c: SetReplica(guest="db", node="b", rpo_ms=1), "not-yours"),
    (lambda c: RemoveReplica(guest="old", node="c"), "not-yours"),
    (
        lambda c: MarkReplica(guest="old", node="c", generation=1, of_epoch=1, checkpoint=9, captured_at_ms=1),
        "not-yours",
    ),
    (lambda c: JoinNode(node="b", site="london", speaks=VERSION), "not-yours"),
    (lambda c: Upgrade(to=VERSION + 1), "not-yours"),
    (lambda c: EnrolMember(number=1, node="m1", site="y", key=public_of(secret_of("member:1"))), "not-yours"),
    (lambda c: ExpireLease(node="a", number=lease_of(c).number, renewal=0, waited_ms=10**6, drift_ppm=1), "not-in-bft"),
]


@pytest.mark.parametrize(("lie", "code"), NOT_THEIRS)
@pytest.mark.parametrize("by", ["node:b", "operator:ann"])
def test_what_is_not_a_nodes_to_say_is_refused_though_it_signs(cluster, lie, code, by):
    assert cluster.refused(lie(cluster), by=by, via="b") == code


@pytest.mark.parametrize("lie", [stop, give_back, lambda c: SetPolicy(name="p", value="x"), lambda c: OpenSession()])
def test_a_member_asks_for_nothing_that_is_a_nodes(cluster, lie):
    assert cluster.refused(lie(cluster), by="member:m4") == "not-yours"


def test_a_member_says_of_its_own_node_which_rules_it_knows_and_nothing_else(cluster):
    cluster.among = RAFT
    for number in BFT.voters:
        cluster.done(JoinNode(node=f"m{number}", site="x", speaks=VERSION))
    cluster.among = BFT
    for order in (
        JoinNode(node="a", site="london", speaks=VERSION),
        JoinNode(node="m4", site="london", speaks=VERSION),
        JoinNode(node="m4", site="x", role="witness", speaks=VERSION),
        JoinNode(node="new", site="x"),
    ):
        assert cluster.refused(order, by="member:m4") == "not-in-bft"
    cluster.done(JoinNode(node="m4", site="x", speaks=VERSION + 1), by="member:m4")
    cluster.among = Electorate(voters=(1, 2, 3), bft=True)
    assert cluster.refused(JoinNode(node="m4", site="x", speaks=VERSION), by="member:m4") == "not-yours"


def test_the_ways_out_are_said(cluster):
    for order in (decree(cluster), RemoveNode(node="c"), terms(cluster)):
        assert "set consensus.mode to raft" in cluster.ask(order).detail


# -- what goes on as ever ---------------------------------------------------------------------------------------------


def test_a_node_its_operators_and_its_sites_manager_go_on_in_bft(cluster):
    cluster.done(RenewLease(node="a", number=lease_of(cluster).number, renewal=1, terms=2), by="node:a")
    cluster.done(CommitMove(job="m"), by="node:a")
    cluster.done(AdvanceMove(job="m", state=State.CONFIRM), by="node:a")
    cluster.done(EndMove(job="m", state=State.COMPLETED), by="node:a")
    cluster.done(stop(cluster), by="node:a")
    cluster.done(DefineGuest(guest="new", definition="<d/>"), by="node:b")
    cluster.done(StartGuest(guest="db", node="b", epoch=epoch_of(cluster, "db")), by="operator:ann", via="b")
    cluster.done(RemoveReplica(guest="old", node="c"), by="node:c")
    cluster.done(SetReplica(guest="old", node="b", rpo_ms=1), by="node:a")
    cluster.done(RemoveGuest(guest="old", epoch=epoch_of(cluster, "old")), by="node:a")
    cluster.done(SetFlag(component="hde", percent=1), by="operator:ann")
    cluster.done(SetPolicy(name="p", value="x"), by="operator:ann")
    cluster.done(DrainNode(node="a", draining=True), by="operator:ann", via="c")
    cluster.done(YieldLease(node="b", number=lease_of(cluster, "b").number), by="node:b")
    cluster.done(FailOver(guest="web", to="c", epoch=epoch_of(cluster, "web")), by="operator:ann", via="c")
    cluster.restart_twin()
    cluster.done(SetPolicy(name="p", value="y"), by="operator:ann")
    cluster.agreed()


def test_a_node_of_the_sources_site_leads_its_moves(cluster):
    cluster.among = RAFT
    cluster.done(JoinNode(node="a2", site="london"))
    cluster.raw(enrolment("a2"))
    cluster.among = BFT
    cluster.done(CommitMove(job="m"), by="node:a2")


def test_the_first_terms_are_set_if_they_are_not_less_careful(monkeypatch):
    cluster = Cluster()
    for node, site in (("a", "london"), ("b", "paris"), ("c", "berlin")):
        cluster.joined(node, site)
    cluster.enrolled("a")
    assert cluster.refused(terms(cluster, drift_ppm=10), by="node:a") == "not-in-bft"
    assert cluster.refused(terms(cluster, pause_ms=100), by="node:a") == "not-in-bft"
    cluster.done(terms(cluster), by="node:a")
    assert cluster.refused(terms(cluster), by="node:a") == "not-in-bft"


def test_the_trail_says_which_node_an_operator_spoke_by_and_what(cluster):
    cluster.done(DrainNode(node="b", draining=True), by="operator:ann", via="c")
    entry = cluster.audit[-1]
    assert (entry.by, entry.command, entry.subject) == ("operator:ann@c", "drainnode", "b")
    assert msgspec.msgpack.decode(entry.body) == {"do": "drainnode", "node": "b", "draining": True}


def test_in_raft_both_count_and_one_session_serves_a_node_through_the_switch():
    cluster = three_sites()
    session = cluster.done(OpenSession(), by="node:a")
    order = RenewLease(node="a", number=lease_of(cluster).number, renewal=1, terms=2)
    cluster.done(order, by="node:a", session=session, number=1)
    cluster.enrolled("a")
    again = seal_signed(order, "node:a", secret_of("node:a").sign, by="node:a", session=session, number=1)
    assert cluster.raw(again).accepted, "it is the one that was done"
    cluster.among = RAFT
    cluster.done(SetPolicy(name="p", value="x"))
    assert cluster.raw(placed(cluster, SetPolicy(name="q", value="x"), by="operator:ann")).accepted
    assert cluster.audit[-1].by == "operator:ann@a"


def test_members_who_trust_each_other_do_not_look_at_a_signature_since_version_6():
    for version, among, told in ((5, RAFT, "forged"), (5, BFT, "forged"), (6, RAFT, ""), (6, BFT, "forged")):
        cluster = three_sites(version=version)
        cluster.enrolled("a", "b")
        at = cluster.place("node:a", "node:a")
        cluster.among = among
        order = DrainNode(node="a", draining=True)
        lie = seal_signed(order, "node:a", secret_of("node:b").sign, by="node:a", **at)
        assert cluster.raw(lie).code == told, (version, among)
        assert cluster.state.nodes["a"].draining is not bool(told)
        # Whose word it would be is looked at all the same.
        assert unchanged(cluster, seal_signed(order, "node:a", OTHER.sign, by="node:b", **at)) == "not-yours"


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_its_authors(cluster):
    at = cluster.place("operator:ann", "node:a")
    for by, signer in (("operator:bob", "node:a"), ("operator:ann", "node:b"), ("node:a", "node:a")):
        entry = seal_signed(SetPolicy(name="p", value="x"), signer, secret_of(signer).sign, by=by, **at)
        assert unchanged(cluster, entry) == "session-unknown"


def test_what_was_signed_is_done_once_whoever_says_it_again(cluster):
    drained = placed(cluster, DrainNode(node="b", draining=True))
    first = cluster.raw(drained)
    cluster.done(DrainNode(node="b", draining=False), by="node:a")
    assert cluster.raw(drained) == first
    assert not cluster.state.nodes["b"].draining
    for _ in range(sessions.PER_CLIENT_MAX):
        cluster.places.clear()
        cluster.done(SetPolicy(name="p", value="x"), by="node:a")
    assert unchanged(cluster, drained) == "session-unknown"


def test_an_opening_that_is_said_again_opens_nothing(cluster):
    number = cluster.raw(enrolment("a")).number
    opening = seal_signed(OpenSession(), "node:a", secret_of("node:a").sign, by="node:a", number=number)
    assert cluster.raw(opening).accepted
    for _ in range(2):
        assert unchanged(cluster, opening) == "stale"
        cluster.restart_twin()
    ahead = cluster.state.applied + 2
    early = seal_signed(OpenSession(), "node:a", secret_of("node:a").sign, by="node:a", number=ahead)
    assert unchanged(cluster, early) == "stale"


def test_a_node_signs_nothing_else_outside_a_session_and_no_key_within_one(cluster):
    sign = secret_of("node:a").sign
    assert unchanged(cluster, seal_signed(give_back(cluster), "node:a", sign, by="node:a")) == "malformed"
    command = EnrolNode(node="a", key=public_of(secret_of("node:a")))
    at = cluster.place("node:a", "node:a")
    assert unchanged(cluster, seal_signed(command, "node:a", sign, by="node:a", **at)) == "malformed"


def test_one_node_has_no_more_than_its_share_of_sessions(cluster):
    cluster.done(SetPolicy(name="p", value="x"), by="operator:ann", via="a")
    kept = set(cluster.state.sessions)
    for number in range(PER_NODE_MAX + 5):
        cluster.done(SetPolicy(name="p", value="x"), by=f"operator:{number}", via="b")
    of_b = [each for each in cluster.state.sessions.values() if each.by.endswith("@b")]
    assert len(of_b) == PER_NODE_MAX
    assert kept <= set(cluster.state.sessions)


# -- keys -------------------------------------------------------------------------------------------------------------

OTHER = secret_of("another disk")


def word(cluster: Cluster, member: int, node="a", *, secret=OTHER, site="london", signed_by=0, after=None):
    known = cluster.state.authors.get(node)
    was = (known.key if known is not None else "") if after is None else after
    sign = secret_of(f"member:{signed_by or member}").sign
    return vouched(node=node, site=site, key=public_of(secret), after=was, member=member, sign=sign)


def test_in_raft_the_first_key_stays():
    cluster = three_sites()
    first = cluster.raw(enrolment("a"))
    assert first.accepted
    assert cluster.raw(enrolment("a")).accepted, "said again"
    assert [entry.command for entry in cluster.audit].count("enrolnode") == 1
    assert unchanged(cluster, enrolment("a", secret=OTHER)) == "stale"
    assert unchanged(cluster, enrolment("nobody")) == "unknown"
    command = EnrolNode(node="b", key=public_of(secret_of("node:b")))
    assert unchanged(cluster, seal(command, by="node:b")) == "not-yours"
    assert unchanged(cluster, seal_signed(command, "node:b", OTHER.sign, by="node:b")) == "forged"
    assert unchanged(cluster, seal_signed(command, "node:a", secret_of("node:a").sign, by="node:a")) == "no-key"


def test_a_node_that_is_removed_is_forgotten_and_what_it_signed_opens_nothing():
    cluster = three_sites()
    cluster.done(JoinNode(node="d", site="rome"))
    number = cluster.raw(enrolment("d")).number
    opening = seal_signed(OpenSession(), "node:d", secret_of("node:d").sign, by="node:d", number=number)
    cluster.done(RemoveNode(node="d"))
    assert (cluster.state.authors, cluster.state.openings) == ({}, {})
    assert unchanged(cluster, opening) == "no-key"
    cluster.done(JoinNode(node="d", site="rome"))
    assert cluster.raw(enrolment("d")).accepted
    assert unchanged(cluster, opening) == "stale"
    cluster.agreed()


def test_in_bft_f_and_one_members_vouch_for_a_key(cluster):
    assert unchanged(cluster, enrolment("a", secret=OTHER)) == "not-in-bft"
    assert cluster.raw(enrolment("a")).number, "the one that is known"
    for _ in range(2):
        assert cluster.done(word(cluster, 4), by="member:m4") == 0
    cluster.restart_twin()
    assert cluster.state.authors["a"].key != public_of(OTHER), "one that lies alone"
    assert cluster.done(word(cluster, 2, secret=secret_of("eve")), by="member:m2") == 0
    assert cluster.done(word(cluster, 2), by="member:m2") > 0
    assert cluster.state.authors["a"].key == public_of(OTHER)
    assert cluster.state.vouches == {}
    assert unchanged(cluster, enrolment("b", secret=OTHER)) == "not-in-bft"
    of_before = cluster.refused(give_back(cluster), by="node:a", session=1, number=1)
    assert of_before == "forged", "what the key of before signs"
    cluster.agreed()


def test_words_are_each_members_own_and_for_the_key_that_is_now(cluster):
    old = public_of(secret_of("node:a"))
    assert cluster.refused(word(cluster, 3, signed_by=4), by="member:m3") == "not-yours"
    assert cluster.refused(word(cluster, 3), by="member:m4") == "not-yours"
    assert cluster.refused(word(cluster, 9), by="member:m9") == "not-yours"
    assert cluster.refused(word(cluster, 3, after=""), by="member:m3") == "stale"
    spoken = [word(cluster, number) for number in (2, 3)]
    for number, said in zip((2, 3), spoken, strict=True):
        cluster.done(said, by=f"member:m{number}")
    for number, said in zip((2, 3), spoken, strict=True):
        assert cluster.refused(said, by=f"member:m{number}") == "stale"
    for number in (1, 2):
        assert cluster.refused(replace(word(cluster, number), key=old), by=f"member:m{number}") == "not-yours"


def test_a_new_node_is_known_in_bft_once_enough_have_seen_it_in_one_site(cluster):
    new = secret_of("node:new")
    cluster.done(word(cluster, 4, "new", secret=new, site="paris"), by="member:m4")
    cluster.done(word(cluster, 1, "new", secret=new), by="member:m1")
    assert "new" not in cluster.state.nodes
    cluster.done(word(cluster, 3, "new", secret=new), by="member:m3")
    assert cluster.state.nodes["new"].site == "london"
    cluster.leased("new")
    cluster.agreed()


def test_a_member_alone_fills_nothing(cluster):
    for number in itertools.count():
        said = word(cluster, 4, f"n{number}", secret=OTHER)
        result = cluster.ask(said, by="member:m4")
        if not result.accepted:
            break
    assert (result.code, len(cluster.state.vouches)) == ("full", author_rules.NEW_PER_MEMBER_MAX)
    cluster.done(word(cluster, 4), by="member:m4")
    cluster.done(word(cluster, 1, "n99", secret=OTHER), by="member:m1")


# -- a rule taken away ------------------------------------------------------------------------------------------------


def damage(cluster: Cluster) -> set[str]:
    """Which lies of node c and member 4 take effect."""
    done = set()
    sign = secret_of("node:c").sign
    theirs, its_own = cluster.place("node:a", "node:a"), cluster.place("node:c", "node:c")
    lies = {
        "unsigned": lambda: seal(give_back(cluster), by="node:a"),
        "a member's": lambda: seal(JoinNode(node="m1", site="x", speaks=VERSION + 1), by="member:m1"),
        "forged": lambda: seal_signed(stop(cluster), "node:a", sign, by="node:a", **theirs),
        "in another name": lambda: seal_signed(give_back(cluster), "node:c", sign, by="node:a", **its_own),
        "not its own": lambda: placed(cluster, CommitMove(job="m"), "node:c", "node:c"),
        "overruled": lambda: placed(cluster, decree(cluster), "operator:eve", "node:c"),
    }
    for name, lie in lies.items():
        entry, before = lie(), _tables(cluster.state)
        cluster.raw(entry)
        if _tables(cluster.state) != before:
            done.add(name)
    return done


def test_with_all_rules_no_lie_takes_effect(cluster):
    assert damage(cluster) == set()


@pytest.mark.parametrize(
    ("module", "rule", "instead", "lie"),
    [
        (signing, "must_be_signed", lambda state, among: False, "unsigned"),
        (signing, "_signs_itself", lambda state, envelope, command: None, "a member's"),
        (signing, "is_by", lambda key, signature, statement: True, "forged"),
        (author_rules, "may_say", lambda state, command, asked: None, "overruled"),
        (author_rules, "_of_its_site", lambda state, source, author: None, "not its own"),
    ],
)
def test_without_a_rule_a_lie_takes_effect(cluster, monkeypatch, module, rule, instead, lie):
    monkeypatch.setattr(module, rule, instead)
    assert lie in damage(cluster)


@pytest.mark.parametrize("left_out", range(1, 6))
def test_what_the_signature_leaves_out_could_be_changed(cluster, monkeypatch, left_out):
    """Who asks, session, number, time, body; who signs is known by the key as well."""
    whole = signing._statement
    blanks = ("", "", 0, 0, 0, b"")

    def less(*parts):
        return whole(
            *(blank if n == left_out else part for n, (part, blank) in enumerate(zip(parts, blanks, strict=True)))
        )

    changed = {
        1: {"by": "operator:ann"},
        2: {"session": cluster.place("node:b", "node:b")["session"]},
        3: {"number": 50},
        4: {"at_ms": 99},
    }.get(left_out, {})
    monkeypatch.setattr(signing, "_statement", less)
    good = placed(cluster, SetPolicy(name="p", value="x"))
    envelope = msgspec.msgpack.decode(good, type=Envelope)
    outer = msgspec.msgpack.decode(envelope.body, type=Signed)
    if left_out == 5:
        outer = replace(outer, body=msgspec.msgpack.encode(SetPolicy(name="p", value="y")))
    bad = msgspec.msgpack.encode(replace(envelope, body=msgspec.msgpack.encode(outer), **changed))
    assert cluster.raw(bad).code != "forged"


# -- versions ---------------------------------------------------------------------------------------------------------


def signed_things(cluster: Cluster) -> list[bytes]:
    sign = secret_of("node:a").sign
    return [
        enrolment("a"),
        seal(word(cluster, 1), by="member:m1"),
        seal_signed(SetPolicy(name="p", value="x"), "node:a", sign, by="node:a", session=1, number=1),
    ]


def test_older_and_newer_members_say_the_same_while_older_rules_are_in_force():
    """One that does not know these commands sees no further than the envelope, or a body that is none."""
    cluster = three_sites(version=SIGNED_SINCE - 1)
    session = cluster.done(OpenSession(), by="node:a")
    nothing = msgspec.msgpack.encode({"do": "teleport"})
    for entry in signed_things(cluster):
        envelope = msgspec.msgpack.decode(entry, type=Envelope)
        assert cluster.raw(entry).code == "too-new"
        assert cluster.raw(msgspec.msgpack.encode(replace(envelope, body=nothing))).code == "too-new"
        for version in range(1, SIGNED_SINCE):
            told = [
                replace(
                    cluster.raw(msgspec.msgpack.encode(replace(envelope, **at, version=version, body=body))), index=0
                )
                for at in ({"session": 0, "number": 0}, {"session": session, "number": version})
                for body in (envelope.body, nothing)
            ]
            assert len({(each.code, each.detail) for each in told[:2]}) == 1
    cluster.among = BFT
    cluster.done(SetPolicy(name="p", value="x"))
    assert (cluster.state.authors, cluster.state.vouches, cluster.state.openings) == ({}, {}, {})


def test_what_older_rules_leave_in_a_session_is_the_same_for_both():
    states = []
    for body in (msgspec.msgpack.encode(EnrolNode(node="a", key="00" * 32)), msgspec.msgpack.encode({"do": "x"})):
        cluster = three_sites(version=SIGNED_SINCE - 1)
        session = cluster.done(OpenSession(), by="node:a")
        entry = Envelope(version=1, session=session, number=1, by="node:a", body=body)
        cluster.raw(msgspec.msgpack.encode(entry))
        states.append(cluster.state.sessions)
    assert states[0] == states[1]


def test_nothing_of_it_is_in_the_bytes_of_a_state_that_has_none():
    cluster = three_sites(version=SIGNED_SINCE - 1)
    names = msgspec.msgpack.decode(msgspec.msgpack.encode(cluster.state)).keys()
    assert not {"authors", "vouches", "openings"} & names


def test_a_decree_that_begins_a_part_alone_is_taken_without_a_signature(cluster):
    cluster.among = UNTOLD
    order = replace(decree(cluster), lineage=True)
    assert engine.apply(cluster.state, cluster.state.applied + 1, seal(order, by="operator:recovery")).result.accepted
