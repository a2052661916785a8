"""The API over a fake backend, reached in-process and over a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from api.server import serve
from tests.unit.api.fake import AUTHORIZED, TOKEN, FakeBackend, boot


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def app(backend: FakeBackend) -> FastAPI:
    return create_app(backend, TOKEN, boot)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api", headers=AUTHORIZED) as made:
        yield made


@pytest.fixture
def served(app: FastAPI) -> Iterator[str]:
    """The URL of the app behind a real server, in a loop and thread of its own."""
    up = threading.Event()
    state: dict[str, object] = {}

    async def run() -> None:
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(app, "127.0.0.1", 0, started=started, grace_s=1.0))
        state.update(loop=asyncio.get_running_loop(), task=task, port=await started)
        up.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert up.wait(20)
    yield f"http://127.0.0.1:{state['port']}"
    state["loop"].call_soon_threadsafe(state["task"].cancel)  # type: ignore[attr-defined]
    thread.join(20)
    assert not thread.is_alive()
