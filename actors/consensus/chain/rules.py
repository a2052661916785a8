"""The rules that a switch rests on, each in one place.

The simulator's tests replace one at a time by a wrong one and must notice.
"""

from actors.consensus.bft.rules import RULES as BFT_RULES
from actors.consensus.bft.rules import Rules as BftRules
from actors.consensus.raft.rules import RULES as RAFT_RULES
from actors.consensus.raft.rules import Rules as RaftRules
from actors.consensus.ready import Membership


class Rules:
    """The right rules, of the chain and of its two protocols."""

    raft: RaftRules = RAFT_RULES
    bft: BftRules = BFT_RULES

    def is_over(self, sealed: int, handed: int) -> bool:
        """A part is over when its `SWITCH` is committed and all up to it was handed out: the next begins on that."""
        return 0 < sealed <= handed

    def serves(self, sealed: int) -> bool:
        """Nothing is answered from a part that is sealed: others may have committed in the next already."""
        return sealed == 0

    def concerns(self, said: int, part: int) -> bool:
        """A message is for the part that it was sent in, and for no other."""
        return said == part

    def hands_out(self, over: bool) -> bool:
        """A part that is over hands out nothing: a restart would repeat its entries."""
        return not over

    def first_term(self, term: int) -> int:
        """Terms go on where the part before ended, so that (index, term) names one entry of the whole log."""
        return term

    def first_members(self, sealed: Membership, first: Membership) -> Membership:
        """The next part begins with the members as of the `SWITCH`. `first`: those that this part began with here, none
        for a member that came later."""
        assert sealed.voters or not first.voters, "a part that nobody decides in"
        return sealed

    def may_forget(self, behind: int) -> bool:
        """An old part is kept while any of today's members (`behind` of them) may still be in it."""
        return behind == 0


RULES = Rules()
