"""Raft with one safety rule taken away, each in its own way."""

from collections.abc import Collection

from actors.consensus.raft.rules import Rules
from actors.consensus.ready import NOBODY, HardState, Member


class HalfIsEnough(Rules):
    def quorum(self, voters: int) -> int:
        return max(voters // 2, 1)


class ForgetsItsVote(Rules):
    def remembers(self, term: int, vote: Member, commit: int) -> HardState:
        return HardState(term, NOBODY, commit)


class HeedsOldTerms(Rules):
    def is_stale(self, term: int, mine: int) -> bool:
        return False


class VotesTwice(Rules):
    def may_vote(self, vote: Member, leader: Member, candidate: Member) -> bool:
        return True


class VotesForOldLogs(Rules):
    def is_up_to_date(self, last_term: int, last_index: int, my_term: int, my_index: int) -> bool:
        return True


class VotesWhileItHears(Rules):
    def is_released(self, silence: int, election_ticks: int) -> bool:
        return True


class TakesWhatDoesNotFollow(Rules):
    def matches(self, my_term: int | None, prev_term: int) -> bool:
        return my_term is not None


class TruncatesAlways(Rules):
    def keeps(self, my_term: int | None, term: int) -> bool:
        return False


class KeepsConflicts(Rules):
    def keeps(self, my_term: int | None, term: int) -> bool:
        return my_term is not None


class CommitsOldTerms(Rules):
    def may_commit(self, entry_term: int, term: int) -> bool:
        return True


class BelievesTheCommit(Rules):
    def commit_told(self, commit: int, checked: int) -> int:
        return commit


class AnswersBeforeItWrites(Rules):
    def acknowledges_after_persisting(self) -> bool:
        return False


class CountsWhatIsNotWritten(Rules):
    def own_copy(self, persisted: int, last: int) -> int:
        return last


class ChangesManyAtOnce(Rules):
    def changes_one(self, old: Collection[Member], new: Collection[Member]) -> bool:
        return True


class ChangesOverAChange(Rules):
    def may_change(self, changed_at: int, commit: int, begun: bool) -> bool:
        return True


class ChangesBeforeItBegins(Rules):
    def may_change(self, changed_at: int, commit: int, begun: bool) -> bool:
        return changed_at <= commit


class NeverEndsItsLease(Rules):
    def lease_holds(self, age: int, lease_ticks: int, given_up: bool) -> bool:
        return True


class KeepsItsLeaseAfterATransfer(Rules):
    def lease_holds(self, age: int, lease_ticks: int, given_up: bool) -> bool:
        return age < lease_ticks


class ReadsUnconfirmed(Rules):
    def confirms(self, asked: int, acknowledged: int) -> bool:
        return True


class ReadsBeforeItBegins(Rules):
    def may_read(self, begun: bool) -> bool:
        return True


class LosesTheSnapshotsTerm(Rules):
    def snapshot_term(self, term: int) -> int:
        return max(term - 1, 0)
