"""The event stream: order, resume, restarts of the manager, heartbeats, its end."""

import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import sse

from actors.errors import ActorDown, JobUnknown, Unreachable
from actors.migration.messages import MoveRequest
from api.events import as_sse, follow
from tests.unit.api.fake import AUTHORIZED, FakeBackend


async def read(client: httpx2.AsyncClient, job: str, after: int | None = None) -> list[httpx2.ServerSentEvent]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with client.stream("GET", f"/v1/migrations/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200
        return [event async for event in httpx2.EventSource(answer)]


async def test_from_begin_to_end(client: httpx2.AsyncClient, backend: FakeBackend) -> None:
    job = await backend.submit(MoveRequest(guest="web1"))
    events = await read(client, job.id)
    assert [(event.event, event.id) for event in events] == [
        ("state", "1"),
        ("progress", "2"),
        ("state", "3"),
        ("end", "3"),
    ]
    last: Any = events[2].json()
    assert (last["seq"], last["job"]["state"], last["job"]["pause_ms"]) == (3, "completed", 42.0)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_resume_after_any_event(client: httpx2.AsyncClient, backend: FakeBackend, after: int) -> None:
    job = await backend.submit(MoveRequest(guest="web1"))
    events = await read(client, job.id, after)
    assert [int(event.id) for event in events[:-1]] == list(range(after + 1, 4))
    assert events[-1].event == "end"


async def test_an_unknown_job_is_refused_before_the_stream_begins(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/migrations/job-9/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "job-unknown")


@pytest.mark.parametrize("after", ["-1", "x", "1e3", str(1 << 60)])
async def test_a_last_event_id_that_can_not_be(client: httpx2.AsyncClient, backend: FakeBackend, after: str) -> None:
    job = await backend.submit(MoveRequest(guest="web1"))
    answer = await client.get(f"/v1/migrations/{job.id}/events", headers={"Last-Event-ID": after})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


async def test_events_arrive_as_they_happen(served: str, backend: FakeBackend) -> None:
    backend.finishes = False
    job = await backend.submit(MoveRequest(guest="web1"))
    url = f"{served}/v1/migrations/{job.id}/events"
    async with httpx2.AsyncClient(headers=AUTHORIZED, timeout=20) as client, client.stream("GET", url) as answer:
        events = aiter(httpx2.EventSource(answer))
        assert (await anext(events)).event == "state"
        # The stream waits now; what cancels the job is another request.
        await client.post(f"{served}/v1/migrations/{job.id}/cancel")
        assert [event.event async for event in events] == ["state", "end"]


async def test_heartbeats_keep_an_idle_stream_alive(
    served: str, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_PING_INTERVAL", 0.01)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01, raising=False)
    backend.finishes = False
    job = await backend.submit(MoveRequest(guest="web1"))
    url = f"{served}/v1/migrations/{job.id}/events"
    async with httpx2.AsyncClient(headers=AUTHORIZED, timeout=20) as client, client.stream("GET", url) as answer:
        async with asyncio.timeout(20):
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    return
    pytest.fail("the stream ended without a heartbeat")


async def test_a_restarted_manager_goes_on_where_it_was(backend: FakeBackend) -> None:
    job = await backend.submit(MoveRequest(guest="web1"))
    backend.outages = [ActorDown(service="manager", reason="killed"), Unreachable(what="manager")]
    batches = [batch async for batch in follow(backend, job.id, 0, retry_s=0.0)]
    assert [event.seq for batch in batches for event in batch.events] == [1, 2, 3]
    assert [batch.final for batch in batches] == [False, True]


async def test_a_manager_that_stays_away_ends_the_stream_with_the_reason(backend: FakeBackend) -> None:
    job = await backend.submit(MoveRequest(guest="web1"))
    backend.broken = ActorDown(service="manager@madrid1", reason="killed")
    with pytest.raises(ActorDown):
        async for _ in follow(backend, job.id, 0, retry_s=0.0, patience_s=0.0):
            pytest.fail("nothing can come")


async def test_a_forgotten_job_ends_the_stream_with_a_problem(backend: FakeBackend) -> None:
    backend.broken = JobUnknown(job="job-1")
    events = [event async for event in as_sse(backend, "job-1", 0, "/v1/migrations/job-1/events")]
    assert [(event.event, event.data.code) for event in events] == [("problem", "job-unknown")]


async def test_errors_are_not_named_as_eventsource_names_its_own(backend: FakeBackend) -> None:
    backend.finishes = False
    job = await backend.submit(MoveRequest(guest="web1"))
    backend.go(job.id, kind="error", state="failed", ended_at=5.0, error="link-down")
    assert [event.event async for event in as_sse(backend, job.id, 1, "/")] == ["failure", "end"]
