"""How a member finds out that it was taken out, also when nobody tells it any more."""

from time import monotonic

from actors.consensus.chain import Protocol
from actors.consensus.ready import NOBODY
from actors.control.lease_rules import attestations
from actors.control.messages import Fresh, MembersAnswer
from actors.control.reach import Ask
from actors.control.roster import Roster
from actors.control.shell import Shell
from actors.errors import NovaCronError

_ASK_S = 5.0
ALONE_S = 10.0
"""Without a leader, or in BFT without anything new, and between two questions."""


class Leaving:
    """One member's.

    Args:
        ask: asks the member on another node.
    """

    def __init__(self, shell: Shell, roster: Roster, ask: Ask) -> None:
        self._shell, self._roster, self._ask = shell, roster, ask
        self._alone_since, self._commit = monotonic(), 0

    async def why(self) -> str:
        """Why this member is to stop; '' while it is one, or nobody knows. May take as long as a call does."""
        me = self._roster.me
        if self._roster.left() or await self._others_say_so():
            return (
                f"member {me.number} on {me.node} was taken out by an operator; `novacron member add {me.node}` makes"
                " the node a member again, under a new number"
            )
        return ""

    async def _others_say_so(self) -> bool:
        core = self._shell.core
        # A view of BFT has a leader whoever is there.
        taken_along = core.leader != NOBODY if core.protocol is Protocol.RAFT else core.commit != self._commit
        self._commit = core.commit
        if taken_along:
            self._alone_since = monotonic()
            return False
        if monotonic() - self._alone_since < ALONE_S:
            return False
        self._alone_since = monotonic()
        # In BFT some may lie: so many must say it that one of them does not.
        needed = 1 if core.protocol is Protocol.RAFT else attestations(len(core.membership.voters))
        told = 0
        for other in self._roster.current():
            if other.node == self._roster.me.node:
                continue
            try:
                # It answers only with a majority.
                question = Fresh(deadline_s=_ASK_S)
                answer = await self._ask(other.node, "members", question, MembersAnswer, _ASK_S + 1.0)
                told += self._roster.me.number in answer.left
            except NovaCronError:
                continue
            if told >= needed:
                return True
        return False
