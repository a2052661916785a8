"""Targets of the session: a peer that sends any frames at all, and two honest engines over any network."""

from collections import deque

from actors.errors import Conflict, StreamCorrupt
from actors.transport.channel import Limits
from actors.transport.frames import CLOSED, Frame, FrameType
from actors.transport.session import CHANNELS_MAX, CONTROL, Opened, SessionEngine
from tests.fuzz.target import Script, Target

_WINDOW_BYTES = 4096
_LIMITS = Limits(
    payload_bytes=512,
    window_bytes=_WINDOW_BYTES,
    window_max_bytes=_WINDOW_BYTES,
    peer_window_bytes=_WINDOW_BYTES,
    queue_bytes=1024,
)
_TYPES = tuple(FrameType)


def _frame(script: Script) -> Frame:
    """A frame as the parser lets it pass: lengths and flags are right, all else is anything."""
    kind = _TYPES[script.number() % len(_TYPES)]
    channel = script.number()
    channel = channel if channel < 200 else script.number(4)
    seq = script.number()
    seq = seq if seq < 240 else script.number(8)
    match kind:
        case FrameType.OPEN:
            payload = script.take(1 + script.number() % 8).ljust(2, b"\2")
        case FrameType.DATA:
            payload = bytes(1 + script.number(2) % 2048)
        case FrameType.ACK:
            payload = script.take(8).rjust(8, b"\0")
        case FrameType.RESET | FrameType.BYE:
            payload = script.take(script.number() % 8)
        case _:
            payload = b""
    return Frame(kind, channel, seq, CLOSED if kind is FrameType.END and script.number() & 1 else 0, payload)


def hostile(data: bytes) -> None:
    """A peer that sends any frames while this side opens, sends, reads and gives up."""
    script = Script(data)
    engine = SessionEngine(initiator=bool(script.number() & 1), limits=_LIMITS)
    ended: set[int] = set()
    try:
        while script.goes_on:
            step = script.number()
            live = engine.channels
            channel = live[script.number() % len(live)] if step % 16 > 9 else CONTROL
            match step % 16:
                case 10 if channel not in ended:
                    if room := engine.send_room(channel):
                        engine.send(channel, bytes(min(room, 1 + script.number(2))))
                case 11:
                    engine.take(channel)
                case 12 if channel != CONTROL:
                    engine.reset(channel, "enough")
                case 13 if channel not in ended | {CONTROL}:
                    ended.add(channel)
                    engine.end(channel, closed=bool(step & 16))
                case 14:
                    engine.open("ram", step >> 5)
                case 15:
                    engine.connection_down(script.number() % 3)
                case 8 | 9:
                    engine.next_frame(script.number() % 3, bulk=bool(step & 16))
                case _:
                    engine.receive(_frame(script))
            engine.events()
            _check_bounds(engine)
    except (StreamCorrupt, Conflict):
        return


def _check_bounds(engine: SessionEngine) -> None:
    live = engine.channels
    assert len(live) <= CHANNELS_MAX
    assert CONTROL in live, "the control channel never ends"
    for channel in live:
        assert engine.buffered_bytes(channel) <= _WINDOW_BYTES, "more than the window is held"


def _hostile_seeds() -> list[bytes]:
    numbers = {kind: n for n, kind in enumerate(_TYPES)}
    opened = bytes([0, numbers[FrameType.OPEN], 2, 0, 3, 2, 97, 98, 99])
    data = bytes([0, numbers[FrameType.DATA], 2, 1, 100, 0])
    end = bytes([0, numbers[FrameType.END], 2, 2, 1])
    ack = bytes([0, numbers[FrameType.ACK], 2, 1]) + (9000).to_bytes(8, "big")
    reset = bytes([0, numbers[FrameType.RESET], 2, 0, 2, 97, 98])
    local = bytes([14, 0, 10, 1, 50, 0, 8, 0, 8, 1, 15, 0, 8, 1, 13, 1, 8, 0, 11, 1])
    return [
        b"\1" + opened + data + end + local + ack + local,
        b"\1" + local + opened + reset + data,
        b"\0" + data + opened + end + bytes([11, 1, 13, 1, 8, 0]),
    ]


