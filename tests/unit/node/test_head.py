"""A cluster is gone when its head refuses again and again, and only then."""

import asyncio
import socket

import pytest

from actors.node import head

DEADLINE_S = 10.0


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_EVERY_S", 0.01)
    monkeypatch.setattr(head, "_CONNECT_S", 0.05)


def bound() -> tuple[socket.socket, str]:
    """A socket with an address of its own that does not listen yet, so that the kernel refuses for it."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made, f"127.0.0.1:{made.getsockname()[1]}"


async def test_a_head_that_refuses_is_gone() -> None:
    taken, address = bound()
    with taken:
        async with asyncio.timeout(DEADLINE_S):
            await head.until_gone(address)


async def test_a_head_is_waited_for_while_it_answers() -> None:
    taken, address = bound()
    asked = 0
    enough = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()
        if asked == 10:
            enough.set()

    server = await asyncio.start_server(answer, sock=taken)
    gone = asyncio.create_task(head.until_gone(address))
    async with asyncio.timeout(DEADLINE_S):
        await enough.wait()
    assert not gone.done()
    server.close()
    async with asyncio.timeout(DEADLINE_S):
        await gone


async def test_a_head_that_is_silent_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Semaphore(0)

    async def hang(*_: object) -> None:
        tried.release()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", hang)
    gone = asyncio.create_task(head.until_gone("192.0.2.1:6379"))
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(2 * head._REFUSALS):
            await tried.acquire()
    assert not gone.done()
    gone.cancel()


async def test_one_refusal_between_answers_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [True, True, False, True, True, True]
    asked: list[str] = []

    async def refuses(address: str) -> bool:
        asked.append(address)
        return said[len(asked) - 1]

    monkeypatch.setattr(head, "_refuses", refuses)
    async with asyncio.timeout(DEADLINE_S):
        await head.until_gone("head:6379")
    assert len(asked) == len(said)
