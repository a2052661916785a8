"""Changes of the agreed control state as a stream, from a revision on."""

import asyncio
from collections.abc import AsyncIterator, Collection
from itertools import groupby

import msgspec
from fastapi.sse import ServerSentEvent

from actors.control.decision import Event
from actors.control.messages import Watched
from actors.errors import NovaCronError, Unreachable
from api.backend import Backend
from api.control_models import StateChangeView, StateEventView
from api.problems import problem


async def follow(
    backend: Backend, after: int | None, *, wait_s: float = 20.0, retry_s: float = 1.0, patience_s: float = 60.0
) -> AsyncIterator[Watched]:
    """What was changed after revision `after` (None: what comes from now on), oldest first, without end.

    Raises:
        Unreachable: no member answered for `patience_s`.
        NovaCronError: whatever else they say.
    """
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    while True:
        try:
            if after is None:
                after = (await backend.cluster()).revision
            news = await backend.watch(after, wait_s)
        except Unreachable:
            if loop.time() - answered_at > patience_s:
                raise
            await asyncio.sleep(retry_s)
            continue
        answered_at, after = loop.time(), news.revision
        if news.events or news.forgotten:
            yield news


async def as_sse(
    backend: Backend, after: int | None, tables: Collection[str], path: str
) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events `changed`, one for each revision, of `tables` (empty: of all), and `forgotten`;
    `problem` if it broke."""
    try:
        async for news in follow(backend, after):
            if news.forgotten:
                gone = StateEventView(revision=news.revision, changes=[])
                yield ServerSentEvent(event="forgotten", id=str(news.revision), data=gone)
            for revision, events in groupby(news.events, key=lambda event: event.revision):
                changes = [_shown(event) for event in events if not tables or event.table in tables]
                if changes:
                    told = StateEventView(revision=revision, changes=changes)
                    yield ServerSentEvent(event="changed", id=str(revision), data=told)
    except NovaCronError as error:
        yield ServerSentEvent(event="problem", data=problem(error, path))


def _shown(event: Event) -> StateChangeView:
    record = None
    if event.record is not None:
        record = msgspec.to_builtins(event.record, order="deterministic")
        # As long as 64 KiB; whoever wants it asks the guest's node.
        record.pop("definition", None)
    return StateChangeView(table=event.table, key=event.key, record=record)