class _End:
    """One side: an engine, what its program wrote and read."""

    def __init__(self, *, initiator: bool) -> None:
        self.engine = SessionEngine(initiator=initiator, limits=_LIMITS)
        self.wrote: dict[int, bytearray] = {}
        self.read: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.over: set[int] = set()
        self.wire: dict[int, deque[Frame]] = {number: deque() for number in range(3)}
        """Frames under way from here, by connection."""

    def collect(self) -> None:
        for event in self.engine.events():
            if isinstance(event, Opened):
                self.begin(event.channel)

    def begin(self, channel: int) -> None:
        self.wrote[channel], self.read[channel] = bytearray(), bytearray()

    def take_all(self) -> None:
        for channel in self.read:
            while channel not in self.over and (piece := self.engine.take(channel)) is not None:
                self.read[channel] += piece
                if not piece:
                    self.over.add(channel)


def honest(data: bytes) -> None:
    """Two engines, any order of writes, deliveries and losses: what was written arrives once, in order, to the end."""
    script = Script(data)
    ends = (_End(initiator=True), _End(initiator=False))
    while script.goes_on:
        step = script.number()
        side = ends[step & 1]
        connection = script.number() % 3
        match step >> 1 & 7:
            case 0 if len(side.wrote) < 4:
                side.begin(side.engine.open("ram", 2))
            case 1 | 2:
                _write(side, script)
            case 3 | 4:
                if frame := side.engine.next_frame(connection):
                    side.wire[connection].append(frame)
            case 5 | 6:
                _deliver(ends, step & 1, connection)
            case 7:
                _lose(ends, connection, keep=script.number())
            case _:
                side.take_all()
        for each in ends:
            each.collect()
    _settle(ends)


def _write(side: _End, script: Script) -> None:
    open_ones = [channel for channel in side.wrote if channel not in side.ended and channel in side.engine.channels]
    if not open_ones:
        return
    channel = open_ones[script.number() % len(open_ones)]
    piece = script.take(min(script.number(), side.engine.send_room(channel)))
    if piece:
        side.engine.send(channel, piece)
        side.wrote[channel] += piece
    else:
        side.ended.add(channel)
        side.engine.end(channel)


def _deliver(ends: tuple[_End, _End], sender: int, connection: int) -> None:
    if ends[sender].wire[connection]:
        ends[1 - sender].engine.receive(ends[sender].wire[connection].popleft())


def _lose(ends: tuple[_End, _End], connection: int, keep: int) -> None:
    """The connection dies: some of what was under way has still arrived."""
    for sender in (0, 1):
        wire = ends[sender].wire[connection]
        for _ in range(min(len(wire), keep & 3)):
            _deliver(ends, sender, connection)
        wire.clear()
    for each in ends:
        each.engine.connection_down(connection)


def _settle(ends: tuple[_End, _End]) -> None:
    """Everybody ends and a good network brings everything home."""
    for side in ends:
        for channel in set(side.wrote) - side.ended:
            if channel in side.engine.channels:
                side.ended.add(channel)
                side.engine.end(channel)
    quiet_rounds = 0
    for _ in range(10_000):
        quiet = True
        for number, side in enumerate(ends):
            for connection in range(3):
                while side.wire[connection]:
                    _deliver(ends, number, connection)
            while frame := side.engine.next_frame(0):
                side.wire[0].append(frame)
                quiet = False
            side.collect()
            side.take_all()
            for channel in set(side.wrote) - side.ended:
                side.ended.add(channel)
                side.engine.end(channel)
                quiet = False
        quiet_rounds = quiet_rounds + 1 if quiet else 0
        if quiet_rounds > 2:  # what is read in one is acknowledged in the next
            break
    else:
        raise AssertionError("it never comes to rest")
    for one, other in (ends, ends[::-1]):
        assert one.engine.channels == [CONTROL], "channels are left over"
        for channel, wrote in one.wrote.items():
            assert other.read[channel] == wrote, "not the bytes that were written"


def _honest_seeds() -> list[bytes]:
    begin = bytes([0, 0, 2, 0, 0, 5]) + b"hello"
    carry = bytes([6, 0, 10, 0, 6, 1, 10, 1, 7, 0, 11, 0])
    lose = bytes([14, 0, 1])
    return [begin + carry * 3, begin + carry + lose + carry, begin * 2 + lose + carry * 2 + bytes([2, 0, 0, 0]) + carry]


TARGETS = (
    Target("session", hostile, _hostile_seeds),
    Target("channels", honest, _honest_seeds),
)
