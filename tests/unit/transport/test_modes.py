"""The mode of a link: thresholds, smoothing, hysteresis, dwell, force."""

import random
from itertools import pairwise

import pytest

from actors.config.schema import LinkFacts, Transport
from actors.transport.messages import LinkSample
from actors.transport.modes import DWELL_S, SAMPLES, Mode, ModeDetector
from actors.transport.steering import RULES, Steering

GBIT = 125e6


def settle(detector: ModeDetector, rtt_ms: float, rate: float, start: float = 0.0) -> Mode:
    """The mode after half a minute of the same measurements."""
    for second in range(30):
        detector.observe(start + second, rtt_ms, rate)
    return detector.mode


@pytest.mark.parametrize(
    ("rtt_ms", "rate", "mode"),
    [
        (0.5, 2 * GBIT, "datacenter"),
        (9.0, 1.5 * GBIT, "datacenter"),
        (0.5, 0.5 * GBIT, "internet"),
        (0.5, 0.0, "hybrid"),  # nobody knows how much it carries
        (30.0, 2 * GBIT, "hybrid"),
        (30.0, 0.0, "hybrid"),
        (60.0, 10 * GBIT, "internet"),
        (60.0, 0.0, "internet"),
    ],
)
def test_thresholds(rtt_ms: float, rate: float, mode: Mode) -> None:
    assert settle(ModeDetector(None, 0.0), rtt_ms, rate) == mode
    assert settle(ModeDetector(None, rate), rtt_ms, 0.0) == mode


def test_capacity_says_where_it_comes_from() -> None:
    detector = ModeDetector(None, 0.0)
    assert (detector.capacity_source, detector.capacity_bytes_per_s) == ("unknown", 0.0)
    detector.observe(0.0, 20.0, 5e6)
    detector.observe(1.0, 20.0, 4e6)
    assert (detector.capacity_source, detector.capacity_bytes_per_s) == ("measured", 5e6)
    assert ModeDetector(None, 7e6).capacity_source == "configured"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("middle_ms", "rate"), [(50.0, 2 * GBIT), (10.0, 2 * GBIT), (9.0, GBIT)])
def test_it_does_not_flap_at_a_threshold(middle_ms: float, rate: float, seed: int) -> None:
    chance, detector = random.Random(seed), ModeDetector(None, rate)
    switches = [detector.observe(float(s), middle_ms * chance.uniform(0.8, 1.2), 0.0) for s in range(1000)]
    assert sum(switch is not None for switch in switches) <= 4


def test_one_outlier_changes_nothing_and_a_lasting_change_does() -> None:
    detector = ModeDetector(None, 2 * GBIT)
    assert settle(detector, 20.0, 0.0) == "hybrid"
    assert detector.observe(100.0, 200.0, 0.0) is None
    assert settle(detector, 200.0, 0.0, 101.0) == "internet"


def test_a_mode_stays_for_a_while() -> None:
    detector = ModeDetector(None, 2 * GBIT)
    seconds = [s for s in range(400) if detector.observe(float(s), 1.0 if s // 20 % 2 else 200.0, 0.0)]
    assert all(later - earlier >= DWELL_S for earlier, later in pairwise(seconds))
    assert len(seconds) > 2


def test_a_forced_mode_stays_until_it_is_released() -> None:
    detector = ModeDetector(None, 0.0)
    switch = detector.force("datacenter", 5.0)
    assert switch is not None
    assert (switch.before, switch.after, switch.reason) == ("hybrid", "datacenter", "forced")
    assert settle(detector, 300.0, 1e6) == "datacenter"
    assert detector.force("datacenter", 40.0) is None
    assert detector.force(None, 41.0) is None
    assert settle(detector, 300.0, 1e6, 60.0) == "internet"


def sample(at: float, rtt_ms: float, acked_bytes: int = 0, busy_share: float = 0.0) -> LinkSample:
    return LinkSample(
        at=at, rtt_ms=rtt_ms, jitter_ms=0, sent_bytes=0, acked_bytes=acked_bytes, busy_share=busy_share, retransmits=0
    )


def test_configuration_forces_and_tells_capacity_the_nodes_entry_before_the_sites() -> None:
    settings = Transport(
        links=[
            LinkFacts(peer="paris", mode="internet", capacity_mbit=100),
            LinkFacts(peer="paris-1", mode="datacenter"),
        ]
    )
    one, other = Steering(settings, "paris-1", "paris"), Steering(settings, "paris-2", "paris")
    assert (one.detector.mode, other.detector.mode) == ("datacenter", "internet")
    assert one.detector.capacity_bytes_per_s == 12.5e6
    assert one.rules == RULES["datacenter"]


def test_a_switch_brings_its_rules_at_once() -> None:
    steering = Steering(Transport(streams=4, streams_max=100), "p", "s")
    assert steering.start_from(60) == 60
    assert steering.force("datacenter", 1.0) is not None
    assert (steering.streams, steering.rules.congestion) == (RULES["datacenter"].streams_most, "cubic")
    assert steering.rules.frame_bytes == RULES["datacenter"].frame_bytes
    assert Steering(Transport(congestion="cubic"), "p", "s").rules.congestion == "cubic"
    assert Steering(Transport(frame_bytes=5000), "p", "s").rules.frame_bytes == 5000
    for second in range(SAMPLES):
        steering.tick(sample(float(second), 80.0))
    assert steering.detector.mode == "datacenter"
    assert steering.switches_total == 1


def test_only_a_full_second_tells_the_capacity() -> None:
    steering = Steering(Transport(), "p", "s")
    steering.tick(sample(1.0, 20.0, 5_000_000, 0.3))
    assert steering.detector.capacity_source == "unknown"
    steering.tick(sample(2.0, 20.0, 5_000_000, 1.0))
    assert steering.detector.capacity_bytes_per_s == 5_000_000


def test_switched_off_a_link_holds_to_one_connection_and_comes_back() -> None:
    steering = Steering(Transport(streams=4, congestion="bbr"), "p", "s")
    assert (steering.streams, steering.rules.congestion) == (4, "bbr")
    assert steering.simplify(plain=True)
    assert not steering.simplify(plain=True)
    assert (steering.streams, steering.rules.congestion) == (1, "cubic")
    assert steering.start_from(9) == steering.follow(30) == 1
    steering.force("internet", 1.0)
    assert (steering.streams, steering.rules.congestion) == (1, "cubic")
    assert steering.simplify(plain=False)
    assert (steering.streams, steering.rules.congestion) == (4, "bbr")
