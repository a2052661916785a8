"""The HTTP server: starts, stops with grace, and says why it can't start."""

import asyncio
import socket

import httpx2
import pytest
from fastapi import FastAPI

from actors.errors import Failed
from actors.migration.messages import MoveRequest
from api.server import serve
from tests.unit.api.fake import AUTHORIZED, FakeBackend


async def start(app: FastAPI) -> tuple["asyncio.Task[None]", str]:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(app, "127.0.0.1", 0, started=started, grace_s=1.0))
    return task, f"http://127.0.0.1:{await started}"


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_it_serves_until_it_is_cancelled(app: FastAPI) -> None:
    task, url = await start(app)
    async with httpx2.AsyncClient(timeout=20) as client:
        assert (await client.get(f"{url}/healthz")).status_code == 200
        await stop(task)
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{url}/healthz")


async def test_open_streams_do_not_hold_it_up(app: FastAPI, backend: FakeBackend) -> None:
    backend.finishes = False
    job = await backend.submit(MoveRequest(guest="web1"))
    task, url = await start(app)
    async with (
        httpx2.AsyncClient(timeout=20, headers=AUTHORIZED) as client,
        client.stream("GET", f"{url}/v1/migrations/{job.id}/events") as answer,
    ):
        events = aiter(httpx2.EventSource(answer))
        assert (await anext(events)).event == "state"
        await stop(task)


async def test_a_taken_port_is_an_error_that_names_it(app: FastAPI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failed, match=f"127.0.0.1 port {port}"):
            await serve(app, "127.0.0.1", port)
