"""What is asked of the kernel about TCP sockets, and the TLS handshake on a non-blocking one."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Callable

import structlog

from actors.config.schema import Transport
from actors.errors import Failed
from actors.transport.link_meter import TcpCounters

log = structlog.get_logger()
_ACCEPT_PAUSE_S = 0.1
_HELLO_PEEK_BYTES = 512

# include/uapi/linux/tcp.h and netinet/tcp.h; Python 3.11 does not name them all.
_TCP_NOTSENT_LOWAT = 25
# struct tcp_info: flag "its rate was limited by us" in bit 0 at 7, rtt in microseconds at 68, total_retrans at 100,
# bytes_acked at 120, data_segs_out at 156, bytes_sent at 200 (Linux 4.19 and later).
_TCP_INFO_BYTES = 208
_NUMBER = struct.Struct("=I")
_COUNTER = struct.Struct("=Q")

_UNSENT_FIRST_BYTES = 131072
_UNSENT_LEAST_BYTES = 32768
# The kernel lets a send buffer grow to the end of tcp_wmem by itself, 4 MiB on most machines, of which its own overhead
# is about half.
_SELF_SIZED_BYTES = 2 << 20
_SEND_BUFFER_MOST_BYTES = 64 << 20
_SO_SNDBUFFORCE = 32


def tune(connection: socket.socket, settings: Transport) -> None:
    """Set a TCP socket up for AMST: little unsent data in the kernel, so that urgent frames overtake bulk ones."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    first_bytes = min(_UNSENT_FIRST_BYTES, settings.notsent_lowat_bytes)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, first_bytes)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.dead_after_s * 1000))
    set_congestion(connection, "bbr" if settings.congestion == "auto" else settings.congestion)


def set_congestion(connection: socket.socket, name: str) -> str:
    """Control congestion by `name`, or cubic where the kernel has no such (or does not let us); what is used then."""
    for each in (name, "cubic"):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, each.encode())
            return each
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def tcp_counters(connection: socket.socket) -> TcpCounters:
    """The kernel's counters of `connection`; zeros once it is closed."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return TcpCounters()
    if len(info) < _TCP_INFO_BYTES:
        return TcpCounters()
    return TcpCounters(
        sent_bytes=_COUNTER.unpack_from(info, 200)[0],
        acked_bytes=_COUNTER.unpack_from(info, 120)[0],
        segments=_NUMBER.unpack_from(info, 156)[0],
        retransmits=_NUMBER.unpack_from(info, 100)[0],
        rtt_s=_NUMBER.unpack_from(info, 68)[0] / 1e6,
        starved=bool(info[7] & 1),
    )


def limit_unsent(connection: socket.socket, bytes_wanted: float, most_bytes: int) -> None:
    """Let the kernel hold so much unsent data, at most `most_bytes`; it asks for more when half of it is left."""
    least_bytes = min(_UNSENT_LEAST_BYTES, most_bytes)
    limit = max(least_bytes, min(int(bytes_wanted), most_bytes))
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, limit)


def size_send_buffer(connection: socket.socket, flight_bytes: float) -> None:
    """Have room in the kernel for twice `flight_bytes` (rate × round trip), where it would not grow so far by itself.

    Beyond the kernel's own limits only root may go; without that right it stays at them, and more connections help.
    """
    wanted_bytes = min(_SEND_BUFFER_MOST_BYTES, int(2 * flight_bytes))
    if wanted_bytes <= _SELF_SIZED_BYTES:
        return
    try:
        # The kernel doubles what it is told, for its overhead, and reports the double.
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 2 * wanted_bytes:
            return
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted_bytes)
    except PermissionError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wanted_bytes)
    except OSError:
        return


def reason_of(error: OSError) -> str:
    """What went wrong, in words that an operator knows."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)


async def listen(port: int, wait_s: float) -> socket.socket:
    """A listening socket on every address of this host, IPv6 and IPv4.

    Waits up to `wait_s` seconds for the port: after a crash the predecessor's process may not have ended yet.

    Raises:
        Failed: another program holds the port, or it may not be bound.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        try:
            if socket.has_dualstack_ipv6():
                listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
            else:
                listener = socket.create_server(("", port), backlog=128)
        except OSError as error:
            if loop.time() > until:
                raise Failed(detail=f"transport can't listen on port {port}: {reason_of(error)}") from error
            await asyncio.sleep(0.1)
            continue
        listener.setblocking(False)
        return listener


async def accept_all(listener: socket.socket, take: Callable[[socket.socket, str], None]) -> None:
    """Hand every connection of a non-blocking listener to `take`, with its address ('' for UNIX), until cancelled.

    Not with ``loop.sock_accept``: cancelled at the wrong moment it loses a connection that it has already taken.
    """
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            failed.set_exception(error)
            loop.remove_reader(listener)
            return
        connection.setblocking(False)
        take(connection, address[0] if address else "")

    while True:
        failed: asyncio.Future[None] = loop.create_future()
        loop.add_reader(listener, on_readable)
        try:
            await failed
        except OSError as error:  # no descriptors left, most likely: others will close some
            log.warning("accept failed", reason=reason_of(error))
        finally:
            loop.remove_reader(listener)
        await asyncio.sleep(_ACCEPT_PAUSE_S)


async def tls_handshake(tls: ssl.SSLSocket) -> bytes:
    """Run the handshake of a non-blocking socket; the caller sets the deadline.

    Returns the first bytes that the other side sent, as they came: its hello is not encrypted.

    Raises:
        OSError: it failed (`ssl.SSLError` is one).
    """
    first = b""
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(tls, writing=False)
            with contextlib.suppress(BlockingIOError):  # a wake-up for nothing
                first = first or socket.socket.recv(tls, _HELLO_PEEK_BYTES, socket.MSG_PEEK)
        except ssl.SSLWantWriteError:
            await _ready(tls, writing=True)
        else:
            return first


async def tls_receive(tls: ssl.SSLSocket, into: memoryview) -> int:
    """Read at least one byte into `into`; 0 at the end of the stream. The caller sets the deadline."""
    while True:
        try:
            return tls.recv_into(into)
        except ssl.SSLWantReadError:
            await _ready(tls, writing=False)


async def tls_send(tls: ssl.SSLSocket, data: bytes) -> None:
    """Write all of `data`. The caller sets the deadline."""
    left = memoryview(data)
    while left:
        try:
            left = left[tls.send(left) :]
        except ssl.SSLWantWriteError:
            await _ready(tls, writing=True)


async def _ready(connection: socket.socket, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add: Callable[..., None] = loop.add_writer if writing else loop.add_reader
    remove: Callable[..., object] = loop.remove_writer if writing else loop.remove_reader

    def is_ready() -> None:
        if not future.done():
            future.set_result(None)

    number = connection.fileno()
    add(number, is_ready)
    try:
        await future
    finally:
        remove(number)
