"""A channel as a byte stream: what forwards and peer calls read and write."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from actors.transport.session import SessionEngine


class ChannelReset(Exception):
    """The channel was given up, by the peer, by `close`, or with its session. Stays inside the transport."""


class ByteStream(Protocol):
    """Both ends of anything that carries bytes in order; ``tests/kits/byte_stream.py`` tries every implementation."""

    peer_closed: bool
    """True once `receive` has given b'' for an end behind which nobody reads any more either."""

    async def send(self, data: bytes) -> None:
        """Hand over `data`; waits while the far reader is slow. Raises `ChannelReset`."""

    async def receive(self) -> bytes:
        """At least one byte, or b'' at the end. Raises `ChannelReset`."""

    def end(self, *, closed: bool = False) -> None:
        """Nothing more is sent; the far reader sees the end after all data. `closed`: nothing is read here either."""

    def reset(self, reason: str) -> None:
        """Give up both directions at once; data under way may be lost."""


class ChannelStream:
    """One channel of a session; one task may send while another receives.

    Args:
        nudge: tells the session that the engine may have something to send.
    """

    def __init__(self, channel: int, engine: SessionEngine, nudge: Callable[[], None]) -> None:
        self.channel = channel
        self._engine = engine
        self._nudge = nudge
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._reset_reason: str | None = None
        self.peer_closed = False

    async def send(self, data: bytes) -> None:
        """See `ByteStream.send`."""
        left = memoryview(data)
        while left:
            self._check()
            room = self._engine.send_room(self.channel)
            if not room:
                self._writer = asyncio.get_running_loop().create_future()
                await self._writer
                continue
            self._engine.send(self.channel, bytes(left[:room]))
            left = left[room:]
            self._nudge()

    async def receive(self) -> bytes:
        """See `ByteStream.receive`."""
        while True:
            self._check()
            closed = self._engine.closed_by_peer(self.channel)
            data = self._engine.take(self.channel)
            if data is not None:
                self.peer_closed = closed and not data
                self._nudge()
                return data
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def end(self, *, closed: bool = False) -> None:
        """See `ByteStream.end`."""
        if self._reset_reason is None:
            self._engine.end(self.channel, closed=closed)
            self._nudge()

    def reset(self, reason: str) -> None:
        """See `ByteStream.reset`."""
        self._engine.reset(self.channel, reason)
        self.was_reset(reason)
        self._nudge()

    def readable(self) -> None:
        """The engine has something to take."""
        _wake(self._reader)

    def writable(self) -> None:
        """The engine has room again."""
        _wake(self._writer)

    def was_reset(self, reason: str) -> None:
        """The channel is over; whoever waits on it hears why."""
        self._reset_reason = self._reset_reason or reason
        _wake(self._reader)
        _wake(self._writer)

    def _check(self) -> None:
        if self._reset_reason is not None:
            raise ChannelReset(self._reset_reason)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
