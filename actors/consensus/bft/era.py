"""An era: who takes part, what it builds on, and who leads which view."""

from typing import Self

import msgspec

from actors.consensus.bft.messages import Ballot, Block, Certificate, Id, Rank, block_id
from actors.consensus.ready import Member, Membership


class Era(msgspec.Struct, frozen=True, array_like=True):
    """Era `number`; its first block's parent is `root`, which ends at index `last`. Views count on from the root's."""

    number: int
    membership: Membership
    root: Id
    root_view: int
    root_step: int
    last: int

    @property
    def root_rank(self) -> Rank:
        """Below every rank of this era."""
        return (self.root_view, self.root_step)

    @property
    def first_view(self) -> int:
        """The one view that needs no timeouts to begin."""
        return self.root_view + 1

    @property
    def root_certificate(self) -> Certificate:
        """Stands for the root as a certificate does for a block; it needs no votes, the era before has agreed on it."""
        return Certificate(self.number, self.root_view, self.root_step, Ballot(self.root, self.last, b"", 0), b"", ())

    @property
    def size(self) -> int:
        """How many vote."""
        return len(self.membership.voters)

    def leader(self, view: int) -> Member:
        """Who proposes in `view`."""
        return self.membership.voters[view % len(self.membership.voters)]

    def votes(self, member: Member) -> bool:
        """Whether `member`'s signature counts."""
        return member in self.membership.voters

    def knows(self, member: Member) -> bool:
        """Whether `member` takes part at all."""
        return member in self.membership.voters or member in self.membership.learners

    def after(self, block: Block, membership: Membership) -> Self:
        """The era that `block`, with its change committed, begins."""
        return type(self)(self.number + 1, membership, block_id(block), block.view, block.step, block.last)
