"""Raft as Ongaro's thesis says, section by section."""

import pytest

from actors.consensus.raft import Config, Raft
from actors.consensus.raft.messages import Append, AppendReply, Install, TimeoutNow, Vote, VoteReply
from actors.consensus.ready import (
    NOBODY,
    Accepted,
    Entry,
    HardState,
    Kind,
    Membership,
    Read,
    Ready,
    Refused,
    Snapshot,
    Why,
)
from actors.consensus.storage import MemoryStorage
from tests.unit.consensus.raft.group import CONFIG, Group

THREE = Membership((1, 2, 3))
E = CONFIG.election_ticks


def one(term: int = 0, *terms: int, vote: int = NOBODY, config: Config = CONFIG) -> tuple[Raft, MemoryStorage]:
    """Member 1 of three in `term` with entries of `terms` after the founding, released from any leader."""
    storage = MemoryStorage(THREE)
    entries = tuple(Entry(index, of) for index, of in enumerate(terms, 2))
    storage.write(Ready(entries=entries, hard_state=HardState(term, vote, 1)))
    core = Raft(1, storage, config, seed=1)
    for _ in range(E):
        core.tick()
    return core, storage


def said(core: Raft, storage: MemoryStorage) -> list[tuple[int, object]]:
    """What a member says now, all its writes done."""
    found: list[tuple[int, object]] = []
    while (ready := core.ready()) is not None:
        storage.write(ready)
        found += [(send.to, send.message) for send in (*ready.at_once, *ready.after_persisting)]
        core.advance()
    return found


