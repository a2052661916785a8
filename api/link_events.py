"""Changes of the links' modes as a stream: what the transports keep of them, asked for again and again."""

import asyncio
from collections.abc import AsyncIterator

from fastapi.sse import ServerSentEvent

from actors.errors import NovaCronError, Unreachable
from api.backend import Backend
from api.models import LinkSwitchView
from api.problems import problem

# A mode holds for 10 s at least, and the transport keeps the latest 32 changes of each link: none is missed.
POLL_S = 2.0


async def follow(
    backend: Backend, after_ms: int | None, *, poll_s: float = POLL_S, patience_s: float = 60.0
) -> AsyncIterator[LinkSwitchView]:
    """Every change of mode later than `after_ms` (Unix time in ms; None: that comes from now on), oldest first.

    Raises:
        Unreachable: the manager did not answer for `patience_s`.
        NovaCronError: whatever else it says.
    """
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    known: set[tuple[str, str, float]] | None = None
    while True:
        try:
            found = [
                LinkSwitchView(
                    node=view.link.node, peer=view.link.peer, at=one.at, before=one.before, after=one.after,
                    reason=one.reason,
                )
                for view in (await backend.links()).links
                for one in view.link.switches
            ]  # fmt: skip
        except Unreachable:
            if loop.time() - answered_at > patience_s:
                raise
            await asyncio.sleep(poll_s)
            continue
        answered_at = loop.time()
        if known is None:
            old = [one for one in found if after_ms is None or event_id(one) <= after_ms]
            known = {_key(one) for one in old}
        for one in sorted(found, key=lambda one: one.at):
            if _key(one) not in known:
                yield one
        # What the transports have forgotten by now can't come again.
        known = {_key(one) for one in found}
        await asyncio.sleep(poll_s)


async def as_sse(backend: Backend, after_ms: int | None, path: str) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events `mode`; `problem` if it broke."""
    try:
        async for one in follow(backend, after_ms):
            yield ServerSentEvent(event="mode", id=str(event_id(one)), data=one)
    except NovaCronError as error:
        yield ServerSentEvent(event="problem", data=problem(error, path))


def event_id(switch: LinkSwitchView) -> int:
    """When it was, Unix time in ms: a number that a client can go on from."""
    return int(switch.at * 1000)


def _key(switch: LinkSwitchView) -> tuple[str, str, float]:
    return switch.node, switch.peer, switch.at
