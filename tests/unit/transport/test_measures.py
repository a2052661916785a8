"""The link meter and the cap, with clocks and counters brought along."""

from collections import deque

import pytest

from actors.transport.bucket import TokenBucket
from actors.transport.link_meter import SAMPLES_KEPT, LinkMeter, TcpCounters


class Counted:
    """A connection as the meter sees it."""

    def __init__(self) -> None:
        self.last_counters = TcpCounters()
        self.now = TcpCounters()
        self.round_trips: deque[tuple[float, float]] = deque()

    def counters(self) -> TcpCounters:
        return self.now


def test_counts_are_those_of_the_second_and_survive_a_closed_connection() -> None:
    meter, one, other = LinkMeter(), Counted(), Counted()
    one.now, other.now = TcpCounters(100, 50, 1), TcpCounters(1000, 900, 2)
    sample = meter.tick(1.0, 1.0, [one, other], 2.0)
    assert (sample.sent_bytes, sample.acked_bytes, sample.retransmits) == (1100, 950, 3)
    other.now = TcpCounters(1500, 1400, 2)
    meter.connection_closed(other)
    one.now = TcpCounters(200, 150, 1)
    sample = meter.tick(2.0, 2.0, [one], 2.0)
    assert (sample.sent_bytes, sample.acked_bytes, sample.retransmits) == (600, 600, 0)


def test_the_least_fresh_round_trip_counts_and_none_is_0() -> None:
    meter, slow, fast = LinkMeter(), Counted(), Counted()
    assert meter.tick(1.0, 1.0, [slow], 2.0).rtt_ms == 0
    slow.round_trips.append((1.5, 0.200))
    fast.round_trips.append((1.5, 0.050))
    assert meter.tick(2.0, 2.0, [slow, fast], 2.0).rtt_ms == 50
    assert meter.tick(9.0, 9.0, [slow, fast], 2.0).rtt_ms == 0


def test_jitter_follows_differences_of_round_trips() -> None:
    meter, link = LinkMeter(), Counted()
    for second in range(200):
        link.round_trips.append((float(second), 0.050 if second % 2 else 0.060))
        sample = meter.tick(second, float(second), [link], 2.0)
    assert sample.jitter_ms == pytest.approx(10, rel=0.05)


def test_busy_share_is_the_waiting_part_of_the_second() -> None:
    meter = LinkMeter()
    meter.tick(10.0, 10.0, [], 2.0)
    meter.pressure(10.2, waits=True)
    meter.pressure(10.4, waits=False)
    meter.pressure(10.9, waits=True)
    assert meter.tick(11.0, 11.0, [], 2.0).busy_share == pytest.approx(0.3)
    assert meter.tick(12.0, 12.0, [], 2.0).busy_share == 1.0


def test_ten_minutes_are_kept() -> None:
    meter = LinkMeter()
    for second in range(SAMPLES_KEPT + 50):
        meter.tick(float(second), float(second), [], 2.0)
    assert len(meter.samples(0.0)) == SAMPLES_KEPT
    assert [sample.at for sample in meter.samples(SAMPLES_KEPT + 47.0)] == [SAMPLES_KEPT + 48.0, SAMPLES_KEPT + 49.0]


def test_the_cap_holds_over_time() -> None:
    bucket, now, sent = TokenBucket(1_000_000), 100.0, 0
    while now < 110.0:
        wait_s = bucket.wait_s(now)
        if wait_s:
            now += wait_s
            continue
        bucket.spend(32768)
        sent += 32768
    assert sent == pytest.approx(10_000_000, rel=0.02)


def test_no_cap_never_waits() -> None:
    bucket = TokenBucket(0)
    bucket.spend(1 << 40)
    assert bucket.wait_s(1.0) == 0