class TestElections:
    """§3.4, §3.6.1, §4.2.3, §9.6."""

    def test_without_a_leader_a_follower_asks_first_whether_it_would_be_elected(self) -> None:
        core, storage = one(4, 2, 4)
        for _ in range(E):
            core.tick()
        ask = Vote(term=5, last_index=3, last_term=4, pre=True)
        assert said(core, storage)[:2] == [(2, ask), (3, ask)]
        assert (core.term, storage.hard_state().term) == (4, 4)

    def test_timeouts_lie_between_one_and_two_election_timeouts_and_differ(self) -> None:
        waits = set()
        for seed in range(40):
            core = Raft(1, MemoryStorage(THREE), CONFIG, seed)
            waits.add(next(tick for tick in range(1, 3 * E) if core.tick() or core.ready() is not None))
        assert min(waits) >= E
        assert max(waits) < 2 * E
        assert len(waits) > E // 2

    def test_with_a_majority_for_it_it_votes_for_itself_durably_and_then_asks(self) -> None:
        core, storage = one(4)
        for _ in range(E):
            core.tick()
        said(core, storage)
        core.step(2, VoteReply(5, True, pre=True))
        ready = core.ready()
        assert ready is not None
        assert ready.hard_state == HardState(5, 1, 1)
        assert ready.at_once == ()
        assert [send.to for send in ready.after_persisting] == [2, 3]
        storage.write(ready)
        core.advance()
        assert not core.leads
        core.step(2, VoteReply(5, True))
        assert core.leads

    def test_one_of_one_elects_itself_once_its_vote_is_on_disk(self) -> None:
        storage = MemoryStorage(Membership((1,)))
        core = Raft(1, storage, CONFIG, 1)
        for _ in range(2 * E):
            core.tick()
        assert not core.leads
        said(core, storage)
        assert core.leads
        assert core.commit == 2

    def test_one_vote_in_a_term_also_after_a_crash(self) -> None:
        core, storage = one(4)
        core.step(2, Vote(5, 9, 4))
        assert said(core, storage) == [(2, VoteReply(5, True))]
        core.step(3, Vote(5, 9, 4))
        assert said(core, storage) == [(3, VoteReply(5, False))]
        again = Raft(1, storage, CONFIG, 2)
        for _ in range(E):
            again.tick()
        again.step(3, Vote(5, 9, 4))
        again.step(2, Vote(5, 9, 4))
        replies = [(to, reply) for to, reply in said(again, storage) if isinstance(reply, VoteReply)]
        assert replies == [(3, VoteReply(5, False)), (2, VoteReply(5, True))]

    @pytest.mark.parametrize(
        ("last_term", "last_index", "granted"), [(3, 3, True), (3, 2, False), (2, 9, False), (4, 1, True), (3, 4, True)]
    )
    def test_votes_go_to_logs_that_are_up_to_date(self, last_term: int, last_index: int, granted: bool) -> None:
        core, storage = one(4, 1, 3)
        core.step(2, Vote(5, last_index, last_term))
        assert said(core, storage) == [(2, VoteReply(5, granted))]

    def test_whoever_hears_from_a_leader_doesn_t_listen_to_candidates(self) -> None:
        core, storage = one(4)
        core.step(2, Append(4, 1, 0, (), 1, 1))
        said(core, storage)
        core.step(3, Vote(9, 99, 8))
        core.step(3, Vote(9, 99, 8, pre=True))
        assert said(core, storage) == []
        assert core.term == 4
        core.step(3, Vote(9, 99, 8, forced=True))
        assert said(core, storage) == [(3, VoteReply(9, True))]

    def test_nor_within_an_election_timeout_of_a_start(self) -> None:
        storage = MemoryStorage(THREE)
        core = Raft(1, storage, CONFIG, seed=1)
        for _ in range(E - 1):
            core.tick()
        core.step(2, Vote(1, 1, 0))
        assert said(core, storage) == []
        core.tick()
        core.step(2, Vote(1, 1, 0))
        assert said(core, storage) == [(2, VoteReply(1, True))]

    def test_an_old_term_gets_the_new_one_for_an_answer(self) -> None:
        core, storage = one(4)
        core.step(2, Vote(3, 9, 3))
        core.step(3, Append(3, 1, 0, (), 1, 7))
        assert said(core, storage) == [(2, VoteReply(4, False)), (3, AppendReply(4, False, 0, 7))]

    def test_a_member_that_was_cut_off_unseats_nobody(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.isolate(3)
        group.tick(5 * E)
        term = leader.term
        assert group.cores[3].term == term
        group.cut.clear()
        group.tick(2 * E)
        assert (leader.leads, leader.term) == (True, term)

    def test_a_leader_that_hears_of_no_majority_resigns(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.tick(E)
        group.isolate(1)
        group.tick(E + 1, 1)
        assert not leader.leads

    def test_learners_don_t_ask_for_votes(self) -> None:
        storage = MemoryStorage(Membership((2, 3), (1,)))
        core = Raft(1, storage, CONFIG, 1)
        for _ in range(5 * E):
            core.tick()
        assert said(core, storage) == []


class TestReplication:
    """§3.5, §3.6, §10.2."""

    def test_a_new_leader_begins_with_an_entry_of_its_own(self) -> None:
        group = Group(3)
        leader = group.elect(2)
        assert [(entry.kind, entry.term) for entry in group.committed[1]] == [(Kind.NOOP, leader.term)]

    def test_entries_are_committed_by_a_majority(self) -> None:
        group = Group(5)
        leader = group.elect(1)
        group.isolate(4)
        group.isolate(5)
        assert isinstance(leader.propose(b"a"), Accepted)
        group.settle()
        assert group.payloads(1) == [b"a"]
        group.isolate(3)
        leader.propose(b"b")
        group.settle()
        assert group.payloads(1) == [b"a"]

    def test_a_leader_counts_its_own_copy_only_once_it_is_on_disk(self) -> None:
        group = Group(2)
        leader = group.elect(1)
        leader.propose(b"a")
        ready = leader.ready()
        assert ready is not None
        (append,) = ready.at_once  # On its way while the leader still writes.
        assert isinstance(append.message, Append)
        group.cores[2].step(1, append.message)
        group.work(2)
        _, _, reply = group.wire.pop()
        leader.step(2, reply)
        before = leader.commit
        group.storages[1].write(ready)
        leader.advance()
        assert (before, leader.commit) == (2, 3)

    def test_proposals_between_two_turns_go_out_in_one_message(self) -> None:
        group = Group(2)
        leader = group.elect(1)
        for payload in (b"a", b"b", b"c"):
            leader.propose(payload)
        group.work(1)
        assert [[entry.payload for entry in append.entries] for _, _, append in group.wire] == [[b"a", b"b", b"c"]]

    def test_messages_follow_each_other_without_waiting_up_to_a_bound(self) -> None:
        group = Group(2, Config(inflight=3))
        leader = group.elect(1)
        for number in range(9):
            leader.propose(b"%d" % number)
            group.work(1)
        assert [append.prev_index for _, _, append in group.wire] == [2, 3, 4]
        group.settle()
        assert len(group.payloads(2)) == 9

    def test_a_follower_refuses_what_does_not_follow_and_says_where_to_go_on(self) -> None:
        core, storage = one(5, 1, 1, 4, 4, 4)
        core.step(2, Append(5, 5, 3, (), 1, 7))
        assert said(core, storage) == [(2, AppendReply(5, False, 3, 7, prev_index=5, index_term=1))]

    def test_conflicting_entries_go_and_others_stay(self) -> None:
        core, storage = one(5, 1, 1, 4, 4)
        core.step(2, Append(5, 2, 1, (Entry(3, 1),), 1, 7))
        said(core, storage)
        assert storage.last() == 5
        core.step(2, Append(5, 3, 1, (Entry(4, 5),), 1, 8))
        assert said(core, storage) == [(2, AppendReply(5, True, 4, 8))]
        assert [entry.term for entry in storage.entries(2, 4)] == [1, 1, 5]
        assert storage.last() == 4

    def test_an_old_message_takes_nothing_back(self) -> None:
        core, storage = one(5)
        both = (Entry(2, 5, payload=b"a"), Entry(3, 5, payload=b"b"))
        core.step(2, Append(5, 1, 0, both, 1, 7))
        core.step(2, Append(5, 1, 0, both[:1], 1, 6))
        assert said(core, storage) == [(2, AppendReply(5, True, 3, 7)), (2, AppendReply(5, True, 2, 6))]
        assert storage.last() == 3

    def test_a_follower_commits_only_as_far_as_the_message_reached(self) -> None:
        core, storage = one(5, 4, 4, 4)
        core.step(2, Append(5, 2, 4, (), 4, 7))
        said(core, storage)
        assert core.commit == 2

    def test_entries_of_older_terms_are_not_committed_by_counting(self) -> None:
        """Figure 3.7 (8 in the paper): what a majority has can still be overwritten."""
        core, storage = one(2, 2, 2)
        for _ in range(2 * E):
            core.tick()
        said(core, storage)
        core.step(2, VoteReply(3, True, pre=True))
        said(core, storage)
        core.step(2, VoteReply(3, True))
        said(core, storage)
        assert (core.leads, core.term) == (True, 3)
        core.step(2, AppendReply(3, True, 3, 0))
        assert core.commit == 1
        core.step(2, AppendReply(3, True, 4, 0))
        assert core.commit == 4

    def test_a_lagging_log_is_found_by_terms_and_brought_into_line(self) -> None:
        """Figure 3.6: logs that miss entries, have others, or both."""
        group = Group(3)
        leaders = {1: (1, 1, 1, 4, 4, 5, 5, 6, 6, 6), 2: (1, 1, 1, 4), 3: (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3)}
        for member, terms in leaders.items():
            entries = tuple(Entry(index, term) for index, term in enumerate(terms, 2))
            group.storages[member].write(Ready(entries=entries, hard_state=HardState(7, 0, 1)))
            group.start(member)
        group.elect(1)
        group.tick(3 * CONFIG.heartbeat_ticks)
        logs = [storage.entries(2, storage.last()) for storage in group.storages.values()]
        assert [entry.term for entry in logs[0]] == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]
        assert logs[1] == logs[2] == logs[0]

    def test_nothing_is_answered_before_it_is_on_disk(self) -> None:
        core, _ = one(5)
        core.step(2, Append(6, 1, 0, (Entry(2, 6),), 1, 7))
        ready = core.ready()
        assert ready is not None
        assert ready.at_once == ()
        assert (ready.hard_state, ready.entries) == (HardState(6, NOBODY, 1), (Entry(2, 6),))
        assert [send.message for send in ready.after_persisting] == [AppendReply(6, True, 2, 7)]

    @pytest.mark.parametrize(
        "entries",
        [(Entry(3, 5),), (Entry(2, 6),), (Entry(2, 5), Entry(3, 4)), (Entry(2, 5, Kind.MEMBERSHIP, b"no"),)],
    )
    def test_what_no_leader_sends_is_dropped(self, entries: tuple[Entry, ...]) -> None:
        core, storage = one(5)
        core.step(2, Append(5, 1, 0, entries, 1, 7))
        assert said(core, storage) == []


class TestReads:
    """§6.4."""

    def test_a_lease_answers_at_once(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.tick(2)
        assert leader.has_lease
        assert leader.read(b"r") is None
        group.work(1)
        assert group.reads[1] == [Read(b"r", leader.commit)]

    def test_a_lease_ends_before_anybody_may_vote_for_another_however_clocks_drift(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.tick(2)
        group.isolate(1)
        ticks = next(tick for tick in range(1, E + 1) if leader.tick() or not leader.has_lease)
        assert ticks <= CONFIG.lease_ticks
        assert CONFIG.lease_ticks * (100 + CONFIG.drift_pct) <= (E - 1) * 100

    def test_without_a_lease_a_majority_confirms_first(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.tick(2)
        group.isolate(1)
        group.tick(CONFIG.lease_ticks, 1)
        assert leader.read(b"r") is None
        group.settle()
        assert group.reads[1] == []
        group.cut.clear()
        group.tick(CONFIG.heartbeat_ticks, 1)
        assert group.reads[1] == [Read(b"r", leader.commit)]

    def test_a_new_leader_waits_for_an_entry_of_its_own(self) -> None:
        group = Group(3)
        group.elect(1)
        group.isolate(1)
        new = group.elect(2)
        assert new.commit == 3
        old_commit = group.storages[3].hard_state().commit
        assert new.read(b"r") is None
        group.work(2)
        assert group.reads[2][0].index > old_commit

    def test_others_say_who_leads(self) -> None:
        group = Group(3)
        group.elect(1)
        assert group.cores[2].read(b"r") == Refused(Why.NOT_LEADER, 1)
        assert group.cores[2].propose(b"x") == Refused(Why.NOT_LEADER, 1)


class TestSnapshots:
    """§5."""

    def test_who_is_too_far_behind_gets_a_snapshot_and_then_entries(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.isolate(3)
        for number in range(5):
            leader.propose(b"%d" % number)
            group.settle()
        snapshot = group.compact(1)
        leader.propose(b"after")
        group.cut.clear()
        group.tick(3 * CONFIG.heartbeat_ticks, 1)
        assert group.storages[3].snapshot() == snapshot
        assert group.payloads(3) == [b"after"]

    def test_a_snapshot_takes_the_place_of_all_that_was_there(self) -> None:
        core, storage = one(5, 4, 4)
        there = Snapshot(9, 5, Membership((1, 2)))
        core.step(2, Install(5, there, 7))
        assert said(core, storage) == [(2, AppendReply(5, True, 9, 7))]
        assert (storage.snapshot(), storage.last(), core.commit) == (there, 9, 9)
        assert core.membership == Membership((1, 2))

    def test_a_snapshot_of_what_is_there_only_commits_it(self) -> None:
        core, storage = one(5, 4, 4)
        core.step(2, Install(5, Snapshot(2, 4, THREE), 7))
        assert said(core, storage) == [(2, AppendReply(5, True, 2, 7))]
        assert (storage.last(), core.commit) == (3, 2)

    def test_a_lost_one_is_sent_again(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.isolate(3)
        leader.propose(b"a")
        group.settle()
        group.compact(1)
        group.tick(CONFIG.heartbeat_ticks, 1, 2)
        group.cut.clear()
        group.tick(CONFIG.snapshot_ticks + 2 * CONFIG.heartbeat_ticks, 1)
        assert group.storages[3].last() == leader.commit


class TestMembers:
    """§4."""

    def test_one_voter_at_a_time(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        assert not group.change(leader, (1, 2, 3, 4, 5))
        assert not group.change(leader, (1, 2, 4))
        assert group.change(leader, (1, 2, 3, 4))
        assert not group.change(leader, (1, 2, 3, 4, 5)), "the one before is not committed"

    def test_not_before_an_entry_of_the_leader_s_own_is_committed(self) -> None:
        """The erratum of the algorithm: else two changes of two terms make two majorities."""
        group = Group(3)
        group.elect(1)
        group.isolate(1)
        new = group.cores[2]
        group.cores[3].tick()
        for _ in range(E):
            group.cores[3].tick()
        group.cut.add((3, 2))
        for _ in range(3 * E):
            new.tick()
        group.settle()
        new.step(3, VoteReply(new.term + 1, True, pre=True))
        group.work(2)
        new.step(3, VoteReply(new.term, True))
        assert new.leads
        group.work(2)
        assert not group.change(new, (1, 2, 3, 4))

    def test_a_member_joins_with_nothing_and_gets_everything(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        leader.propose(b"a")
        group.start(4)
        assert group.change(leader, (1, 2, 3), (4,))
        group.tick(3 * CONFIG.heartbeat_ticks, 1)
        assert group.payloads(4) == [b"a"]
        assert group.change(leader, (1, 2, 3, 4))
        group.settle()
        assert group.cores[4].membership == Membership((1, 2, 3, 4))
        group.isolate(2)
        leader.propose(b"b")
        group.settle()
        assert group.payloads(4) == [b"a", b"b"]

    def test_a_leader_that_is_taken_out_leads_until_that_is_committed(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        assert group.change(leader, (2, 3))
        assert leader.leads
        group.settle()
        assert not leader.leads
        group.tick(3 * E, 2, 3)
        assert sum(group.cores[member].leads for member in (2, 3)) == 1

    def test_a_leader_that_was_taking_itself_out_may_be_needed_once_more(self) -> None:
        """It has the change alone, so nobody else is elected; it leads without a vote of its own."""
        group = Group(2)
        leader = group.elect(1)
        group.isolate(1)
        assert group.change(leader, (2,))
        group.work(1)
        group.start(1)
        group.cut.clear()
        group.tick(6 * E)
        assert group.cores[2].membership == Membership((2,))
        assert group.cores[2].leads

    def test_a_change_that_is_overwritten_doesn_t_count(self) -> None:
        group = Group(3)
        old = group.elect(1)
        group.isolate(1)
        assert group.change(old, (1, 2, 3, 4))
        group.work(1)
        group.elect(2)
        assert old.membership == Membership((1, 2, 3, 4))
        group.cut.clear()
        group.tick(3 * CONFIG.heartbeat_ticks, 2)
        assert old.membership == THREE

    @pytest.mark.parametrize("payload", [b"", b"x", b"\x92\x90\x90", b"\x92\x92\x02\x01\x90", b"\x92\x91\x01\x91\x01"])
    def test_what_is_no_membership_is_refused(self, payload: bytes) -> None:
        group = Group(1)
        leader = group.elect(1)
        assert leader.propose(payload, Kind.MEMBERSHIP) == Refused(Why.INVALID, 1)


class TestTransfer:
    """§3.10."""

    def test_the_heir_is_elected_at_once(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        assert leader.transfer(3) is None
        group.settle()
        assert group.cores[3].leads

    def test_it_costs_the_leader_its_lease(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        group.tick(2)
        assert leader.has_lease
        leader.transfer(3)
        assert not leader.has_lease
        assert leader.propose(b"x") == Refused(Why.CHANGING, 1)
        group.isolate(1)
        group.work(1)
        group.cut.clear()
        group.wire.clear()
        group.tick(E, 1)
        assert leader.leads, "it was given up"
        assert not leader.has_lease
        assert isinstance(leader.propose(b"x"), Accepted)

    def test_an_old_order_is_not_obeyed(self) -> None:
        core, storage = one(5)
        core.step(2, TimeoutNow(4))
        assert said(core, storage) == []


class TestSwitch:
    """A log that goes on in another protocol."""

    def test_nothing_after_it_is_taken_or_handed_out(self) -> None:
        group = Group(3)
        leader = group.elect(1)
        at = leader.propose(b"to the other", Kind.SWITCH)
        assert isinstance(at, Accepted)
        assert leader.propose(b"x") == Refused(Why.CHANGING, 1)
        group.settle()
        new = group.elect(2) if not group.cores[2].leads else group.cores[2]
        group.tick(CONFIG.heartbeat_ticks, 2)
        assert new.commit > at.index, "a new leader's own entry comes after it"
        assert {group.committed[member][-1].index for member in (1, 2, 3)} == {at.index}
        assert {core.sealed for core in group.cores.values()} == {at.index}


class TestLimits:
    """What a leader takes."""

    def test_too_long_and_too_much(self) -> None:
        group = Group(2, Config(entry_bytes=10, uncommitted_bytes=12, reads=1))
        leader = group.elect(1)
        group.isolate(2)
        assert leader.propose(b"x" * 11) == Refused(Why.TOO_LARGE, 1)
        assert isinstance(leader.propose(b"x" * 10), Accepted)
        assert leader.propose(b"x" * 3) == Refused(Why.BUSY, 1)
        group.tick(CONFIG.lease_ticks, 1)
        assert leader.read(b"1") is None
        assert leader.read(b"2") == Refused(Why.BUSY, 1)
        group.cut.clear()
        group.tick(2 * CONFIG.heartbeat_ticks, 1)
        assert isinstance(leader.propose(b"x" * 10), Accepted)

    @pytest.mark.parametrize(
        "wrong",
        [{"heartbeat_ticks": 0}, {"election_ticks": 5}, {"drift_pct": -1}, {"snapshot_ticks": 3}, {"inflight": 0}],
    )
    def test_settings_that_can_t_be_are_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be"):
            Config(**wrong)
