"""The receiver's window: it follows what the reader takes, never takes back credit, and is never overrun."""

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import StreamCorrupt
from actors.transport.channel import WINDOW_TRIPS, Limits, ReceiveSide, SendSide
from actors.transport.frames import Frame, FrameType

MIB = 1 << 20
LIMITS = Limits(
    payload_bytes=65536, window_bytes=4 * MIB, window_max_bytes=64 * MIB, peer_window_bytes=4 * MIB, queue_bytes=MIB
)


class Flow:
    """A sender that always has data, a receiver whose reader takes at most so much in a period, no delay between."""

    def __init__(self) -> None:
        self.send, self.receive = SendSide(LIMITS), ReceiveSide(LIMITS)

    def period(self, reader_bytes: int, round_trip_s: float) -> int:
        """Send what the credit of the last period lets; returns what the reader took."""
        sent: list[Frame] = []
        self.send.push(bytes(max(0, 256 * MIB - self.send.queued_bytes)))
        while self.send.sendable(0):
            sent.append(self.send.take(1, 0, 0.0)[0])
        for frame in sent:
            self.receive.accept(frame)
        taken = 0
        while taken < reader_bytes and (data := self.receive.take()):
            taken += len(data)
        self.receive.fit_window(round_trip_s, round_trip_s)
        self.send.acknowledge(*self.receive.acknowledgement())
        return taken


def test_a_window_that_is_the_bottleneck_grows_until_it_no_longer_is() -> None:
    flow = Flow()
    carried = [flow.period(20 * MIB, 0.15) for _ in range(8)]
    assert carried[0] == 4 * MIB
    assert carried[-1] == 20 * MIB


def test_the_window_has_an_upper_bound() -> None:
    flow = Flow()
    for _ in range(8):
        taken = flow.period(1 << 40, 0.15)
    assert taken == LIMITS.window_max_bytes


def test_a_slow_reader_gets_a_small_window_again() -> None:
    flow = Flow()
    for _ in range(8):
        flow.period(32 * MIB, 0.05)
    for _ in range(400):
        flow.period(MIB, 0.05)
    assert flow.receive.buffered_bytes <= WINDOW_TRIPS * MIB


def test_an_idle_channel_keeps_its_window() -> None:
    flow = Flow()
    for _ in range(8):
        flow.period(32 * MIB, 0.05)
    for _ in range(100):
        flow.receive.fit_window(0.2, 0.05)
    before = flow.send.unacked_bytes
    assert flow.period(1 << 40, 0.05) > 4 * MIB
    assert before == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 64), st.floats(0.001, 1.0), st.floats(0.001, 1.0)), max_size=30))
def test_credit_never_goes_back_and_is_always_honoured(periods: list[tuple[int, float, float]]) -> None:
    receive, offset, seq, told = ReceiveSide(LIMITS), 0, 0, LIMITS.window_bytes
    for frames, period_s, round_trip_s in periods:
        for _ in range(frames):
            if offset + 65536 > told:
                break
            receive.accept(Frame(FrameType.DATA, 1, seq, payload=bytes(65536)))
            offset, seq = offset + 65536, seq + 1
            receive.take()
        receive.fit_window(period_s, round_trip_s)
        _, credit = receive.acknowledgement()
        assert credit >= told
        told = credit
    while offset + 65536 <= told:
        receive.accept(Frame(FrameType.DATA, 1, seq, payload=bytes(65536)))
        offset, seq = offset + 65536, seq + 1
    try:
        receive.accept(Frame(FrameType.DATA, 1, seq, payload=bytes(65536)))
    except StreamCorrupt:
        return
    raise AssertionError("more than the credit was taken")


def frame_of(send: SendSide, connection: int, now_s: float) -> int:
    """Number of the frame that `connection` gets."""
    assert send.sendable(connection)
    return send.take(1, connection, now_s)[0].seq


def test_what_a_stalled_connection_holds_goes_over_another() -> None:
    send = SendSide(LIMITS)
    send.push(bytes(6 * 65536))
    assert [frame_of(send, connection, 0.0) for connection in (7, 8, 7, 8)] == [0, 1, 2, 3]
    assert not send.steal(0.2, 0.3)
    assert send.steal(0.4, 0.3)
    assert frame_of(send, 7, 0.4) == 4  # not what it has itself
    assert [frame_of(send, 8, 0.4) for _ in range(2)] == [0, 2]
    assert frame_of(send, 8, 0.4) == 5
    assert not send.steal(0.5, 0.3), "it has only just been sent again"


def test_a_stolen_frame_is_sent_once_more_when_its_new_connection_dies() -> None:
    send = SendSide(LIMITS)
    send.push(bytes(65536))
    frame_of(send, 1, 0.0)
    send.steal(1.0, 0.3)
    send.connection_lost(1)
    assert frame_of(send, 2, 1.0) == 0
    assert not send.sendable(3)
    send.connection_lost(2)
    assert frame_of(send, 3, 1.1) == 0
    send.acknowledge(1, 4 * MIB)
    assert not send.carried_by(3)


def test_nothing_that_was_acknowledged_is_stolen() -> None:
    send = SendSide(LIMITS)
    send.push(bytes(2 * 65536))
    frame_of(send, 1, 0.0)
    frame_of(send, 1, 0.9)
    send.acknowledge(1, 4 * MIB)
    assert not send.steal(1.0, 0.3)
    assert send.steal(1.3, 0.3)
    send.acknowledge(2, 4 * MIB)
    assert not send.sendable(2)


def test_a_fast_channel_queues_more_and_a_slow_one_as_little_as_ever() -> None:
    send = SendSide(LIMITS)
    assert send.room_bytes == LIMITS.queue_bytes
    send.push(bytes(4 * MIB))
    while send.sendable(0):
        send.take(1, 0, 0.0)
    send.fit_queue(0.04)
    assert send.room_bytes == 4 * MIB
    send.fit_queue(0.04)
    assert send.room_bytes == LIMITS.queue_bytes
