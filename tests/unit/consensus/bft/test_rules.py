"""The rules one by one: quorums, votes, certificates, evidence, checkpoints, and messages that make no sense."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.consensus.bft import RULES, BftSettings, Notary
from actors.consensus.bft.changes import Asks, justified, membership_after
from actors.consensus.bft.era import Era
from actors.consensus.bft.messages import (
    Accuse,
    Ballot,
    Block,
    Certificate,
    Change,
    Claim,
    Link,
    Phase,
    Request,
    TimeoutCertificate,
    block_id,
    encode,
)
from actors.consensus.bft.pool import Pool
from actors.consensus.bft.promise import extends, fresh, may_vote, pack, unpack
from actors.consensus.bft.records import from_entries, to_entries
from actors.consensus.bft.witness import Witness, contradiction, proves
from actors.consensus.ready import Evidence, Kind, Membership
from tests.unit.consensus.bft.network import MacKeys, Network

FOUR = Membership((1, 2, 3, 4))
ERA = Era(0, FOUR, b"root", 0, 0, 0)


def notary(member: int) -> Notary:
    return Notary(member, MacKeys(member), b"chain")


def certificate(view: int, step: int, block: bytes = b"block", voters: tuple[int, ...] = (1, 2, 3)) -> Certificate:
    ballot = Ballot(block, 5, b"", 0)
    leader = notary(ERA.leader(view)).claim(Phase.PROPOSAL, 0, (view, step), block)
    claims = [notary(voter).claim(Phase.VOTE, 0, (view, step), RULES.ballot(ballot)) for voter in voters]
    votes = tuple((claim.member, claim.signature) for claim in claims)
    return Certificate(0, view, step, ballot, leader.signature, votes)


def timeouts(view: int, *highest: tuple[int, int]) -> TimeoutCertificate:
    signed = [(m, *high, notary(m).give_up(0, view, high)) for m, high in enumerate(highest, 1)]
    return TimeoutCertificate(0, view, tuple(signed))


@given(st.integers(min_value=1, max_value=100))
def test_two_quorums_share_an_honest_member_and_the_honest_make_one(voters: int) -> None:
    liars, quorum = RULES.liars(voters), RULES.quorum(voters)
    assert 3 * liars + 1 <= voters
    assert 2 * quorum - voters >= liars + 1
    assert quorum <= voters - liars
    assert RULES.honest_one(voters) > liars


def test_a_certificate_needs_a_quorum_of_different_voters_who_signed_just_that() -> None:
    me = notary(1)
    good = certificate(1, 0)
    replace = msgspec.structs.replace
    assert me.certified(good, ERA)
    assert me.certified(ERA.root_certificate, ERA)
    assert not me.certified(certificate(1, 0, voters=(1, 2)), ERA)
    assert not me.certified(certificate(1, 0, voters=(1, 2, 2)), ERA)
    assert not me.certified(certificate(1, 0, voters=(1, 2, 5)), ERA)
    assert not me.certified(replace(good, view=2), ERA)
    assert not me.certified(replace(good, step=1), ERA)
    assert not me.certified(replace(good, era=1), ERA)
    assert not me.certified(replace(good, ballot=replace(good.ballot, block=b"other")), ERA)
    assert not me.certified(replace(good, ballot=replace(good.ballot, commits=b"block")), ERA)
    assert not me.certified(replace(good, proposal=b"?"), ERA)
    assert not me.certified(replace(ERA.root_certificate, ballot=good.ballot), ERA)
    assert not Notary(1, MacKeys(1), b"another chain").certified(good, ERA)


def test_timeouts_are_signed_with_what_each_knew() -> None:
    good = timeouts(3, (1, 0), (2, 1), (0, 0))
    assert good.highest == (2, 1)
    assert notary(4).timed_out(good, ERA)
    lowered = tuple((m, 0, 0, signature) for m, _, _, signature in good.timeouts)
    assert not notary(4).timed_out(TimeoutCertificate(0, 3, lowered), ERA)
    assert not notary(4).timed_out(TimeoutCertificate(0, 4, good.timeouts), ERA)
    assert not notary(4).timed_out(TimeoutCertificate(0, 3, good.timeouts[:2]), ERA)


def link(view: int, step: int, justify: Certificate) -> Link:
    return Link(Block(0, view, step, justify.ballot.block, justify.ballot.last + 1), justify)


def test_a_block_builds_on_the_rank_before_or_on_what_the_timeouts_knew() -> None:
    def fits(it: Link, entry: TimeoutCertificate | None = None) -> bool:
        return extends(it, entry, ERA, RULES)

    root = ERA.root_certificate
    assert fits(link(1, 0, root))
    assert not fits(link(2, 0, root)), "a later view needs timeouts"
    assert not fits(link(1, -1, root))
    assert fits(link(1, 1, certificate(1, 0)))
    assert not fits(link(1, 2, certificate(1, 0))), "a step was left out"
    assert not fits(link(2, 1, certificate(1, 0))), "the certificate is of another view"
    assert not fits(link(1, 1, root))
    entry = timeouts(2, (1, 0), (1, 1), (0, 0))
    assert fits(link(3, 0, certificate(1, 1)), entry)
    assert fits(link(3, 0, certificate(2, 0)), entry), "higher than the timeouts knew"
    assert not fits(link(3, 0, certificate(1, 0)), entry), "lower than the timeouts knew"
    assert not fits(link(4, 0, certificate(1, 1)), entry), "timeouts of another view"
    wrong = link(1, 1, certificate(1, 0))
    assert not fits(Link(msgspec.structs.replace(wrong.block, first=99), wrong.justify))
    assert not fits(Link(msgspec.structs.replace(wrong.block, parent=b"other"), wrong.justify))


def test_a_promise_is_one_vote_per_rank_and_none_in_a_view_given_up() -> None:
    promise = fresh(ERA)
    assert may_vote(promise, (1, 0), RULES)
    promise.timed_out = 2
    assert not may_vote(promise, (2, 7), RULES)
    assert may_vote(promise, (3, 0), RULES)
    assert unpack(pack(promise, (), ())).promise == promise


def test_only_two_different_claims_of_one_place_are_evidence() -> None:
    liar, witness = notary(2), Witness(notary(1))
    first = liar.claim(Phase.VOTE, 0, (1, 0), b"a")
    assert witness.observe(first) == (True, None)
    assert witness.observe(first) == (True, None)
    assert witness.observe(liar.claim(Phase.VOTE, 0, (1, 1), b"b")) == (True, None)
    assert witness.observe(liar.claim(Phase.PROPOSAL, 0, (1, 0), b"b")) == (True, None)
    assert witness.observe(liar.claim(Phase.VOTE, 1, (1, 0), b"b")) == (True, None)
    assert witness.observe(notary(3).claim(Phase.VOTE, 0, (1, 0), b"b")) == (True, None)
    forged = Claim(2, Phase.VOTE, 0, 1, 0, b"b", b"forged")
    assert witness.observe(forged) == (False, None)
    signed, evidence = witness.observe(liar.claim(Phase.VOTE, 0, (1, 0), b"b"))
    assert signed and evidence is not None and evidence.member == 2 and evidence.kind == "vote"
    assert proves(evidence, notary(4))


def test_evidence_that_proves_nothing_is_refused() -> None:
    liar = notary(2)
    first, second = liar.claim(Phase.VOTE, 0, (1, 0), b"a"), liar.claim(Phase.VOTE, 0, (1, 0), b"b")
    elsewhere = liar.claim(Phase.VOTE, 0, (1, 1), b"b")
    good = contradiction(second, first)
    assert proves(good, notary(1)) and good == contradiction(first, second)
    replace = msgspec.structs.replace
    assert not proves(replace(good, member=3), notary(1))
    assert not proves(replace(good, kind="proposal"), notary(1))
    assert not proves(replace(good, proofs=good.proofs[:1]), notary(1))
    assert not proves(replace(good, proofs=good.proofs[::-1]), notary(1)), "there is one form only"
    assert not proves(replace(good, proofs=(b"\xff", b"")), notary(1))
    assert not proves(contradiction(first, first), notary(1))
    assert not proves(contradiction(first, elsewhere), notary(1))
    assert not proves(contradiction(first, replace(second, signature=b"forged")), notary(1))


def test_what_no_certificate_agrees_with_is_passed_on_in_turn() -> None:
    witness, liar = Witness(notary(1)), notary(2)
    claims = [liar.claim(Phase.VOTE, 0, (1, step), b"a") for step in range(5)]
    for claim in claims:
        witness.observe(claim)
    witness.settle(claims[0].place, b"a")
    witness.settle(claims[1].place, b"b")
    assert witness.loose(2) == (claims[1], claims[2])
    assert witness.loose(9) == (claims[3], claims[4], claims[1], claims[2])


def test_a_flood_of_claims_is_forgotten_again() -> None:
    witness, liar = Witness(notary(1)), notary(2)
    for step in range(1000):
        witness.observe(liar.claim(Phase.VOTE, 0, (1, step), b"a"))
    assert len(list(witness.remembers())) <= 256
    assert len(witness.loose(10_000)) <= 256


def change(kind: Kind, payload: object, *members: int) -> Change:
    encoded = encode(payload)
    asks = tuple((m, notary(m).ask(0, kind, encoded).signature) for m in members)
    return Change(kind, encoded, asks)


def test_a_change_needs_an_honest_members_wish_or_evidence() -> None:
    me, fewer = notary(1), Membership((1, 2, 3))
    assert justified(change(Kind.MEMBERSHIP, fewer, 1, 2), ERA, me)
    assert not justified(change(Kind.MEMBERSHIP, fewer, 4), ERA, me)
    assert not justified(change(Kind.MEMBERSHIP, fewer, 4, 4), ERA, me)
    assert not justified(change(Kind.MEMBERSHIP, fewer, 4, 9), ERA, me)
    forged = msgspec.structs.replace(change(Kind.MEMBERSHIP, fewer, 1, 2), asks=((1, b"?"), (2, b"?")))
    assert not justified(forged, ERA, me)
    lie = contradiction(*(notary(3).claim(Phase.VOTE, 0, (1, 0), content) for content in (b"a", b"b")))
    assert justified(change(Kind.EVIDENCE, lie), ERA, me)
    assert membership_after(change(Kind.EVIDENCE, lie), FOUR) == Membership((1, 2, 4))
    assert not justified(change(Kind.EVIDENCE, lie, 1, 2), ERA, me), "there is one form only"
    assert not justified(change(Kind.EVIDENCE, msgspec.structs.replace(lie, member=1)), ERA, me)
    assert not justified(Change(Kind.EVIDENCE, b"\xff"), ERA, me)
    assert not justified(change(Kind.COMMAND, fewer, 1, 2), ERA, me)


@pytest.mark.parametrize(
    "after",
    [
        FOUR,
        *(Membership(voters) for voters in ((), (1, 2), (2, 1, 3), (1, 2, 3, 3), (0, 1, 2, 3))),
        Membership((1, 2, 3, 4), (4,)),
        Membership((1, 2, 3), (6, 5)),
    ],
)
def test_members_change_one_at_a_time_and_in_order(after: Membership) -> None:
    assert membership_after(Change(Kind.MEMBERSHIP, encode(after)), FOUR) is None


def test_a_member_asks_for_few_changes_at_once() -> None:
    asks = Asks()
    for number in range(20):
        asks.add(notary(2).ask(0, Kind.SWITCH, b"%d" % number), ERA, notary(1))
    assert len(asks.of(2)) == 4
    asks.add(notary(3).ask(1, Kind.SWITCH, b"0"), ERA, notary(1))
    assert asks.change(ERA, RULES) is None, "an ask of another era counted"
    asks.add(notary(3).ask(0, Kind.SWITCH, b"0"), ERA, notary(1))
    assert asks.change(ERA, RULES) is not None


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.binary(max_size=20)), max_size=40))
def test_a_batch_has_each_members_requests_in_order_and_fits(wanted: list[tuple[int, int, bytes]]) -> None:
    pool = Pool(pending=5, batch=6, batch_bytes=60)
    for at, (member, number, payload) in enumerate(wanted):
        if pool.room(member) and pool.get(member, number) is None:
            pool.add(Request(member, number, Kind.COMMAND, payload), at)
    taken = pool.take({1: 4})
    assert len(taken) <= 6 and sum(len(request.payload) for request in taken) <= 60
    for member in (1, 2, 3):
        numbers = [request.number for request in taken if request.proposer == member]
        assert numbers == sorted(set(numbers))
        assert member != 1 or all(number > 4 for number in numbers)
    pool.forget(2, 9)
    assert all(request.proposer != 2 for request in pool.take({}))


@given(st.lists(st.binary(max_size=8), max_size=5))
def test_committed_blocks_are_found_again_in_the_log(payloads: list[bytes]) -> None:
    requests = tuple(Request(1, at + 1, Kind.COMMAND, payload, b"s") for at, payload in enumerate(payloads))
    first = Link(Block(0, 1, 0, b"root", 1, requests), ERA.root_certificate)
    second = Link(
        Block(0, 1, 1, block_id(first.block), first.block.last + 1, (), Change(Kind.SWITCH, b"raft")), certificate(1, 0)
    )
    entries = [*to_entries(first, certificate(1, 1), ()), *to_entries(second, certificate(1, 2), (first,))]
    assert [entry.index for entry in entries] == list(range(1, second.block.last + 1))
    records = list(from_entries(tuple(entries)))
    assert [record.link for record in records] == [first, second]
    assert records[1].tail == (first,)


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": 5, "beat": 5}, {"window": 100}, {"payload_bytes": 1 << 21}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BftSettings(chain=b"x", **wrong)


def bent(value: Any, chance: random.Random) -> Any:
    """`value` with something in it changed, types kept."""
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:at] if chance.random() < 0.5 else [*value, value[at]]
        return [bent(part, chance) if place == at else part for place, part in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return chance.choice((-1, 0, 1, value + 1, value - 1, 1 << 62, -(1 << 62)))
    if isinstance(value, bytes):
        return chance.choice((b"", b"\xff" * 40, value[:-1], bytes(reversed(value))))
    return value


@pytest.mark.parametrize("seed", range(5))
def test_messages_that_make_no_sense_change_nothing(seed: int) -> None:
    from actors.consensus.bft import BftMessage

    net = Network(4, seed=seed)
    chance = random.Random(seed)
    tried = 0

    def bend(sender: int, to: int, message: BftMessage) -> bool:
        nonlocal tried
        if sender == 4:  # within what f members may do, whatever comes of it
            for _ in range(12):
                raw = bent(msgspec.msgpack.decode(msgspec.msgpack.encode(message)), chance)
                try:
                    wrong = msgspec.msgpack.decode(msgspec.msgpack.encode(raw), type=BftMessage)
                except msgspec.ValidationError:
                    continue
                tried += 1
                net[to].core.step(sender, wrong)
        return False

    net.drops = bend
    for number in range(40):
        net[1 + number % 3].core.propose(b"%d" % number)
    net.crash(3)
    for _ in range(40):
        net.tick()
    net.restart(3)
    net.run(lambda: all({b"%d" % n for n in range(0, 40, 3)} <= set(net[m].commands) for m in (1, 2, 3)))
    net.agree()
    assert tried > 300
    assert not any(evidence.member != 4 for host in net.hosts.values() for evidence in host.evidence)


def test_a_leader_that_tells_two_stories_is_excluded() -> None:
    from actors.consensus.bft.messages import Propose

    net = Network(4, seed=7)
    liar = net[1].core.leader
    other = {}

    def split(sender: int, to: int, message: Any) -> bool:
        if sender == liar and isinstance(message, Propose) and to == (liar % 4) + 1 and to not in other:
            block = msgspec.structs.replace(message.link.block, requests=message.link.block.requests[:-1])
            claim = Notary(liar, MacKeys(liar), b"test").claim(Phase.PROPOSAL, 0, block.rank, block_id(block))
            other[to] = Propose(Link(block, message.link.justify), message.entry, claim.signature)
            net[to].core.step(sender, other[to])
            return True
        return False

    net.drops = split
    for member in net.hosts:
        for number in range(3):
            net[member].core.propose(b"%d-%d" % (member, number))
    honest = [member for member in net.hosts if member != liar]
    net.run(lambda: all(liar not in net[m].core.membership.voters for m in honest))
    assert other, "the liar never lied"
    assert all([evidence.member for evidence in net[m].evidence] == [liar] for m in honest)
    exclusions = [entry for entry in net[honest[0]].applied if entry.kind is Kind.EVIDENCE]
    assert len(exclusions) == 1
    assert proves(msgspec.msgpack.decode(exclusions[0].payload, type=Evidence), Notary(1, MacKeys(1), b"test"))
    net[honest[0]].core.propose(b"after")
    net.run(lambda: all(b"after" in net[m].commands for m in honest))
    net.agree()


def test_who_was_caught_is_not_forgotten_in_a_crash() -> None:
    net = Network(4)
    liar = Notary(1, MacKeys(1), b"test")
    stories = [liar.claim(Phase.VOTE, 0, (1, 0), content) for content in (b"one", b"other")]
    witness = net[2]
    witness.core.step(3, Accuse(contradiction(*stories)))
    net.settle(witness)
    assert [evidence.member for evidence in witness.evidence] == [1]
    net.wire.clear()
    net.crash(2)
    net.restart(2)
    net.run(lambda: all(1 not in net[m].core.membership.voters for m in (2, 3, 4)))
