"""The two directions of one channel: numbering, acknowledgement, resend, reordering, flow control. Pure.

Offsets count payload bytes of DATA frames since the channel began; sequence numbers count its frames (OPEN, DATA, END).
"""

import heapq
from collections import deque

import msgspec

from actors.errors import StreamCorrupt
from actors.transport.frames import CLOSED, HEADER_BYTES, Frame, FrameType

FRAMES_AHEAD_MAX = 8192
"""Unacknowledged frames of one channel at most, whatever their size: bounds what the receiver holds out of order."""

STOLEN_FRAMES_MAX = 16
QUEUE_S = 0.04
QUEUE_MOST_BYTES = 4 << 20
WINDOW_TRIPS = 4
WINDOW_LEAST_BYTES = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one session, in bytes.

    `payload_bytes` of one DATA frame; `window_bytes` this side buffers unconsumed per channel at first, and
    `window_max_bytes` at most (and unacknowledged, when it sends); `peer_window_bytes` the other side buffers at first;
    `queue_bytes` accepted before they are sent.
    """

    payload_bytes: int
    window_bytes: int
    window_max_bytes: int
    peer_window_bytes: int
    queue_bytes: int

    @classmethod
    def of(cls, frame_bytes: int, window_bytes: int, window_max_bytes: int, peer_window_bytes: int) -> "Limits":
        """Limits for frames of at most `frame_bytes`, header included; four frames fit into the smaller window."""
        payload_bytes = min(frame_bytes - HEADER_BYTES, window_bytes // 4, peer_window_bytes // 4)
        return cls(
            payload_bytes=payload_bytes,
            window_bytes=window_bytes,
            window_max_bytes=max(window_bytes, window_max_bytes),
            peer_window_bytes=peer_window_bytes,
            queue_bytes=8 * payload_bytes,
        )


class _Item(msgspec.Struct):
    """One sequenced frame to send; `connection` carried it last, from `sent_s` on; `again`: it waits to be resent."""

    type: FrameType
    flags: int
    payload: bytes
    connection: int = -1
    sent_s: float = 0.0
    again: bool = False


class SendSide:
    """What this side sends: queued, then unacknowledged, then forgotten."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: deque[_Item] = deque()
        self._unacked: dict[int, _Item] = {}
        self._lost: list[int] = []
        self._next_seq = 0
        self._sent_offset = 0
        self._credit_offset = limits.peer_window_bytes
        self._queue_bytes = limits.queue_bytes
        self._fitted_offset = 0
        self.queued_bytes = 0
        self.unacked_bytes = 0
        self.ended = False

    @property
    def room_bytes(self) -> int:
        """Bytes that may be queued now."""
        return max(0, self._queue_bytes - self.queued_bytes)

    def fit_queue(self, period_s: float) -> None:
        """Queue as much as was sent in `QUEUE_S` of the last `period_s`, `queue_bytes` at least: on a fast link the
        writer, another process, must not have to run for every few frames.
        """
        sent_bytes = self._sent_offset - self._fitted_offset
        self._fitted_offset = self._sent_offset
        self._queue_bytes = max(self._limits.queue_bytes, min(int(sent_bytes * QUEUE_S / period_s), QUEUE_MOST_BYTES))

    @property
    def waits(self) -> bool:
        """True if something waits to be sent, for the first time or again."""
        return bool(self._queue or self._lost)

    @property
    def complete(self) -> bool:
        """True once the END and all before it are acknowledged."""
        return self.ended and not self._queue and not self._unacked

    @property
    def only_end_unacked(self) -> bool:
        """True if nothing but the END waits for its acknowledgement."""
        if len(self._unacked) != 1 or self._queue:
            return False
        return next(iter(self._unacked.values())).type is FrameType.END

    def open(self, payload: bytes) -> None:
        """Begin with an OPEN frame."""
        assert self._next_seq == 0 and not self._queue
        self._queue.append(_Item(FrameType.OPEN, 0, payload))

    def push(self, data: bytes) -> None:
        """Queue `data`, cut into frames."""
        assert not self.ended, "nothing follows the END"
        step = self._limits.payload_bytes
        for start in range(0, len(data), step):
            self._queue.append(_Item(FrameType.DATA, 0, data[start : start + step]))
        self.queued_bytes += len(data)

    def end(self, *, closed: bool) -> None:
        """Queue the END; `closed` tells that nobody reads here any more either."""
        if not self.ended:
            self.ended = True
            self._queue.append(_Item(FrameType.END, CLOSED if closed else 0, b""))

    def sendable(self, connection: int) -> bool:
        """True if a frame may go over `connection` now."""
        if self._lost_before(connection):
            return True
        if not self._queue or len(self._unacked) >= FRAMES_AHEAD_MAX:
            return False
        length = len(self._queue[0].payload) if self._queue[0].type is FrameType.DATA else 0
        within_credit = self._sent_offset + length <= self._credit_offset
        return within_credit and self.unacked_bytes + length <= self._limits.window_max_bytes

    def take(self, channel: int, connection: int, now_s: float) -> tuple[Frame, bool]:
        """The next frame, given to `connection`, and whether it was sent before. Only when `sendable`."""
        again = self._lost_before(connection)
        if again:
            seq = heapq.heappop(self._lost)
            item = self._unacked[seq]
            item.again = False
        else:
            item, seq = self._queue.popleft(), self._next_seq
            self._next_seq += 1
            self._unacked[seq] = item
            if item.type is FrameType.DATA:
                length = len(item.payload)
                self.queued_bytes -= length
                self.unacked_bytes += length
                self._sent_offset += length
        item.connection, item.sent_s = connection, now_s
        return Frame(item.type, channel, seq, item.flags, item.payload), again

    def _lost_before(self, connection: int) -> bool:
        """True if a frame waits to be sent again that `connection` does not have under way itself."""
        while self._lost and self._lost[0] not in self._unacked:
            heapq.heappop(self._lost)
        return bool(self._lost) and self._unacked[self._lost[0]].connection != connection

    def acknowledge(self, seq: int, credit_offset: int) -> None:
        """Frames before `seq` have arrived; bytes before `credit_offset` may be sent.

        Raises:
            StreamCorrupt: it acknowledges what was never sent.
        """
        if seq > self._next_seq:
            raise StreamCorrupt(reason=f"acknowledges frame {seq - 1}, {self._next_seq} were sent")
        while self._unacked:
            first = next(iter(self._unacked))
            if first >= seq:
                break
            item = self._unacked.pop(first)
            if item.type is FrameType.DATA:
                self.unacked_bytes -= len(item.payload)
        self._credit_offset = max(self._credit_offset, credit_offset)

    def acknowledge_all(self) -> None:
        """The other side has everything: it has forgotten the channel."""
        self.acknowledge(self._next_seq, self._credit_offset)

    def connection_lost(self, connection: int) -> None:
        """Send again what only `connection` carried."""
        for seq, item in self._unacked.items():
            if item.connection == connection:
                self._send_again(seq, item)
                item.connection = -1

    def carried_by(self, connection: int) -> bool:
        """True if something that `connection` carried last is unacknowledged."""
        return any(item.connection == connection for item in self._unacked.values())

    def steal(self, now_s: float, overdue_s: float) -> bool:
        """Let other connections send what all others wait for, if it has been under way for `overdue_s` on one.

        That one has stalled: with the oldest frame goes what else it has had for so long, a part of it at a time.
        The receiver drops whatever comes twice. True if something is to be sent again.
        """
        if not self._unacked:
            return False
        oldest = next(iter(self._unacked.values()))
        if oldest.again or now_s - oldest.sent_s < overdue_s:
            return False
        left = STOLEN_FRAMES_MAX
        for seq, item in self._unacked.items():
            if item.connection == oldest.connection and not item.again and now_s - item.sent_s >= overdue_s:
                self._send_again(seq, item)
                left -= 1
                if not left:
                    break
        return True

    def _send_again(self, seq: int, item: _Item) -> None:
        if not item.again:
            item.again = True
            heapq.heappush(self._lost, seq)

    def resend_end(self) -> None:
        """Send the END again: its acknowledgement may have been lost with a connection that did not carry the END."""
        assert self.only_end_unacked
        seq, item = next(iter(self._unacked.items()))
        self._send_again(seq, item)
        item.connection = -1


