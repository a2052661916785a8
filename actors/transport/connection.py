"""One TLS connection of a session: moves frames between the socket and the session's engine.

It reads and writes the non-blocking TLS socket itself instead of through asyncio's TLS transport, for two reasons:
asyncio would keep up to 64 KiB of encrypted bytes per connection that no urgent frame can overtake, and "the socket can
take more" is just the moment at which the next frame is chosen. Never more than one write is held here.
"""

import asyncio
import ssl
import time
from collections import deque
from typing import Protocol

from actors.errors import StreamCorrupt
from actors.transport.frames import Frame, FrameParser, encode
from actors.transport.link_meter import TcpCounters
from actors.transport.sockets import limit_unsent, reason_of, set_congestion, size_send_buffer, tcp_counters

_READS_PER_TURN = 16
_WRITES_PER_TURN = 16
_UNSENT_S = (0.04, 0.64)
_GATHER_BYTES = 16384
"""Small frames are gathered into one TLS record up to this size."""


class ConnectionOwner(Protocol):
    """The session, as its connections see it."""

    def next_frame(self, connection: "Connection") -> Frame | None:
        """What to send next, or None."""

    def received(self, connection: "Connection", frame: Frame) -> None:
        """A frame came in."""

    def closed(self, connection: "Connection", reason: str) -> None:
        """The connection is over; called once."""

    def pressure_changed(self) -> None:
        """A connection began or ceased to wait for the network."""


class Connection:
    """Frames over one TLS socket whose handshake is done.

    Args:
        number: distinguishes it inside its session.
        tls: non-blocking; owned from here on.
        parser: may hold bytes that arrived behind the handshake.
        version: agreed version of the frames.
    """

    def __init__(
        self, number: int, tls: ssl.SSLSocket, parser: FrameParser, version: int, owner: ConnectionOwner
    ) -> None:
        self.number = number
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._descriptor = tls.fileno()
        self._parser = parser
        self._version = version
        self._owner = owner
        self._urgent: deque[Frame] = deque()
        self._outgoing = memoryview(b"")
        self.waits_for_network = False
        self.retires = False
        """True once it takes no more frames of channels, until what it carried has arrived."""
        self.rate_bytes_per_s = 0.0
        self.is_open = True
        self.heard_at = time.monotonic()
        self.last_counters = TcpCounters()
        """Counters at the meter's last look."""
        self._adapted_bytes = 0
        self._unsent_s = _UNSENT_S[0]
        self._final_counters = TcpCounters()
        self.context = tls.context
        """The TLS context it was made with: of this or of earlier credentials."""
        self.resumed = bool(tls.session_reused)
        self.group = ""
        """What TLS agreed on its key with."""
        self.round_trips: deque[tuple[float, float]] = deque(maxlen=16)
        """(monotonic time, round trip in seconds) of the latest pings."""

    def start(self) -> None:
        """Begin to read, and to write what waits."""
        self._loop.add_reader(self._descriptor, self._on_readable)
        self._parse()
        self.write_on()

    def send_urgent(self, frame: Frame) -> None:
        """Send `frame` on this very connection, before everything else."""
        self._urgent.append(frame)
        self.write_on()

    def adapt(self, period_s: float, unsent_most_bytes: int) -> None:
        """Adapt the kernel's buffers to the rate of the last `period_s`.

        It may hold `_UNSENT_S[0]` of unsent data at that rate, and asks for more when half is left: the time in which
        this process runs again. Much more delays urgent frames, and what a slow connection holds keeps the channel
        waiting. On a busy machine it is not enough: the connection starves, its rate falls, and with it what the kernel
        may hold. So one that starves while data wait gets twice as much, and slowly less when it does not.
        """
        counters = self.counters()
        acked_bytes = counters.acked_bytes
        self.rate_bytes_per_s = (acked_bytes - self._adapted_bytes) / period_s
        if self.is_open:
            starves = counters.starved and self.waits_for_network
            self._unsent_s = min(max(self._unsent_s * (2 if starves else 0.95), _UNSENT_S[0]), _UNSENT_S[1])
            limit_unsent(self._tls, self.rate_bytes_per_s * self._unsent_s, unsent_most_bytes)
            size_send_buffer(self._tls, self.rate_bytes_per_s * counters.rtt_s)
        self._adapted_bytes = acked_bytes

    def use_congestion(self, name: str) -> str:
        """Have the kernel control congestion in another way from now on; gives what it uses."""
        return set_congestion(self._tls, name) if self.is_open else name

    def counters(self) -> TcpCounters:
        """The kernel's counters of this connection."""
        return tcp_counters(self._tls) if self.is_open else self._final_counters

    def close(self, reason: str) -> None:
        """Close at once; what the kernel still holds unsent may be lost, and is sent again on another connection."""
        if not self.is_open:
            return
        self._final_counters = tcp_counters(self._tls)
        self.is_open = False
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._tls.close()
        self._owner.closed(self, reason)

    def write_on(self) -> None:
        """Write until the socket takes no more or nothing is left to send."""
        if self.is_open and not self.waits_for_network:
            self._set_waiting(self._write())

    def _write(self) -> bool:
        """True if the socket takes no more for now."""
        for _ in range(_WRITES_PER_TURN):
            if not self._outgoing:
                self._outgoing = memoryview(self._gather())
                if not self._outgoing:
                    return False
            try:
                self._outgoing = self._outgoing[self._tls.send(self._outgoing) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return True
            except OSError as error:
                self.close(f"writing failed: {reason_of(error)}")
                return False
        return True

    def _gather(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size < _GATHER_BYTES:
            frame = self._urgent.popleft() if self._urgent else self._owner.next_frame(self)
            if frame is None:
                break
            parts.append(encode(frame, self._version))
            size += len(parts[-1])
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _set_waiting(self, waiting: bool) -> None:
        if waiting == self.waits_for_network or not self.is_open:
            return
        self.waits_for_network = waiting
        if waiting:
            self._loop.add_writer(self._descriptor, self._on_writable)
        else:
            self._loop.remove_writer(self._descriptor)
        self._owner.pressure_changed()

    def _on_writable(self) -> None:
        self._set_waiting(self._write())

    def _on_readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                count = self._tls.recv_into(self._parser.space())
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self.close(f"reading failed: {reason_of(error)}")
                return
            if not count:
                self.close("closed by the peer")
                return
            self._parser.filled(count)
            self.heard_at = time.monotonic()
            self._parse()
            if not self.is_open:
                return
        if self._tls.pending():  # decrypted already: the socket itself may never become readable for it
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.is_open:
            self._on_readable()

    def _parse(self) -> None:
        try:
            for frame in self._parser.frames():
                self._owner.received(self, frame)
                if not self.is_open:
                    return
        except StreamCorrupt as error:
            self.close(str(error))
