"""One member's chain of parts: how a part follows another, who is told what, and what is let go."""

import pytest

from actors.consensus.chain import ChainReady, Protocol, Rules, Tagged, switch_to
from actors.consensus.chain.rules import RULES
from actors.consensus.raft.messages import Vote
from actors.consensus.ready import Kind, Read, Refused, Why
from tests.unit.consensus.chain import mutants
from tests.unit.consensus.chain.group import Group

OTHER = {Protocol.RAFT: Protocol.BFT, Protocol.BFT: Protocol.RAFT}


def switch(group: Group, protocol: Protocol) -> None:
    group.propose(switch_to(protocol), Kind.SWITCH)


def everybody_is_in(group: Group, part: int) -> bool:
    return all(host.chain.part == part and not host.chain.sealed for host in group.hosts.values())


@pytest.mark.parametrize("first", list(Protocol))
def test_the_log_goes_on_in_the_other_protocol_and_back(first: Protocol) -> None:
    group = Group(4, first)
    for part, protocol in enumerate((OTHER[first], first), 1):
        group.propose(b"before %d" % part)
        switch(group, protocol)
        group.until(lambda part=part: everybody_is_in(group, part))  # type: ignore[misc]
        assert {host.chain.protocol for host in group.hosts.values()} == {protocol}
        group.propose(b"after %d" % part)
        wanted = b"after %d" % part
        group.until(lambda wanted=wanted: all(wanted in group.payloads(me) for me in group.hosts))  # type: ignore[misc]
    assert {tuple(group.payloads(me)) for me in group.hosts} == {(b"before 1", b"after 1", b"before 2", b"after 2")}


@pytest.mark.parametrize("first", list(Protocol))
def test_who_lags_gets_there_by_the_old_part_which_is_then_let_go(first: Protocol) -> None:
    group = Group(4, first)
    group.propose(b"one")
    group.lost = lambda sender, to: 4 in (sender, to)
    switch(group, OTHER[first])
    group.until(lambda: all(group.hosts[me].chain.part == 1 for me in (1, 2, 3)))
    group.propose(b"two")
    group.until(lambda: all(b"two" in group.payloads(me) for me in (1, 2, 3)))
    assert group.hosts[4].chain.part == 0
    assert all(0 in group.hosts[me].shelf.kept for me in (1, 2, 3)), "a member may still need it"
    group.lost = lambda _sender, _to: False
    group.until(lambda: b"two" in group.payloads(4))
    group.until(lambda: all(list(host.shelf.kept) == [1] for host in group.hosts.values()))


@pytest.mark.parametrize("first", list(Protocol))
def test_a_restart_in_the_new_part_repeats_nothing_and_still_serves_the_old_one(first: Protocol) -> None:
    group = Group(4, first)
    group.propose(b"one")
    group.lost = lambda sender, to: 4 in (sender, to)
    switch(group, OTHER[first])
    group.until(lambda: all(group.hosts[me].chain.part == 1 for me in (1, 2, 3)))
    for me in (1, 2, 3):
        group.hosts[me].start()
    group.lost = lambda _sender, _to: False
    group.until(lambda: everybody_is_in(group, 1))
    group.propose(b"two")
    group.until(lambda: all(b"two" in group.payloads(me) for me in group.hosts))


def test_a_crash_before_the_new_part_is_on_disk_begins_it_again() -> None:
    group = Group(1, Protocol.RAFT)
    host = group.lead()
    host.chain.propose(switch_to(Protocol.BFT), Kind.SWITCH)
    while (ready := host.chain.ready()) is not None:
        if ready.begins is not None:
            break
        host.shelf.storage_of(0).write(ready)
        host.applied += ready.committed
        host.chain.advance()
    assert ready is not None
    assert host.chain.sealed == host.last
    host.start()
    group.until(lambda: everybody_is_in(group, 1))


def test_terms_go_on() -> None:
    group = Group(4, Protocol.RAFT)
    before = group.lead().chain.term
    switch(group, Protocol.BFT)
    group.until(lambda: everybody_is_in(group, 1))
    assert all(host.chain.term > before for host in group.hosts.values())
    between = group.lead().chain.term
    switch(group, Protocol.RAFT)
    group.until(lambda: everybody_is_in(group, 2))
    assert group.lead().chain.term > between