class ReceiveSide:
    """What this side receives: held until the gap before it closes, then ready, then consumed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[int, Frame] = {}
        self._ready: deque[bytes] = deque()
        self._received_bytes = 0
        self._consumed_offset = 0
        self._window_bytes = limits.window_bytes
        self._told_credit = limits.window_bytes
        self._fitted_offset = 0
        self.expected_seq = 0
        self.ended = False
        self.closed = False
        self.buffered_bytes = 0
        """Arrived, in order or not, and not consumed."""

    @property
    def readable(self) -> bool:
        """True if `take` has something to give."""
        return bool(self._ready) or self.ended

    @property
    def drained(self) -> bool:
        """True once the END has arrived and all before it is consumed."""
        return self.ended and not self._ready

    def accept(self, frame: Frame) -> list[Frame]:
        """Take in a sequenced frame; returns the OPEN and END frames that are now due, in order.

        Raises:
            StreamCorrupt: more than was allowed, or something after the END.
        """
        if frame.seq < self.expected_seq or frame.seq in self._held:
            return []
        if frame.seq >= self.expected_seq + FRAMES_AHEAD_MAX:
            raise StreamCorrupt(reason=f"frame {frame.seq} while {self.expected_seq} is due")
        if frame.type is FrameType.DATA:
            self._received_bytes += len(frame.payload)
            self.buffered_bytes += len(frame.payload)
            if self._received_bytes > self._told_credit:
                raise StreamCorrupt(reason="more data than the window allows")
        self._held[frame.seq] = frame
        due = []
        while self.expected_seq in self._held:
            following = self._held.pop(self.expected_seq)
            if self.ended:
                raise StreamCorrupt(reason=f"{following.type.name} frame after the END")
            if following.type is FrameType.DATA:
                self._ready.append(following.payload)
            else:
                self.ended = following.type is FrameType.END
                self.closed = self.ended and bool(following.flags & CLOSED)
                due.append(following)
            self.expected_seq += 1
        return due

    def take(self) -> bytes | None:
        """The next bytes, b'' at the end, None if nothing has arrived. Taken is consumed: it opens the window."""
        if not self._ready:
            return b"" if self.ended else None
        data = self._ready.popleft()
        self._consumed_offset += len(data)
        self.buffered_bytes -= len(data)
        return data

    @property
    def credit_is_due(self) -> bool:
        """True if the sender should hear of the window that consumption has opened."""
        opened = self._consumed_offset + self._window_bytes - self._told_credit
        return not self.ended and opened >= self._window_bytes // 4

    def acknowledgement(self) -> tuple[int, int]:
        """(next sequence number expected, offset up to which the sender may send), about to be sent."""
        # What was told is never taken back: a window that has shrunk takes effect as its reader goes on.
        self._told_credit = max(self._told_credit, self._consumed_offset + self._window_bytes)
        return self.expected_seq, self._told_credit

    def fit_window(self, period_s: float, round_trip_s: float) -> bool:
        """Fit the window to what the reader took in the last `period_s`; true if the sender should hear of it.

        `WINDOW_TRIPS` round trips' worth: one is on its way, and a frame that is lost keeps all behind it waiting for
        another or two. So a window that is the bottleneck doubles until it no longer is, as in TCP's receive buffer
        auto-tuning (Fisk and Feng, 2001); a reader that slows down gets a smaller one, little by little, so that little
        lies before it. Idle periods change nothing.
        """
        taken_bytes = self._consumed_offset - self._fitted_offset
        self._fitted_offset = self._consumed_offset
        if not taken_bytes:
            return False
        wanted_bytes = int(WINDOW_TRIPS * taken_bytes * round_trip_s / period_s)
        least_bytes = min(self._limits.window_bytes, WINDOW_LEAST_BYTES)
        gentle_bytes = max(wanted_bytes, self._window_bytes * 15 // 16)
        self._window_bytes = max(least_bytes, min(gentle_bytes, self._limits.window_max_bytes))
        return self.credit_is_due
