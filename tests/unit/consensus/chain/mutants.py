"""A chain with one rule of the switch taken away, each in its own way."""

from actors.consensus.chain import Rules
from actors.consensus.raft.rules import Rules as RaftRules
from actors.consensus.ready import Membership


class _SealsAtOnce(RaftRules):
    def seals(self, switch: int, commit: int) -> int:
        return switch


class _GoesOn(RaftRules):
    def hands_out(self, commit: int, switch: int) -> int:
        return commit


class BeginsBeforeTheSwitchIsCommitted(Rules):
    raft = _SealsAtOnce()

    def is_over(self, sealed: int, handed: int) -> bool:
        return sealed > 0


class CommitsPastTheSwitch(Rules):
    raft = _GoesOn()


class AnswersFromASealedPart(Rules):
    def serves(self, sealed: int) -> bool:
        return True


class TakesMessagesOfOtherParts(Rules):
    def concerns(self, said: int, part: int) -> bool:
        return True


class HandsOutAgain(Rules):
    def hands_out(self, over: bool) -> bool:
        return True


class BeginsWithOldMembers(Rules):
    def first_members(self, sealed: Membership, first: Membership) -> Membership:
        return first


class ForgetsPartsThatAreNeeded(Rules):
    def may_forget(self, behind: int) -> bool:
        return True
