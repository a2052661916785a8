"""A founder that begins with an empty disk: only one that never was a member may."""

import asyncio

from actors.calls.messages import Empty
from actors.control.members import Founder
from actors.control.messages import Enrolled
from actors.control.reach import Ask
from actors.errors import Conflict, NovaCronError

ASK_S = 1.0


async def never_was(me: Founder, founders: tuple[Founder, ...], needed: int, ask: Ask) -> None:
    """Make sure that `me` has not been a member before, as far as the other founders can be asked.

    Args:
        needed: so many have to know it: one, or f + 1 where f may lie, who could keep any founder away else.

    Raises:
        Conflict: they know it: its disk was lost, and with it what it promised.
    """

    async def known(node: str) -> bool:
        try:
            return me.number in (await ask(node, "enrolled", Empty(), Enrolled, ASK_S)).numbers
        except NovaCronError:
            return False

    others = [each.node for each in founders if each is not me]
    if sum(await asyncio.gather(*map(known, others))) >= needed:
        raise Conflict(
            detail=f"member {me.number} on {me.node} has lost its disk, and with it what it promised the others. With"
            f" its node stopped: `novacron member remove --lost {me.node}`, `novacron member add --wait-s 0 {me.node}`;"
            " then start the node"
        )