def test_messages_of_another_part_are_answered_by_the_number_of_this_one() -> None:
    group = Group(3, Protocol.RAFT)
    switch(group, Protocol.BFT)
    group.until(lambda: everybody_is_in(group, 1))
    group.until(lambda: list(group.hosts[1].shelf.kept) == [1])
    chain, term = group.hosts[1].chain, group.hosts[1].chain.term
    for part in (0, 7):
        chain.step(2, Tagged(part, Vote(term + 9, 99, term + 9)))
    chain.step(2, Tagged(1, None))
    assert chain.ready() == ChainReady(part=1, after_persisting=_told(2, 1))
    chain.advance()
    assert chain.ready() is None
    assert chain.term == term


def _told(member: int, part: int) -> tuple[object, ...]:
    from actors.consensus.ready import Send

    return (Send(member, Tagged(part, None)),)


@pytest.mark.parametrize("payload", [b"", b"x", b"\x02\x02", switch_to(Protocol.RAFT)])
def test_a_switch_that_makes_no_sense_is_refused(payload: bytes) -> None:
    leader = Group(3, Protocol.RAFT).lead()
    assert leader.chain.propose(payload, Kind.SWITCH) == Refused(Why.INVALID, leader.me)


def test_nothing_is_taken_or_read_while_a_part_is_sealed() -> None:
    group = Group(1, Protocol.RAFT)
    chain = group.lead().chain
    chain.propose(switch_to(Protocol.BFT), Kind.SWITCH)
    while not chain.sealed:
        ready = chain.ready()
        assert ready is not None
        group.hosts[1].shelf.storage_of(0).write(ready)
        chain.advance()
    assert chain.propose(b"x") == Refused(Why.CHANGING, 1)
    assert chain.read(b"x") == Refused(Why.CHANGING, 1)


def read_while_others_went_on(rules: Rules) -> tuple[list[Read], int]:
    """What a leader answers whose disk is slow while the others begin the next part; the last that they agreed on."""
    group = Group(4, Protocol.RAFT, rules)
    slow = group.lead()
    others = [host.me for host in group.hosts.values() if host is not slow]
    slow.slow = True
    slow.chain.propose(switch_to(Protocol.BFT), Kind.SWITCH)
    group.until(lambda: all(group.hosts[me].chain.part == 1 for me in others))
    for me in others:
        group.hosts[me].chain.propose(b"later")
    group.until(lambda: all(b"later" in group.payloads(me) for me in others))
    assert slow.chain.part == 0
    assert slow.chain.sealed
    slow.chain.read(b"is there more?")
    group.lost = lambda sender, to: slow.me in (sender, to) and slow.chain.part > 0
    slow.slow = False
    group.until(lambda: slow.chain.part == 1)
    return slow.reads, max(host.last for host in group.hosts.values())


def test_no_read_is_answered_from_a_sealed_part() -> None:
    answered, _ = read_while_others_went_on(RULES)
    assert answered == []


def test_without_its_rule_a_sealed_part_answers_what_is_old() -> None:
    (read,), last = read_while_others_went_on(mutants.AnswersFromASealedPart())
    assert read.index < last


def test_no_switch_while_somebody_lags_several_parts() -> None:
    group = Group(4, Protocol.RAFT)
    group.lead()
    group.lost = lambda sender, to: 4 in (sender, to)
    for part, protocol in enumerate((Protocol.BFT, Protocol.RAFT, Protocol.BFT), 1):
        switch(group, protocol)
        group.until(lambda part=part: all(group.hosts[me].chain.part == part for me in (1, 2, 3)))  # type: ignore[misc]
    assert group.hosts[1].chain.propose(switch_to(Protocol.RAFT), Kind.SWITCH).why is Why.BUSY  # type: ignore[union-attr]
    group.lost = lambda _sender, _to: False
    group.until(lambda: everybody_is_in(group, 3))
