"""BFT mode with one rule taken away, each in its own way."""

from typing import TypeVar

import msgspec

from actors.consensus.bft.messages import Ballot, Rank
from actors.consensus.bft.promise import Promise
from actors.consensus.bft.rules import Rules

Struct = TypeVar("Struct", bound=msgspec.Struct)


class TwoFAreEnough(Rules):
    def quorum(self, voters: int) -> int:
        return max(1, 2 * self.liars(voters))


class OneCheckpointIsEnough(Rules):
    def checkpoint_quorum(self, voters: int) -> int:
        return 1


class BelievesAnySignature(Rules):
    def is_signed(self, verified: bool) -> bool:
        return True


class ComparesNoDigests(Rules):
    def ballot(self, ballot: Ballot) -> bytes:
        return b""


class VotesAgain(Rules):
    def may_vote(self, rank: Rank, voted: Rank) -> bool:
        return True


class IgnoresWhatWasCertified(Rules):
    def is_high_enough(self, justify: Rank, highest: Rank) -> bool:
        return True


class LetsBlocksSkip(Rules):
    def follows(self, justify: Rank, rank: Rank) -> bool:
        return True


class ForgetsItsVotes(Rules):
    def remembers(self, promise: Struct) -> Struct:
        assert isinstance(promise, Promise)
        return msgspec.structs.replace(promise, voted=None, proposed=None, timed_out=0)
