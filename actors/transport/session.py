"""One session between two nodes as a pure state machine: no socket, no clock, no task.

In: `receive` (a frame from a connection), `connection_down`, and what the local side does (`open`, `send`,
`end`, `reset`, `take`). Out: `next_frame` (what a connection that can write should carry now) and `events`.

A connection that can write asks for the next frame, so fast connections carry more (work-stealing), and nothing is
bound to a connection before it is about to leave.
"""

import struct
from collections.abc import Collection

import msgspec

from actors.errors import Conflict, StreamCorrupt
from actors.transport.channel import Limits, ReceiveSide, SendSide
from actors.transport.frames import HEADER_BYTES, SEQUENCED_TYPES, Frame, FrameType
from actors.transport.schedule import PRIORITIES, Scheduler

CONTROL = 0
"""The channel of peer calls: open from the start, never ends, goes before all others."""
CHANNELS_MAX = 1024
_CREDIT = struct.Struct(">Q")


class Opened(msgspec.Struct, frozen=True):
    """The peer opened `channel` to our `service`."""

    channel: int
    service: str
    priority: int


class Readable(msgspec.Struct, frozen=True):
    """`take(channel)` has something new: data or the end."""

    channel: int


class Writable(msgspec.Struct, frozen=True):
    """`channel` has room again, after `send_room` had been 0."""

    channel: int


class WasReset(msgspec.Struct, frozen=True):
    """The peer gave `channel` up; whatever was not taken is lost."""

    channel: int
    reason: str


Event = Opened | Readable | Writable | WasReset


class _Channel:
    def __init__(self, limits: Limits, priority: int, *, awaits_open: bool) -> None:
        self.priority = priority
        self.send = SendSide(limits)
        self.receive = ReceiveSide(limits)
        self.awaits_open = awaits_open
        self.wants_room = False
        self.end_taken = False


