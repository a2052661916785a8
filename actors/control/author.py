"""`Author`: this node's word to the members, signed with the node's key, which they know once it has enrolled."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.config.schema import Node
from actors.control.commands import AnyCommand, EnrolNode
from actors.control.decision import Refusal
from actors.control.keys import AUTHOR_FILE, public_of, secret_in
from actors.control.messages import Outcome, Submit
from actors.control.signing import signed
from actors.errors import BodyInvalid, StateRefused, Unreachable

log = structlog.get_logger()
UNPROVEN = frozenset({Refusal.UNSIGNED, Refusal.NO_KEY, Refusal.FORGED})
"""The members don't take it for this node's word: it has to enrol first."""
_ROUNDS = 2
_PAUSE_S = 0.2
# While older rules are in force each try may leave an entry in everybody's log.
_AGAIN_S = 3.0
# Where members trust each other a node with another key than it said first goes on without.
_OTHER_KEY_S = 60.0

Ask = Callable[[str, Submit, float], Awaitable[Outcome]]
"""Asks the member on a node, within so many seconds."""


class Author:
    """One process's; all processes of a node have the same key.

    Args:
        node: this one.
        ask: asks a member.
        members: their nodes, the nearest first.
    """

    def __init__(self, node: Node, ask: Ask, members: Callable[[], list[str]]) -> None:
        self._node, self._ask, self._members = node, ask, members
        self._secret: Ed25519PrivateKey | None = None
        self._turn, self._again_at = 0, 0.0
        self._alone = asyncio.Lock()
        self.signs = False
        """Whether the members know the key, as far as this process has been told."""

    def order(self, command: AnyCommand, by: str, session: int, number: int, at_ms: int) -> Submit:
        """What to send to a member, signed if they know the key."""
        sent: msgspec.Struct = command
        if self.signs:
            assert self._secret is not None, "it has enrolled"
            signer = f"node:{self._node.name}"
            sent = signed(command, signer, self._secret.sign, by=by, session=session, number=number, at_ms=at_ms)
        body = msgspec.msgpack.encode(sent)
        return Submit(command=body, by=by, session=session, number=number, at_ms=at_ms)

    async def due(self, within_s: float) -> None:
        """Enrol if that has not been done, nor tried just now."""
        if not self.signs and time.monotonic() >= self._again_at:
            await self.enrol(within_s)

    async def enrol(self, within_s: float, *, elsewhere: bool = False) -> int:
        """Have the members know this node's key; the number under which it may open a session, 0 if they do not.

        `elsewhere`: ask another member first than the last time, whose word was not true.

        Raises:
            StateCorrupt: the key's file holds none.
        """
        async with self._alone:
            if self._secret is None:
                self._secret = await asyncio.to_thread(secret_in, self._node.state_dir, AUTHOR_FILE)
            self._turn += elsewhere
            until = time.monotonic() + within_s
            return await self._enrolled(self._secret, until)

    async def _enrolled(self, secret: Ed25519PrivateKey, until: float) -> int:
        name, at_ms = self._node.name, int(time.time() * 1000)
        by = f"node:{name}"
        command = signed(EnrolNode(node=name, key=public_of(secret)), by, secret.sign, by=by, at_ms=at_ms)
        order, members = Submit(command=msgspec.msgpack.encode(command), by=by, at_ms=at_ms), self._members()
        why = ""
        # In BFT f + 1 of them have to be told, each by this node itself.
        for _ in range(_ROUNDS * len(members)):
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            try:
                outcome = await self._ask(members[self._turn % len(members)], order, left_s)
                if outcome.number:
                    self.signs = True
                    return outcome.number
            except Unreachable as error:
                why = str(error)
                await asyncio.sleep(min(_PAUSE_S, max(0.0, until - time.monotonic())))
            except BodyInvalid:
                # A member of before knows no such command.
                self.signs = False
                break
            except StateRefused as no:
                why, self.signs = str(no), False
                if no.refusal == Refusal.TOO_NEW:
                    break
                if no.refusal == Refusal.STALE:
                    self._again_at = time.monotonic() + _OTHER_KEY_S
            self._turn += 1
        self._again_at = max(self._again_at, time.monotonic() + _AGAIN_S)
        if why:
            log.info("the members do not know this node's key yet", reason=why)
        return 0
