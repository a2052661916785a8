"""A live session with one peer: the engine, its connections, its channels and their heartbeats."""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Container

import structlog

from actors.config.schema import Transport
from actors.errors import StreamCorrupt
from actors.transport.caps import Caps
from actors.transport.channel import Limits
from actors.transport.channel_stream import ChannelStream
from actors.transport.connection import Connection
from actors.transport.frames import HEADER_BYTES, Frame, FrameParser, FrameType
from actors.transport.link_meter import LinkMeter
from actors.transport.session import CONTROL, Opened, Readable, SessionEngine, WasReset, Writable

log = structlog.get_logger()
_ADAPT_S = 0.2
_OVERDUE_LEAST_S = 0.5
_OVERDUE_TRIPS = 8
_SURPLUS = "fewer streams are wanted"
_RENEWED = "this node has a new certificate"
OnChannel = Callable[["PeerSession", ChannelStream, str], None]
"""(session, channel, service): the peer opened a channel."""


class PeerSession:
    """One session, from its first connection until it is closed or was too long without one.

    Too long: `hold_s` while it carries channels of a job, whose deadline ends them sooner, else `resume_s`.

    Args:
        session: its 16-byte id.
        initiator: true if this node dialled.
        version: agreed version of the frames.
        caps: all of this node's.
        on_channel: called for each channel that the peer opens.
        on_over: called once, with the reason, when the session has ended.
    """

    def __init__(
        self,
        *,
        session: bytes,
        peer: str,
        peer_site: str,
        initiator: bool,
        version: int,
        peer_window_bytes: int,
        settings: Transport,
        caps: Caps,
        meter: LinkMeter,
        on_channel: OnChannel,
        on_over: Callable[["PeerSession", str], None],
    ) -> None:
        self.id = session
        self.peer = peer
        self.peer_site = peer_site
        self.initiator = initiator
        self.streams_wanted = settings.streams
        self.is_over = False
        self.why_down = "no connection yet"
        self.version = version
        self._settings = settings
        self._caps = caps
        self._meter = meter
        self._on_channel = on_channel
        self._on_over = on_over
        self._peer_window_bytes = peer_window_bytes
        self._engine = SessionEngine(initiator=initiator, limits=self._limits(settings.frame_bytes))
        self.connections: dict[int, Connection] = {}
        self._next_number = 0
        self._streams: dict[int, ChannelStream] = {}
        self._loop = asyncio.get_running_loop()
        self._flush_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._down_since = time.monotonic()
        self._watchers: list[asyncio.Future[None]] = []
        self._to_replace = 0
        self._congestion = ""
        self.congestion = ""
        """How the kernel controls congestion on the latest connection."""
        self.reconnects = 0
        self.control = self._stream(CONTROL)
        self._tasks = [self._loop.create_task(work) for work in (self._beat(), self._adapt())]
        for task in self._tasks:
            task.add_done_callback(self._task_over)

    @property
    def chunk_bytes(self) -> int:
        """What fits into a frame of a channel that is opened now."""
        return self._engine.limits.payload_bytes

    def use_frames(self, frame_bytes: int) -> None:
        """Let the frames of channels opened from now on have so many bytes at most."""
        self._engine.limits = self._limits(frame_bytes)

    def _limits(self, frame_bytes: int) -> Limits:
        settings = self._settings
        windows = (settings.channel_window_bytes, settings.channel_window_max_bytes, self._peer_window_bytes)
        return Limits.of(frame_bytes, *windows)

    @property
    def is_up(self) -> bool:
        """True while at least one connection lives."""
        return bool(self.connections) and not self.is_over

    @property
    def resent_bytes(self) -> int:
        """Bytes sent again because their connection was lost."""
        return self._engine.resent_bytes

    @property
    def in_flight_bytes(self) -> int:
        """Bytes sent and not acknowledged by the peer."""
        return self._engine.in_flight_bytes

    def attach(self, tls: ssl.SSLSocket, parser: FrameParser, group: str) -> None:
        """Add a connection whose handshake is done, with the key agreement that TLS chose."""
        assert not self.is_over
        connection = Connection(self._next_number, tls, parser, self.version, self)
        connection.group = group
        self._next_number += 1
        self.connections[connection.number] = connection
        if self._to_replace:
            self._to_replace -= 1
            self.reconnects += 1
        self.notify()
        self.pressure_changed()
        if self._congestion:
            self.congestion = connection.use_congestion(self._congestion)
        connection.start()
        log.info("stream up", peer=self.peer, streams=len(self.connections))

    def open(self, service: str, priority: int, job: str = "") -> ChannelStream:
        """Open a channel to `service` of the peer; what is sent before it answers waits in the window."""
        stream = self._stream(self._engine.open(service, priority, job))
        self.nudge()
        return stream

    def assign(self, stream: ChannelStream, job: str) -> None:
        """`stream`, which the peer opened, belongs to `job` here."""
        self._engine.assign(stream.channel, job)

    def raise_job(self, job: str, *, raised: bool) -> None:
        """Let what this side sends for `job` go before all other guests' memory and disks, or no longer."""
        self._engine.raise_job(job, raised=raised)

    def want_streams(self, streams: int) -> None:
        """Have `streams` connections from now on; the slowest go, once what they carry has arrived."""
        self.streams_wanted = streams
        self._retire_surplus()
        self.notify()

    async def renew(self, current: Container[ssl.SSLContext]) -> None:
        """Replace every connection that was not made with the `current` contexts, one at a time.

        What one carried goes over the others. The side that dialled the session dials again; a connection that does not
        come back within `dead_after_s` holds up the next no longer.
        """
        for connection in list(self.connections.values()):
            if connection.context in current or not connection.is_open:
                continue
            streams = len(self.connections)
            connection.close(_RENEWED)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.dead_after_s):
                    while not self.is_over and len(self.connections) < streams:
                        await self.change()

    def use_congestion(self, name: str) -> None:
        """Have the kernel control congestion in another way, also on connections to come."""
        self._congestion = name
        for connection in self.connections.values():
            self.congestion = connection.use_congestion(name)

    async def change(self) -> None:
        """Wait until a connection comes or goes, the wanted number changes, or the session ends."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._watchers.append(future)
        await future

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        watchers, self._watchers = self._watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)

    def close(self, reason: str) -> None:
        """End the session on both sides; every channel is reset."""
        for connection in list(self.connections.values()):
            connection.send_urgent(Frame(FrameType.BYE, payload=reason.encode()[:512]))
        self._end(reason)

    def nudge(self) -> None:
        """The engine may have something to send; done once per turn of the loop, so that acknowledgements gather."""
        if not self._flush_is_due and not self.is_over:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    # --- as its connections' owner

    def next_frame(self, connection: Connection) -> Frame | None:
        """What `connection` sends next."""
        # Every turn ends with nothing more to send, which is found out here without asking the caps and the scheduler.
        if self.is_over or connection.retires or not self._engine.may_send:
            return None
        now = time.monotonic()
        wait_s, held = self._caps.wait_s(self.peer, now), self._caps.held(now)
        frame = self._engine.next_frame(connection.number, bulk=not wait_s, now_s=now, held=held)
        if frame is not None:
            job = self._engine.job_of(frame.channel)
            self._caps.spend(self.peer, job, HEADER_BYTES + len(frame.payload))
            self._dispatch()
        elif (wait_s or held) and self._timer is None:
            self._timer = self._loop.call_later(max(wait_s, min(held.values(), default=0.0)), self._after_wait)
        return frame

    def received(self, connection: Connection, frame: Frame) -> None:
        """Take in a frame."""
        if frame.type is FrameType.PING:
            connection.send_urgent(Frame(FrameType.PONG, seq=frame.seq))
        elif frame.type is FrameType.PONG:
            now = time.monotonic()
            connection.round_trips.append((now, max(0.0, now - frame.seq / 1e9)))
        elif frame.type is FrameType.BYE:
            self._end(f"{self.peer} closed the session: {frame.payload.decode(errors='replace')}")
        else:
            try:
                self._engine.receive(frame)
            except StreamCorrupt as error:
                log.error("session given up", peer=self.peer, reason=str(error))
                self.close(str(error))
                return
            self._dispatch()
            self.nudge()

    def closed(self, connection: Connection, reason: str) -> None:
        """Remember what `connection` counted, and send again what only it carried."""
        self._meter.connection_closed(connection)
        self.connections.pop(connection.number, None)
        self.pressure_changed()
        if self.is_over:
            return
        self.why_down = reason
        self._to_replace += reason != _SURPLUS
        if not self.connections:
            self._down_since = time.monotonic()
        log.warning("stream lost", peer=self.peer, reason=reason, streams=len(self.connections))
        self._engine.connection_down(connection.number)
        self._retire_surplus()
        self.notify()
        self.nudge()

    def pressure_changed(self) -> None:
        """Data waits for the link while every connection waits for the network."""
        waits = bool(self.connections) and all(c.waits_for_network for c in self.connections.values())
        self._meter.pressure(time.monotonic(), waits=waits)

    # --- inside

    def _retire_surplus(self) -> None:
        """Let the slowest connections beyond the wanted number retire, and no others.

        Asked again whenever one is lost: were all that are left retiring, what the lost one carried would never be sent
        again, and they would wait for its acknowledgement for ever.
        """
        if self.initiator:
            ranked = sorted(self.connections.values(), key=lambda each: each.rate_bytes_per_s, reverse=True)
            for rank, connection in enumerate(ranked):
                connection.retires = rank >= self.streams_wanted

    def _task_over(self, task: asyncio.Task[None]) -> None:
        """A session whose heartbeat has failed would not notice that its peer is gone: it ends."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session failed", peer=self.peer, exc_info=error)
            self._end(f"internal error: {error!r}")

    def _stream(self, channel: int) -> ChannelStream:
        stream = ChannelStream(channel, self._engine, self.nudge)
        self._streams[channel] = stream
        return stream

    def _flush(self) -> None:
        self._flush_is_due = False
        idle = [c for c in self.connections.values() if not c.waits_for_network]
        random.shuffle(idle)  # or a link that is never full would use its first connection only
        for connection in idle:
            # Most turns have one acknowledgement to send: to ask the others too took a third of the transport's time.
            if not self._engine.may_send:
                break
            connection.write_on()

    def _after_wait(self) -> None:
        self._timer = None
        self._flush()

    def _dispatch(self) -> None:
        for event in self._engine.events():
            stream = self._streams.get(event.channel)
            if isinstance(event, Opened):
                self._on_channel(self, self._stream(event.channel), event.service)
            elif stream is None:
                continue
            elif isinstance(event, Readable):
                stream.readable()
            elif isinstance(event, Writable):
                stream.writable()
            elif isinstance(event, WasReset):
                stream.was_reset(event.reason)

    def forget(self, stream: ChannelStream) -> None:
        """Nobody uses `stream` any more."""
        self._streams.pop(stream.channel, None)

    async def _beat(self) -> None:
        settings = self._settings
        while not self.is_over:
            await asyncio.sleep(settings.heartbeat_s)
            now = time.monotonic()
            for connection in list(self.connections.values()):
                if now - connection.heard_at > settings.dead_after_s:
                    connection.close(f"silent for {now - connection.heard_at:.1f} s")
                else:
                    connection.send_urgent(Frame(FrameType.PING, seq=int(now * 1e9)))
            patience_s = settings.resume_s if self._engine.channels == [CONTROL] else settings.hold_s
            if not self.connections and now - self._down_since > patience_s:
                self._end(f"no connection for {patience_s:g} s; last: {self.why_down}")

    async def _adapt(self) -> None:
        """Fit buffers and windows to what the link carries, some times a second."""
        then = time.monotonic()
        while not self.is_over:
            await asyncio.sleep(_ADAPT_S)
            now = time.monotonic()
            for connection in list(self.connections.values()):
                connection.adapt(now - then, self._settings.notsent_lowat_bytes)
                if connection.retires and not self._engine.carried_by(connection.number):
                    connection.close(_SURPLUS)
            self._engine.fit_windows(now - then, self.round_trip_s or _ADAPT_S)
            if len(self.connections) > 1:
                self._engine.steal(now, max(_OVERDUE_LEAST_S, _OVERDUE_TRIPS * self.round_trip_s))
            self.nudge()
            then = now

    @property
    def round_trip_s(self) -> float:
        """Mean of the connections' latest round trips, in which pings waited behind data; 0 before any."""
        trips = [c.round_trips[-1][1] for c in self.connections.values() if c.round_trips]
        return sum(trips) / len(trips) if trips else 0.0

    def _end(self, reason: str) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.why_down = reason
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections.values()):
            connection.close(reason)
        for stream in list(self._streams.values()):
            stream.was_reset(reason)
        log.warning("session over", peer=self.peer, reason=reason)
        self.notify()
        self._on_over(self, reason)

    def give_up(self, reason: str) -> None:
        """End the session here only: the peer does not know it any more."""
        self._end(reason)
