"""A job's events as a stream that outlives restarts of the manager."""

import asyncio
from collections.abc import AsyncIterator

from fastapi.sse import ServerSentEvent

from actors.errors import NovaCronError, Unreachable
from actors.migration.messages import EventsQuery, JobEvents
from api.backend import Backend
from api.move_models import MigrationEvent
from api.problems import problem

# EventSource reports its own connection errors as "error", so ours is named otherwise.
_EVENT_NAMES = {"error": "failure"}


async def follow(
    backend: Backend, job: str, after: int, *, wait_s: float = 10.0, retry_s: float = 1.0, patience_s: float = 60.0
) -> AsyncIterator[JobEvents]:
    """Batches of events with seq > `after` until the job has ended.

    A manager that does not answer is asked again every `retry_s`: it is restarted and goes on from its journal.

    Raises:
        Unreachable: it did not come back within `patience_s`.
        NovaCronError: whatever else the manager says, such as `JobUnknown`.
    """
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
    while True:
        try:
            batch = await backend.events(EventsQuery(job=job, after=after, wait_s=wait_s))
        except Unreachable:
            if loop.time() - answered_at > patience_s:
                raise
            await asyncio.sleep(retry_s)
            continue
        answered_at = loop.time()
        yield batch
        if batch.final:
            return
        after = batch.events[-1].seq if batch.events else after


async def as_sse(backend: Backend, job: str, after: int, path: str) -> AsyncIterator[ServerSentEvent]:
    """The same as server-sent events: `state`, `progress`, `stalled`, `failure`, then `end`; `problem` if it broke."""
    try:
        async for batch in follow(backend, job, after):
            for event in batch.events:
                after = event.seq
                name = _EVENT_NAMES.get(event.kind, event.kind)
                yield ServerSentEvent(event=name, id=str(event.seq), data=MigrationEvent.of(event))
    except NovaCronError as error:
        yield ServerSentEvent(event="problem", data=problem(error, path))
    else:
        yield ServerSentEvent(event="end", id=str(after), data={"seq": after})
