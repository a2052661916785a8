"""What the agreed control state becomes, change by change."""

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from actors.control.decision import Table
from api.problems import Responses, documented
from api.routes import TOKEN, BackendDep
from api.state_events import as_sse

router = APIRouter(prefix="/v1/events", tags=["cluster"], dependencies=[TOKEN])

_REVISION_MAX = (1 << 53) - 1
_EVENTS: Responses = {
    200: {
        "description": "Server-sent events `changed` (data: a StateEventView, id: its revision); `forgotten` (the same "
        "without changes): some between are not kept any more, so read the state again; `problem` (data: a Problem) "
        "when the stream can't go on. Comments every 15 s keep it alive.",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "event": {"enum": ["changed", "forgotten", "problem"]},
                        "id": {"type": "string"},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": {"$ref": "#/components/schemas/StateEventView"},
                        },
                    },
                }
            }
        },
    }
}


@router.get("", response_class=EventSourceResponse, responses=documented() | _EVENTS)
async def follow_state(
    backend: BackendDep,
    request: Request,
    after: Annotated[
        int | None, Query(ge=0, le=_REVISION_MAX, description="revision to go on after; without: what comes now")
    ] = None,
    table: Annotated[list[Table], Query(description="only these; without: all")] = [],  # noqa: B006
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=_REVISION_MAX, description="counts before `after`")
    ] = None,
) -> AsyncIterable[ServerSentEvent]:
    """Follow the agreed state: owners, leases, overrides, moves, members, flags, for as long as the client wants."""
    begin = after if last_event_id is None else last_event_id
    async for event in as_sse(backend, begin, table, request.url.path):
        yield event
