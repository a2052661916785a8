"""The rules that agreement among liars rests on, each in one place.

The simulator's tests replace one at a time by a wrong one and must notice.
"""

from typing import TypeVar

import msgspec

from actors.consensus.bft.messages import Ballot, Claim, Rank, encode

_Promise = TypeVar("_Promise", bound=msgspec.Struct)


class Rules:
    """The right rules. How they fit together is said in `promise.py`."""

    def liars(self, voters: int) -> int:
        """f: how many of `voters` may lie without harm."""
        return (voters - 1) // 3

    def quorum(self, voters: int) -> int:
        """How many votes make a certificate.

        Two quorums of ⌈(n + f + 1) / 2⌉ share f + 1 members, so an honest one; with n = 3f + 1 they are 2f + 1. For any
        n, because a member that is excluded leaves 3f behind.
        """
        return (voters + self.liars(voters)) // 2 + 1

    def checkpoint_quorum(self, voters: int) -> int:
        """How many must have the same digest of the state before anybody else takes the state over."""
        return self.quorum(voters)

    def honest_one(self, voters: int) -> int:
        """How many must say a thing so that an honest one says it."""
        return self.liars(voters) + 1

    def is_signed(self, verified: bool) -> bool:
        """What isn't signed by whom it names was said by nobody."""
        return verified

    def ballot(self, ballot: Ballot) -> bytes:
        """What is signed and counted: votes for different blocks are different votes."""
        return encode(ballot)

    def may_vote(self, rank: Rank, voted: Rank) -> bool:
        """One vote for a rank, and ranks only grow."""
        return rank > voted

    def is_given_up(self, view: int, timed_out: int) -> bool:
        """No vote in a view that this member told others it gave up."""
        return view <= timed_out

    def is_high_enough(self, justify: Rank, highest: Rank) -> bool:
        """A new view builds on what the quorum that gave the old one up knew to be certified, or on more."""
        return justify >= highest

    def follows(self, justify: Rank, rank: Rank) -> bool:
        """Within a view each block builds on the certificate of the one just before."""
        return justify == (rank[0], rank[1] - 1)

    def remembers(self, promise: _Promise) -> _Promise:
        """What a member promised is on disk before anybody learns of it."""
        return promise

    def is_new(self, number: int, last: int) -> bool:
        """Of a member's requests only later ones count: none is committed twice."""
        return number > last

    def contradict(self, first: Claim, second: Claim) -> bool:
        """Only two different claims in one place prove a lie."""
        return first.place == second.place and first.content != second.content

    def is_justified(self, asks: int, voters: int) -> bool:
        """A change of members is wanted by an honest member at least."""
        return asks >= self.honest_one(voters)


RULES = Rules()