class SessionEngine:
    """Engine of one side.

    Args:
        initiator: true on the side that dialled first; it numbers its channels 1, 3, 5 …, the other 2, 4, 6 ….
        limits: sizes; the window of the peer comes from the handshake.
    """

    def __init__(self, *, initiator: bool, limits: Limits) -> None:
        self.limits = limits
        """Sizes of channels to come; those that are open keep theirs."""
        self._next_id = 1 if initiator else 2
        self._own_parity = self._next_id % 2
        self._peer_floor = 2 if initiator else 1
        self._peer_seen: set[int] = set()
        self._channels: dict[int, _Channel] = {}
        self._scheduler = Scheduler()
        self._acks: dict[int, None] = {}
        self._gone: dict[int, None] = {}
        self._resets: dict[int, str] = {}
        self._resets_sent: set[int] = set()
        self._events: list[Event] = []
        self.sent_frames = 0
        self.resent_bytes = 0
        self._add(CONTROL, priority=0, awaits_open=False)

    # --- local side

    @property
    def channels(self) -> list[int]:
        """Ids of the channels that live, the control channel included."""
        return list(self._channels)

    @property
    def resets_pending(self) -> int:
        """Channels given up here whose reset the peer has not confirmed."""
        return len(self._resets)

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of all channels that were sent and not acknowledged."""
        return sum(entry.send.unacked_bytes for entry in self._channels.values())

    @property
    def may_send(self) -> bool:
        """False if `next_frame` would be None for every connection."""
        if self._gone or self._acks or len(self._resets_sent) < len(self._resets):
            return True
        return any(entry.send.waits for entry in self._channels.values())

    def buffered_bytes(self, channel: int) -> int:
        """Bytes of `channel` that have arrived, in order or not, and were not taken."""
        return self._channels[channel].receive.buffered_bytes

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def assign(self, channel: int, job: str) -> None:
        """`channel` belongs to `job`, with whose other channels it shares; see `Scheduler`."""
        self._scheduler.assign(channel, job)

    def raise_job(self, job: str, *, raised: bool) -> None:
        """Let the bulk of `job` go before all other bulk, or no longer."""
        self._scheduler.raise_job(job, raised=raised)

    def job_of(self, channel: int) -> str:
        """The job of `channel`, '' if it has none."""
        return self._scheduler.job_of(channel)

    def open(self, service: str, priority: int, job: str = "") -> int:
        """Open a channel to the peer's `service` for `job`; data may follow at once.

        Raises:
            Conflict: half of the session's channels are in use; the other half is the peer's.
        """
        if len(self._channels) >= CHANNELS_MAX // 2:
            raise Conflict(detail=f"the session already has {len(self._channels)} channels")
        channel = self._next_id
        self._next_id += 2
        entry = self._add(channel, priority=priority, awaits_open=False)
        self._scheduler.assign(channel, job)
        entry.send.open(bytes([priority]) + service.encode())
        return channel

    def send_room(self, channel: int) -> int:
        """Bytes that `channel` takes now. After 0 a `Writable` comes."""
        entry = self._channels[channel]
        if not entry.send.room_bytes:
            entry.wants_room = True
        return entry.send.room_bytes

    def send(self, channel: int, data: bytes) -> None:
        """Queue `data`; ask `send_room` first: what is over it is still taken, once."""
        self._channels[channel].send.push(data)

    def end(self, channel: int, *, closed: bool = False) -> None:
        """No more data from here; `closed`: nobody reads here any more either."""
        self._channels[channel].send.end(closed=closed)
        self._forget_if_over(channel)

    def reset(self, channel: int, reason: str) -> None:
        """Give `channel` up; unknown channels are ignored, they are over already."""
        if channel in self._channels:
            self._drop(channel)
            self._resets[channel] = reason

    def take(self, channel: int) -> bytes | None:
        """The next bytes of `channel`, b'' at its end, None if nothing has arrived."""
        entry = self._channels.get(channel)
        if entry is None:
            return b""
        data = entry.receive.take()
        if data == b"":
            entry.end_taken = True
            self._forget_if_over(channel)
        elif data is not None and entry.receive.credit_is_due:
            self._acks[channel] = None
        return data

    def fit_windows(self, period_s: float, round_trip_s: float) -> None:
        """Fit every channel's window and queue to the last `period_s`; see `ReceiveSide.fit_window`."""
        for channel, entry in self._channels.items():
            entry.send.fit_queue(period_s)
            if entry.receive.fit_window(period_s, round_trip_s):
                self._acks[channel] = None

    def closed_by_peer(self, channel: int) -> bool:
        """True if the peer's END said that its local end is gone altogether."""
        entry = self._channels.get(channel)
        return entry is None or entry.receive.closed

    # --- connections

    def connection_down(self, connection: int) -> None:
        """`connection` is gone: what only it carried is sent again, and what it may have swallowed is said again."""
        self._resets_sent.clear()
        for channel, entry in self._channels.items():
            entry.send.connection_lost(connection)
            if entry.send.only_end_unacked:
                entry.send.resend_end()
            self._acks[channel] = None

    def carried_by(self, connection: int) -> bool:
        """True if something that `connection` carried last is unacknowledged."""
        return any(entry.send.carried_by(connection) for entry in self._channels.values())

    def steal(self, now_s: float, overdue_s: float) -> bool:
        """Send again, over other connections, what has been under way for `overdue_s`; see `SendSide.steal`."""
        stolen = 0
        for entry in self._channels.values():
            stolen += entry.send.steal(now_s, overdue_s)
        return bool(stolen)

    def next_frame(
        self, connection: int, *, bulk: bool = True, now_s: float = 0.0, held: Collection[str] = ()
    ) -> Frame | None:
        """What `connection` should carry next, or None; `bulk` and `held` leave out guest memory and disks."""
        frame = self._next_small()
        if frame is None:
            channel = self._scheduler.pick(
                lambda each: self._channels[each].send.sendable(connection), bulk=bulk, held=held
            )
            if channel is None:
                return None
            entry = self._channels[channel]
            frame, again = entry.send.take(channel, connection, now_s)
            self._scheduler.spent(channel, HEADER_BYTES + len(frame.payload))
            if again:
                self.resent_bytes += HEADER_BYTES + len(frame.payload)
            if entry.wants_room and entry.send.room_bytes:
                entry.wants_room = False
                self._events.append(Writable(channel))
        self.sent_frames += 1
        return frame

    def receive(self, frame: Frame) -> None:
        """Take in a frame that came over any connection.

        Raises:
            StreamCorrupt: the peer broke the protocol; the session can't go on.
        """
        if frame.type in SEQUENCED_TYPES:
            self._sequenced(frame)
        elif frame.type is FrameType.ACK:
            self._acknowledged(frame)
        elif frame.type is FrameType.RESET:
            self._was_reset(frame)
        elif frame.type is FrameType.GONE:
            self._was_forgotten(frame.channel)
        else:
            raise StreamCorrupt(reason=f"{frame.type.name} frame inside a session")

    # --- inside

    def _add(self, channel: int, *, priority: int, awaits_open: bool) -> _Channel:
        entry = _Channel(self.limits, priority, awaits_open=awaits_open)
        self._channels[channel] = entry
        self._scheduler.add(channel, priority)
        return entry

    def _drop(self, channel: int) -> None:
        del self._channels[channel]
        self._scheduler.remove(channel)
        self._acks.pop(channel, None)

    def _forget_if_over(self, channel: int) -> None:
        entry = self._channels.get(channel)
        if entry is not None and entry.end_taken and entry.send.complete:
            if channel in self._acks:  # the END's acknowledgement has not left yet: GONE says it too
                self._gone[channel] = None
            self._drop(channel)

    def _next_small(self) -> Frame | None:
        """Frames about channels, before frames of channels."""
        if self._gone:
            channel = next(iter(self._gone))
            del self._gone[channel]
            return Frame(FrameType.GONE, channel)
        if len(self._resets_sent) < len(self._resets):
            channel = next(channel for channel in self._resets if channel not in self._resets_sent)
            self._resets_sent.add(channel)
            return Frame(FrameType.RESET, channel, payload=self._resets[channel].encode()[:512])
        if self._acks:
            channel = next(iter(self._acks))
            del self._acks[channel]
            seq, credit = self._channels[channel].receive.acknowledgement()
            return Frame(FrameType.ACK, channel, seq, payload=_CREDIT.pack(credit))
        return None

    def _sequenced(self, frame: Frame) -> None:
        entry = self._channels.get(frame.channel)
        if entry is None:
            if not self._is_new(frame.channel):
                if frame.channel not in self._resets:
                    self._gone[frame.channel] = None
                return
            if len(self._channels) >= CHANNELS_MAX:
                raise StreamCorrupt(reason=f"more than {CHANNELS_MAX} channels")
            self._see(frame.channel)
            entry = self._add(frame.channel, priority=PRIORITIES - 1, awaits_open=True)
        was_readable = entry.receive.readable
        for due in entry.receive.accept(frame):
            if due.type is FrameType.OPEN:
                self._open_from_peer(entry, due)
            elif frame.channel == CONTROL:
                raise StreamCorrupt(reason="END of the control channel")
        if entry.awaits_open and entry.receive.expected_seq:
            raise StreamCorrupt(reason=f"channel {frame.channel} begins without OPEN")
        self._acks[frame.channel] = None
        if entry.receive.readable and (not was_readable or frame.type is FrameType.END):
            self._events.append(Readable(frame.channel))

    def _open_from_peer(self, entry: _Channel, frame: Frame) -> None:
        priority = frame.payload[0]
        if not entry.awaits_open or priority >= PRIORITIES:
            raise StreamCorrupt(reason=f"channel {frame.channel} can't be opened so")
        try:
            service = frame.payload[1:].decode()
        except UnicodeDecodeError as error:
            raise StreamCorrupt(reason="service name is not UTF-8") from error
        entry.awaits_open = False
        entry.priority = priority
        self._scheduler.add(frame.channel, priority)
        self._events.append(Opened(frame.channel, service, priority))

    def _acknowledged(self, frame: Frame) -> None:
        entry = self._channels.get(frame.channel)
        if entry is not None:
            entry.send.acknowledge(frame.seq, _CREDIT.unpack(frame.payload)[0])
            self._forget_if_over(frame.channel)
        else:
            self._is_new(frame.channel)  # one that the peer has just opened may overtake its OPEN; it says nothing new

    def _was_reset(self, frame: Frame) -> None:
        if frame.channel == CONTROL:
            raise StreamCorrupt(reason="RESET of the control channel")
        entry = self._channels.get(frame.channel)
        if entry is not None:
            known = not entry.awaits_open
            self._drop(frame.channel)
            if known:
                self._events.append(WasReset(frame.channel, frame.payload.decode(errors="replace")))
        elif self._is_new(frame.channel):
            self._see(frame.channel)  # it overtook the OPEN
        self._resets.pop(frame.channel, None)
        self._resets_sent.discard(frame.channel)
        self._gone[frame.channel] = None

    def _was_forgotten(self, channel: int) -> None:
        self._resets_sent.discard(channel)
        if self._resets.pop(channel, None) is not None or channel not in self._channels:
            return
        if channel == CONTROL:
            raise StreamCorrupt(reason="GONE for the control channel")
        entry = self._channels[channel]
        if entry.send.ended and entry.receive.ended:
            entry.send.acknowledge_all()
            self._forget_if_over(channel)
        else:
            self._drop(channel)
            self._events.append(WasReset(channel, "the peer does not know it any more"))

    def _is_new(self, channel: int) -> bool:
        """True for an id of the peer's that it has not used before.

        Raises:
            StreamCorrupt: one of our own ids that we have not given out.
        """
        if channel % 2 == self._own_parity or channel == CONTROL:
            if channel >= self._next_id:
                raise StreamCorrupt(reason=f"channel {channel} was never opened")
            return False
        return channel >= self._peer_floor and channel not in self._peer_seen

    def _see(self, channel: int) -> None:
        if channel >= self._peer_floor + 2 * CHANNELS_MAX * 4:
            raise StreamCorrupt(reason=f"channel {channel} is far ahead of {self._peer_floor}")
        self._peer_seen.add(channel)
        while self._peer_floor in self._peer_seen:
            self._peer_seen.remove(self._peer_floor)
            self._peer_floor += 2
