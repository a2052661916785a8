"""UNIX sockets at both ends of a channel: a listener whose connections become channels, and channels that connect.

The transport does not know what the bytes mean. An end of stream is passed on after all data; an end that is gone
altogether takes the far end with it, so that QEMU and libvirt fail at once instead of waiting for a peer that no longer
exists.
"""

import asyncio
import contextlib
import select
import socket
import stat
import time
from pathlib import Path

import structlog

from actors.errors import BadRequest
from actors.transport.channel_stream import ByteStream, ChannelReset
from actors.transport.messages import Carried
from actors.transport.sockets import reason_of

log = structlog.get_logger()
CONNECT_S = 5.0
_LOCAL_BYTES = 1 << 20
"""What the kernel holds for a local reader: as much as it takes until a busy machine runs it again."""


class Count:
    """What crossed local sockets, of all the connections that share it."""

    def __init__(self) -> None:
        self._taken_bytes, self._taken_at = 0, 0.0
        self._given_bytes, self._given_at = 0, 0.0

    @property
    def carried(self) -> Carried:
        """So far."""
        return Carried(
            taken_bytes=self._taken_bytes,
            taken_at=self._taken_at,
            given_bytes=self._given_bytes,
            given_at=self._given_at,
        )

    def took(self, count_bytes: int) -> None:
        """So much more went from a local socket into a channel."""
        self._taken_bytes += count_bytes
        self._taken_at = time.time()

    def gave(self, count_bytes: int) -> None:
        """So much more went from a channel into a local socket."""
        self._given_bytes += count_bytes
        self._given_at = time.time()


def listen_unix(path: str) -> socket.socket:
    """A listening UNIX socket at `path`; one left behind by a crash is replaced.

    Whoever may enter the directory may connect: QEMU runs under a user of its own, so the directory is the guard.

    Raises:
        BadRequest: no socket can be made there.
    """
    place = Path(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(place.lstat().st_mode):
                place.unlink()
        listener.bind(path)
        place.chmod(0o666)
        listener.listen(16)
    except (OSError, ValueError) as error:
        listener.close()
        raise BadRequest(detail=f"can't listen on {path}: {error}") from error
    listener.setblocking(False)
    return listener


async def connect_unix(path: str) -> socket.socket:
    """Connect to the UNIX socket at `path` within `CONNECT_S`.

    Raises:
        OSError: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


async def join(local: socket.socket, stream: ByteStream, chunk_bytes: int, count: Count) -> None:
    """Carry bytes both ways until both have ended or one fails; then `local` is closed and the channel over.

    Reads at most `chunk_bytes` at a time, and only what the channel takes: nothing is buffered here.
    """
    local.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LOCAL_BYTES)
    outbound = asyncio.create_task(_outbound(local, stream, chunk_bytes, count))
    inbound = asyncio.create_task(_inbound(local, stream, count))
    try:
        await asyncio.gather(outbound, inbound)
    except ChannelReset as reset:
        stream.reset(str(reset))
        log.debug("channel reset", reason=str(reset))
    except OSError as error:
        stream.reset(f"local end failed: {reason_of(error)}")
    except asyncio.CancelledError:
        stream.reset("closed")
        raise
    finally:
        for task in (outbound, inbound):
            task.cancel()
        await asyncio.gather(outbound, inbound, return_exceptions=True)
        local.close()


async def _outbound(local: socket.socket, stream: ByteStream, chunk_bytes: int, count: Count) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(local, chunk_bytes)
        except ConnectionResetError:  # closed with something unread; all that it wrote has been read by now
            stream.end(closed=True)
            return
        if not data:
            stream.end(closed=_hung_up(local))
            return
        await stream.send(data)
        count.took(len(data))


async def _inbound(local: socket.socket, stream: ByteStream, count: Count) -> None:
    loop = asyncio.get_running_loop()
    discarding = False
    while data := await stream.receive():
        if discarding:
            continue
        try:
            await loop.sock_sendall(local, data)
            count.gave(len(data))
        except (BrokenPipeError, ConnectionResetError):
            # Nobody reads here any more, but what was written before must still reach the far end: the outbound half
            # finds the end and tells it. A reset now would destroy the tail of a stream that ended well.
            discarding = True
    if stream.peer_closed:
        raise ChannelReset("the far end is closed")
    if not discarding:
        with contextlib.suppress(OSError):
            local.shutdown(socket.SHUT_WR)


def _hung_up(local: socket.socket) -> bool:
    """True if the other process has closed the socket, false if it only ended its writing half."""
    poll = select.poll()
    poll.register(local, 0)  # POLLHUP is always reported
    return any(events & select.POLLHUP for _, events in poll.poll(0))
