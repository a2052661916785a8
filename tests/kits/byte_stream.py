"""Conformance kit for byte streams: every `actors.transport.channel_stream.ByteStream` must pass `check`."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from actors.transport.channel_stream import ByteStream, ChannelReset

MakePair = Callable[[], AbstractAsyncContextManager[tuple[ByteStream, ByteStream]]]
"""Two connected ends."""
_DEADLINE_S = 20.0


async def read_all(stream: ByteStream) -> bytes:
    """Everything up to the end."""
    parts = []
    while data := await stream.receive():
        parts.append(data)
    return b"".join(parts)


async def check(make_pair: MakePair) -> None:
    """Run every check on fresh pairs."""
    for probe in (_both_ways, _half_close, _small_pieces, _backpressure, _reset_reaches_both, _waiting_reader_is_reset):
        async with asyncio.timeout(_DEADLINE_S), make_pair() as (one, other):
            await probe(one, other)


async def _both_ways(one: ByteStream, other: ByteStream) -> None:
    there, back = random.Random(1).randbytes(700_001), random.Random(2).randbytes(300_003)

    async def write(stream: ByteStream, data: bytes) -> None:
        await stream.send(data)
        stream.end()

    got_back, got_there, *_ = await asyncio.gather(
        read_all(one), read_all(other), write(one, there), write(other, back)
    )
    assert got_there == there
    assert got_back == back


async def _half_close(one: ByteStream, other: ByteStream) -> None:
    await one.send(b"question")
    one.end()
    assert await read_all(other) == b"question"
    assert not other.peer_closed, "only one direction has ended"
    await other.send(b"answer after the end")
    other.end(closed=True)
    assert await read_all(one) == b"answer after the end"
    assert one.peer_closed


async def _small_pieces(one: ByteStream, other: ByteStream) -> None:
    for number in range(500):
        await one.send(b"%04d" % number)
    one.end()
    assert await read_all(other) == b"".join(b"%04d" % number for number in range(500))


async def _backpressure(one: ByteStream, other: ByteStream) -> None:
    """A writer without a reader stops; it goes on when the reader reads."""
    sent = 0

    async def write_for_ever() -> None:
        nonlocal sent
        while True:
            await one.send(bytes(65536))
            sent += 65536

    writer = asyncio.create_task(write_for_ever())
    try:
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.2)
        received = 0
        while received <= before:
            received += len(await other.receive())
        assert sent > before
    finally:
        writer.cancel()


async def _reset_reaches_both(one: ByteStream, other: ByteStream) -> None:
    await one.send(b"x")
    assert await other.receive() == b"x"
    one.reset("enough")
    with pytest.raises(ChannelReset, match="enough"):
        await read_all(other)
    with pytest.raises(ChannelReset, match="enough"):
        await one.send(b"y")
    with pytest.raises(ChannelReset):
        await other.send(b"z")


async def _waiting_reader_is_reset(one: ByteStream, other: ByteStream) -> None:
    waiting = asyncio.create_task(one.receive())
    await one.send(b"hello")
    assert await other.receive() == b"hello"
    other.reset("gone")
    with pytest.raises(ChannelReset, match="gone"):
        await waiting
