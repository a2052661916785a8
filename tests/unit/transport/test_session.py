"""The session engine: priorities, windows, and everything a peer must not do."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import Conflict, StreamCorrupt
from actors.transport.channel import FRAMES_AHEAD_MAX, Limits
from actors.transport.frames import CLOSED, HEADER_BYTES, Frame, FrameType
from actors.transport.schedule import Scheduler
from actors.transport.session import CHANNELS_MAX, CONTROL, Opened, Readable, SessionEngine, WasReset

LIMITS = Limits(payload_bytes=1000, window_bytes=8000, window_max_bytes=8000, peer_window_bytes=8000, queue_bytes=16000)


def pair() -> tuple[SessionEngine, SessionEngine]:
    return SessionEngine(initiator=True, limits=LIMITS), SessionEngine(initiator=False, limits=LIMITS)


def carry(source: SessionEngine, target: SessionEngine, connection: int = 0) -> list[Frame]:
    """Everything that `source` can send now."""
    frames = []
    while (frame := source.next_frame(connection)) is not None:
        target.receive(frame)
        frames.append(frame)
    return frames


def opened(engine: SessionEngine, peer: SessionEngine, service: str = "ram:1", priority: int = 2) -> int:
    channel = engine.open(service, priority)
    carry(engine, peer)
    assert peer.events() == [Opened(channel, service, priority)]
    return channel


def data(channel: int, seq: int, payload: bytes = b"x") -> Frame:
    return Frame(FrameType.DATA, channel, seq, 0, payload)


def open_frame(channel: int, payload: bytes = b"\2ram") -> Frame:
    return Frame(FrameType.OPEN, channel, 0, 0, payload)


def test_urgent_channels_go_first_and_equals_take_turns() -> None:
    a, _ = pair()
    disks, ram, more_ram, libvirt = (a.open("s", priority) for priority in (3, 2, 2, 1))
    for channel in (disks, ram, more_ram, libvirt, CONTROL):
        a.send(channel, bytes(3000))
    order = []
    while (frame := a.next_frame(0)) is not None:
        order.append(frame.channel)
    assert order[:7] == [CONTROL] * 3 + [libvirt] * 4
    assert order[7:15] == [ram, more_ram] * 4
    assert order[15:] == [disks] * 4


def test_new_limits_are_those_of_channels_to_come() -> None:
    a, b = pair()
    before = opened(a, b)
    a.limits = msgspec.structs.replace(LIMITS, payload_bytes=2000)
    after = opened(a, b)
    for channel in (before, after):
        a.send(channel, bytes(4000))
    lengths: dict[int, list[int]] = {before: [], after: []}
    for frame in carry(a, b):
        lengths[frame.channel].append(len(frame.payload))
    assert lengths == {before: [1000] * 4, after: [2000] * 2}


def test_bulk_is_held_back_when_it_must_be() -> None:
    a, _ = pair()
    ram = a.open("ram", 2)
    a.send(ram, b"x")
    assert a.next_frame(0, bulk=False) is None
    a.send(CONTROL, b"call")
    frame = a.next_frame(0, bulk=False)
    assert frame is not None
    assert frame.channel == CONTROL


def test_the_least_urgent_bulk_is_never_starved() -> None:
    scheduler = Scheduler()
    scheduler.add(1, 2)
    scheduler.add(2, 3)
    picks = [scheduler.pick(lambda _: True, bulk=True) for _ in range(160)]
    assert picks.count(2) == 10


def test_acknowledgements_precede_data() -> None:
    a, b = pair()
    channel = opened(a, b)
    b.send(channel, b"data")
    a.send(channel, b"data")
    carry(a, b)
    assert [frame.type for frame in carry(b, a)] == [FrameType.ACK, FrameType.DATA]


def test_an_unread_channel_stops_at_the_window_and_others_go_on() -> None:
    a, b = pair()
    stuck, free = opened(a, b), opened(a, b)
    a.send(stuck, bytes(16000))
    carry(a, b)
    carry(b, a)
    assert carry(a, b) == []
    assert b.buffered_bytes(stuck) == 8000
    a.send(free, b"goes on")
    carry(a, b)
    assert b.take(free) == b"goes on"
    assert a.send_room(stuck) == 8000
    taken = sum(len(b.take(stuck) or b"") for _ in range(8))
    assert taken == 8000
    carry(b, a)
    assert sum(len(frame.payload) for frame in carry(a, b)) == 8000


def test_only_frames_of_the_lost_connection_are_sent_again() -> None:
    a, b = pair()
    channel = opened(a, b)
    a.send(channel, bytes(6000))
    frames = [a.next_frame(number % 3) for number in range(6)]
    a.connection_down(1)
    again = []
    while (frame := a.next_frame(0)) is not None:
        if frame.type is FrameType.DATA:
            again.append(frame)
    assert again == [frames[1], frames[4]]
    assert a.resent_bytes == 2 * (1000 + HEADER_BYTES)


def test_a_reset_that_overtakes_its_open_leaves_nothing() -> None:
    a, b = pair()
    channel = a.open("ram", 2)
    late = a.next_frame(0)
    assert late is not None
    a.reset(channel, "no more")
    carry(a, b)
    b.receive(late)
    assert b.channels == [CONTROL]
    assert b.events() == []
    carry(b, a)
    assert a.resets_pending == 0


def test_the_reason_of_a_reset_arrives() -> None:
    a, b = pair()
    channel = opened(a, b)
    b.reset(channel, "no such service")
    carry(b, a)
    assert WasReset(channel, "no such service") in a.events()
    assert a.channels == [CONTROL]


@pytest.mark.parametrize("closed", [False, True])
def test_the_end_comes_after_all_data_in_whatever_order_it_arrives(closed: bool) -> None:
    a, b = pair()
    channel = opened(a, b)
    a.send(channel, bytes(2000))
    a.end(channel, closed=closed)
    first, second, end = (a.next_frame(0) for _ in range(3))
    assert first and second and end
    assert end.flags == (CLOSED if closed else 0)
    b.receive(end)
    assert b.take(channel) is None
    b.receive(second)
    b.receive(first)
    assert Readable(channel) in b.events()
    assert [b.take(channel) for _ in range(3)] == [bytes(1000), bytes(1000), b""]
    assert b.closed_by_peer(channel) == closed


def test_both_ends_forget_a_channel_that_has_ended() -> None:
    a, b = pair()
    channel = opened(a, b)
    a.end(channel)
    b.end(channel)
    for _ in range(3):
        carry(a, b)
        carry(b, a)
        a.take(channel)
        b.take(channel)
    assert a.channels == b.channels == [CONTROL]
    assert a.take(channel) == b""


def test_own_channels_are_limited_before_the_peer_must_object() -> None:
    a, _ = pair()
    with pytest.raises(Conflict):
        for _ in range(CHANNELS_MAX):
            a.open("s", 2)


HOSTILE = {
    "begins without OPEN": [data(1, 0)],
    "a second OPEN": [open_frame(1), Frame(FrameType.OPEN, 1, 1, 0, b"\2ram")],
    "unknown priority": [open_frame(1, b"\x09ram")],
    "service that is no text": [open_frame(1, b"\2\xff\xfe")],
    "our own id, never given": [open_frame(2)],
    "OPEN of the control channel": [open_frame(CONTROL)],
    "END of the control channel": [Frame(FrameType.END, CONTROL, 0)],
    "RESET of the control channel": [Frame(FrameType.RESET, CONTROL)],
    "GONE for the control channel": [Frame(FrameType.GONE, CONTROL)],
    "far ahead": [data(CONTROL, FRAMES_AHEAD_MAX)],
    "over the window in order": [data(CONTROL, n, bytes(1000)) for n in range(9)],
    "over the window out of order": [data(CONTROL, n, bytes(1000)) for n in range(1, 10)],
    "data after the END": [open_frame(1), Frame(FrameType.END, 1, 1), data(1, 2)],
    "acknowledges what was not sent": [Frame(FrameType.ACK, CONTROL, 1, 0, struct.pack(">Q", 0))],
    "acknowledges a channel of ours that is not": [Frame(FrameType.ACK, 2, 0, 0, struct.pack(">Q", 0))],
    "channel far ahead": [Frame(FrameType.RESET, 2**31 + 1)],
    "too many channels": [open_frame(1 + 2 * n) for n in range(CHANNELS_MAX)],
    "a handshake inside": [Frame(FrameType.WELCOME, payload=b"x")],
}


@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_broken_rule_ends_the_session(frames: list[Frame]) -> None:
    _, b = pair()
    for frame in frames[:-1]:
        b.receive(frame)
    with pytest.raises(StreamCorrupt):
        b.receive(frames[-1])


_kinds = [FrameType.OPEN, FrameType.DATA, FrameType.END, FrameType.RESET, FrameType.GONE]
_any_frame = st.one_of(
    st.builds(Frame, st.sampled_from(_kinds), st.integers(0, 9), st.integers(0, 12), st.just(0), st.just(b"\2ram")),
    st.builds(
        Frame,
        st.just(FrameType.ACK),
        st.integers(0, 9),
        st.integers(0, 3),
        st.just(0),
        st.sampled_from([bytes(8), struct.pack(">Q", 2**64 - 1)]),
    ),
)


@given(st.lists(_any_frame, max_size=60))
def test_whatever_comes_only_stream_corrupt_is_raised_and_memory_is_bounded(frames: list[Frame]) -> None:
    _, b = pair()
    b.open("own", 2)
    try:
        for frame in frames:
            b.receive(frame)
            for channel in b.channels:
                assert b.buffered_bytes(channel) <= LIMITS.window_bytes
            b.next_frame(0)
    except StreamCorrupt:
        return
