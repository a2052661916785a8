"""Moves: ask for one, read, follow, change, cancel."""

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from actors.errors import (
    Conflict,
    GuestBusy,
    GuestExists,
    GuestNotRunning,
    GuestUnknown,
    HypervisorDown,
    Incompatible,
    JobUnknown,
    LinkDown,
    NodeUnknown,
    NoPlacement,
    NoRoom,
    PastNoReturn,
    RuleBroken,
    SameNode,
    TooLate,
)
from actors.migration.messages import JobId, MoveRequest, PauseChange
from api.events import as_sse
from api.models import GUEST_PATTERN, views
from api.move_models import MigrationChange, MigrationCreate, MigrationList, MigrationView
from api.problems import Responses, documented
from api.routes import TOKEN, BackendDep, GuestPath, JobPath

router = APIRouter(prefix="/v1", tags=["migrations"], dependencies=[TOKEN])

_MAX_SEQ = (1 << 53) - 1  # what JSON numbers carry exactly
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{0,128}$",
        description="the same key within a day answers with the same migration instead of asking for another",
    ),
]
LastEventId = Annotated[
    int, Header(alias="Last-Event-ID", ge=0, le=_MAX_SEQ, description="go on after the event with this id")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="this many, the newest, at most")]
OfGuest = Annotated[str, Query(pattern=rf"{GUEST_PATTERN}|^$", description="of this guest only")]


@router.post(
    "/guests/{name}/migrations",
    status_code=202,
    responses=documented(
        GuestUnknown, NodeUnknown, SameNode, Conflict, GuestBusy, GuestExists, GuestNotRunning, NoRoom, NoPlacement,
        RuleBroken, Incompatible, LinkDown, HypervisorDown,
    ),
)  # fmt: skip
async def create_migration(
    backend: BackendDep, name: GuestPath, body: MigrationCreate, response: Response, key: Key = ""
) -> MigrationView:
    """Ask for a live move; the answer is the job, which goes on by itself."""
    request = MoveRequest(
        guest=name, to=body.to, pause_ms=body.pause_ms or 0, if_stalled=body.if_stalled, max_mbit=body.max_mbit, key=key
    )
    job = await backend.submit(request)
    response.headers["Location"] = f"/v1/migrations/{job.id}"
    return MigrationView.of(job)


@router.get("/migrations", responses=documented())
async def list_migrations(backend: BackendDep, guest: OfGuest = "", limit: Limit = 100) -> MigrationList:
    """The moves this site knows, newest first."""
    jobs = (await backend.jobs()).jobs
    return MigrationList(jobs=views(MigrationView, [job for job in jobs if guest in ("", job.guest)][:limit]))


@router.get("/migrations/{job}", responses=documented(JobUnknown))
async def show_migration(backend: BackendDep, job: JobPath) -> MigrationView:
    """One move."""
    return MigrationView.of(await backend.job(JobId(id=job)))


@router.post("/migrations/{job}/cancel", responses=documented(JobUnknown, PastNoReturn))
async def cancel_migration(backend: BackendDep, job: JobPath) -> MigrationView:
    """Cancel a move: it rolls back and the guest stays where it is. Asking again changes nothing."""
    return MigrationView.of(await backend.cancel(JobId(id=job)))


@router.patch("/migrations/{job}", responses=documented(JobUnknown, TooLate))
async def change_migration(backend: BackendDep, job: JobPath, body: MigrationChange) -> MigrationView:
    """Change the pause that a move under way may cause; it counts at once, until the guest is stopped."""
    return MigrationView.of(await backend.change_pause(PauseChange(id=job, pause_ms=body.pause_ms)))


async def _known_job(backend: BackendDep, job: JobPath) -> None:
    """Once a stream has begun there is no status to say it with, so an unknown job is refused before."""
    await backend.job(JobId(id=job))


_EVENTS: Responses = {
    200: {
        "description": "Server-sent events `state`, `progress`, `stalled`, `failure` (data: a MigrationEvent, id: "
        "its seq), at last `end`; `problem` (data: a Problem) when the stream can't go on. Comments every 15 s keep it "
        "alive.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["state", "progress", "stalled", "failure", "end", "problem"]},
                        "id": {"type": "string"},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {"$ref": "#/components/schemas/MigrationEvent"},
                        },
                    },
                }
            }
        },
    }
}


@router.get(
    "/migrations/{job}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_known_job)],
    responses=documented(JobUnknown) | _EVENTS,
)
async def follow_migration(
    backend: BackendDep, job: JobPath, request: Request, last_event_id: LastEventId = 0
) -> AsyncIterable[ServerSentEvent]:
    """Follow a move until it has ended; reconnect with Last-Event-ID to go on where a connection broke."""
    async for event in as_sse(backend, job, last_event_id, request.url.path):
        yield event
