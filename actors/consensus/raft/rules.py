"""The rules that Raft's safety rests on, each in one place.

The simulator's tests replace one at a time by a wrong one and must notice (tests/unit/consensus/test_mutations.py).
"""

from collections.abc import Collection

from actors.consensus.ready import NOBODY, HardState, Member


class Rules:
    """The right rules. Sections are those of Ongaro's thesis."""

    def quorum(self, voters: int) -> int:
        """So many of `voters` decide: any two such sets share a member (§3.4)."""
        return voters // 2 + 1

    def remembers(self, term: int, vote: Member, commit: int) -> HardState:
        """Term and vote are on disk before anybody learns of them (§3.8)."""
        return HardState(term, vote, commit)

    def is_stale(self, term: int, mine: int) -> bool:
        """What comes from an older term has no say (§3.3)."""
        return term < mine

    def may_vote(self, vote: Member, leader: Member, candidate: Member) -> bool:
        """One vote in a term (§3.4)."""
        return vote == candidate or (vote == NOBODY and leader == NOBODY)

    def is_up_to_date(self, last_term: int, last_index: int, my_term: int, my_index: int) -> bool:
        """Only a log that has all that is committed leads: its end must not be older than mine (§3.6.1)."""
        return (last_term, last_index) >= (my_term, my_index)

    def is_released(self, silence: int, election_ticks: int) -> bool:
        """Nobody votes within an election timeout of having heard from a leader; leases rest on it (§4.2.3, §6.4.1)."""
        return silence >= election_ticks

    def matches(self, my_term: int | None, prev_term: int) -> bool:
        """Entries are taken only after one that both logs have (§3.5)."""
        return my_term == prev_term

    def keeps(self, my_term: int | None, term: int) -> bool:
        """An entry that is there already stays, with all after it: the message may be an old one (§3.5)."""
        return my_term == term

    def may_commit(self, entry_term: int, term: int) -> bool:
        """A leader counts copies only of entries of its own term; older ones are committed with them (§3.6.2)."""
        return entry_term == term

    def commit_told(self, commit: int, checked: int) -> int:
        """A follower's log is known to agree with the leader's only as far as the message reached (§3.5)."""
        return min(commit, checked)

    def acknowledges_after_persisting(self) -> bool:
        """What a reply promises is on disk before it is sent (§3.8)."""
        return True

    def own_copy(self, persisted: int, last: int) -> int:
        """A leader counts its own copy once it is on disk (§10.2.1). `last`: the end of its log in memory."""
        assert persisted <= last, "more on disk than there is"
        return persisted

    def changes_one(self, old: Collection[Member], new: Collection[Member]) -> bool:
        """Voters come and go one at a time, so that majorities of before and after share a member (§4.1)."""
        return len(set(old) ^ set(new)) <= 1

    def may_change(self, changed_at: int, commit: int, begun: bool) -> bool:
        """The change before is committed, and (`begun`) an entry of this leader's term (§4.1 and its erratum)."""
        return changed_at <= commit and begun

    def lease_holds(self, age: int, lease_ticks: int, given_up: bool) -> bool:
        """A leader answers alone only as long as nobody can have been elected without it (§6.4.1).

        `given_up`: it asked for an election, which doesn't wait for its lease.
        """
        return age < lease_ticks and not given_up

    def confirms(self, asked: int, acknowledged: int) -> bool:
        """Without a lease, a majority confirms the leader after the read was asked for (§6.4)."""
        return acknowledged >= asked

    def may_read(self, begun: bool) -> bool:
        """A new leader knows what is committed only when an entry of its own term is (§6.4)."""
        return begun

    def seals(self, switch: int, commit: int) -> int:
        """The place of the `SWITCH` entry in the log (0: none) ends this log once it is committed; 0 until then."""
        return switch if switch <= commit else 0

    def hands_out(self, commit: int, switch: int) -> int:
        """Nothing after a `SWITCH` counts: the log goes on in another protocol."""
        return min(commit, switch) if switch else commit

    def snapshot_term(self, term: int) -> int:
        """A snapshot's last entry keeps its term: what follows it is checked against that (§5.1)."""
        return term


RULES = Rules()
