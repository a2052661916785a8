"""When the guest may stop: by itself, and in a simulated saw-tooth over links and loads."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.hypervisor.engine.switchover import FLOOR, HELD_BYTES_PER_S, PAGES_SHARE_MIN, Arrived, Controller, Sample
from actors.hypervisor.messages import Aim
from tests.unit.hypervisor.saw_tooth import MIB, Scene, aim_of, play

LIGHT = Scene()
HEAVY = Scene(memory=1024 * MIB, region=256 * MIB, writes=80e6)
# It dirties more in the time that a round takes than ever fits.
HOPELESS = Scene(region=256 * MIB, writes=400e6)


def sample(at_s: float = 0.0, **more: float) -> Sample:
    nothing = {"remaining_bytes": 0, "dirty_bytes_per_s": 0, "stream_bytes": 0, "page_bytes": 0, "wire_bytes": 0}
    return Sample(at_s=at_s, **({"counts": 2} | nothing | more))


def arrived(at_s: float, stream_bytes: int) -> Arrived:
    return Arrived(at_s=at_s, stream_bytes=stream_bytes, wire_bytes=stream_bytes // 10)


def test_the_floor_is_less_than_a_page() -> None:
    assert FLOOR.threshold_bytes < 4096
    assert Controller(Aim(pause_ms=300)).limit == FLOOR


def test_nothing_is_raised_in_the_first_pass() -> None:
    controller = Controller(Aim(pause_ms=60_000, link_bytes_per_s=1e9))
    controller.take(sample(counts=1, remaining_bytes=1))
    assert not controller.limit.raised


def test_raised_to_exactly_what_fits() -> None:
    controller = Controller(Aim(pause_ms=300, fixed_ms=100, link_bytes_per_s=1e6, rtt_ms=50))
    controller.arrived(arrived(0.0, 10_000_000))
    # A tenth of each page goes over the wire: 200 ms of a link of 1 MB/s carry 2 MB of guest memory.
    limit = controller.take(sample(remaining_bytes=1_000_000, page_bytes=10_000_000, wire_bytes=1_000_000))
    assert limit is not None
    assert (limit.downtime_ms, limit.bandwidth_bytes_per_s) == (200, 10_000_000)
    assert controller.seen.raised
    assert controller.seen.predicted_ms == pytest.approx(100 + 100)


def test_what_is_on_its_way_counts_too() -> None:
    controller = Controller(Aim(pause_ms=300, fixed_ms=100, link_bytes_per_s=1e6, rtt_ms=50))
    sent = sample(stream_bytes=10_000_000, page_bytes=10_000_000, wire_bytes=1_000_000)
    # 150 ms behind, of which a round trip is only the age of the news.
    controller.arrived(arrived(0.0, 8_500_000))
    limit = controller.take(sent)
    assert limit is not None and limit.downtime_ms == 100
    assert controller.seen.predicted_ms == pytest.approx(200)
    controller.arrived(arrived(0.1, 8_500_000))
    more = msgspec.structs.replace(sent, at_s=0.1, stream_bytes=20_000_000, page_bytes=20_000_000, wire_bytes=2_000_000)
    held = controller.take(more)
    assert held is not None
    assert held.rate_bytes_per_s == HELD_BYTES_PER_S, (
        "or it could send the rest and stop with a second's worth on its way"
    )
    assert not controller.seen.raised
    controller.arrived(arrived(0.2, 18_300_000))
    assert controller.take(msgspec.structs.replace(more, at_s=0.2)) is None, "not before there is room for pages, too"
    controller.arrived(arrived(0.3, 19_600_000))
    again = controller.take(msgspec.structs.replace(more, at_s=0.3))
    assert again is not None and again.downtime_ms == 200


def test_without_any_word_from_the_target_it_goes_by_the_link_alone() -> None:
    controller = Controller(Aim(pause_ms=300, fixed_ms=100, link_bytes_per_s=1e6, rtt_ms=50))
    sent = sample(stream_bytes=10_000_000, page_bytes=10_000_000, wire_bytes=1_000_000)
    controller.take(sent)
    assert not controller.limit.raised, "the word may be late"
    controller.blind = True
    limit = controller.take(msgspec.structs.replace(sent, at_s=0.1))
    assert limit is not None and limit.downtime_ms == 200


def test_a_second_of_few_bytes_is_not_taken_for_a_slow_link() -> None:
    """Nobody knows the link. It carried 10 MB in a second, and then the guest's pages were all known to the target."""
    controller = Controller(Aim(pause_ms=300, fixed_ms=100, rtt_ms=50))
    for at_s, stream_bytes, wire_bytes in ((0.0, 0, 0), (1.0, 40_000_000, 10_000_000), (2.0, 120_000_000, 10_080_000)):
        controller.arrived(Arrived(at_s=at_s, stream_bytes=stream_bytes, wire_bytes=wire_bytes))
    limit = controller.take(
        sample(2.0, remaining_bytes=500_000, stream_bytes=120_000_000, page_bytes=100_000_000, wire_bytes=10_080_000)
    )
    assert controller.seen.link_bytes_per_s == pytest.approx(10e6)
    assert limit is not None and limit.raised


def test_far_from_the_end_it_stays_at_the_floor() -> None:
    controller = Controller(Aim(pause_ms=300, link_bytes_per_s=1e6))
    controller.take(sample(remaining_bytes=100_000_000, page_bytes=10_000_000, wire_bytes=1_000_000))
    assert not controller.limit.raised


def test_a_part_of_the_budget_is_always_the_pages() -> None:
    controller = Controller(Aim(pause_ms=300, fixed_ms=500, link_bytes_per_s=1e6))
    controller.arrived(arrived(0.0, 10_000_000))
    limit = controller.take(sample(page_bytes=10_000_000, wire_bytes=1_000_000))
    assert limit is not None and limit.downtime_ms == 300 * PAGES_SHARE_MIN
    assert controller.seen.predicted_ms >= 500


def test_another_budget_counts_from_the_next_look_on() -> None:
    controller = Controller(Aim(pause_ms=300, fixed_ms=100, link_bytes_per_s=1e6))
    left = sample(remaining_bytes=4_000_000, page_bytes=10_000_000, wire_bytes=1_000_000)
    controller.arrived(arrived(0.0, 10_000_000))
    first = controller.take(left)
    controller.steer(Aim(pause_ms=1000, fixed_ms=100, link_bytes_per_s=1e6))
    second = controller.take(msgspec.structs.replace(left, at_s=0.1))
    assert first is not None and second is not None
    assert (first.downtime_ms, second.downtime_ms) == (200, 900)


@pytest.mark.parametrize(
    ("scene", "within_s"),
    [
        pytest.param(LIGHT, 10.0, id="light"),
        pytest.param(HEAVY, 40.0, id="heavy"),
        pytest.param(msgspec.structs.replace(LIGHT, writes=0.0, region=0.0), 10.0, id="idle"),
        pytest.param(msgspec.structs.replace(LIGHT, link=1.25e6, buffer=300e3, rtt_s=0.15), 70.0, id="slow link"),
        pytest.param(msgspec.structs.replace(LIGHT, link=125e6, coding=6e8, work=4e8, rtt_s=0.002), 5.0, id="fast"),
    ],
)
def test_stops_once_it_fits(scene: Scene, within_s: float) -> None:
    controller = Controller(aim_of(scene))
    stop, told = play(scene, controller, looks_s=0.05, until_s=within_s)
    assert stop is not None, controller.seen
    assert told[0] == FLOOR
    assert not controller.seen.stalled
    # 150 ms were left for the pages; what QEMU sends between the last look and the stop comes on top.
    assert stop.pages_ms <= 150 + 100, stop
    assert stop.predicted_ms <= 300


@pytest.mark.parametrize("scene", [LIGHT, HEAVY])
def test_a_forecast_far_too_low_is_found_out(scene: Scene) -> None:
    """As after a cut: nothing crossed for a while, and now QEMU is held to a thousandth of what the link carries."""
    low = msgspec.structs.replace(aim_of(scene), link_bytes_per_s=scene.link / 1000)
    stop, _ = play(scene, Controller(low), 0.05, 120.0)
    assert stop is not None
    assert stop.pages_ms <= 300


def test_what_never_fits_is_never_stopped_and_said_to_be_stalled() -> None:
    controller = Controller(aim_of(HOPELESS))
    stop, _ = play(HOPELESS, controller, looks_s=0.05, until_s=120.0)
    assert stop is None
    seen = controller.seen
    assert seen.stalled
    assert seen.needed_ms > 300
    assert 0 < seen.fitting_bytes < seen.needed_bytes


def test_what_was_advised_lets_it_stop() -> None:
    controller = Controller(aim_of(HOPELESS))
    play(HOPELESS, controller, looks_s=0.05, until_s=120.0)
    wiser = Controller(aim_of(HOPELESS, pause_ms=int(controller.seen.needed_ms * 1.25)))
    stop, _ = play(HOPELESS, wiser, looks_s=0.05, until_s=120.0)
    assert stop is not None


scenes = st.builds(
    Scene,
    memory=st.floats(8 * MIB, 512 * MIB),
    region=st.floats(0, 128 * MIB),
    writes=st.floats(0, 200e6),
    first_ratio=st.floats(0.05, 1.0),
    ratio=st.floats(0.01, 1.0),
    coding=st.floats(50e6, 500e6),
    work=st.floats(50e6, 500e6),
    link=st.floats(1e6, 200e6),
    # Never so small that it, instead of the link, sets the pace.
    buffer=st.floats(4e6, 8e6),
    rtt_s=st.floats(0.001, 0.2),
)


@settings(max_examples=60, deadline=None)
@given(scenes, st.integers(100, 2000), st.floats(10, 400), st.floats(0.05, 0.3))
def test_never_stops_above_the_budget_by_its_own_prediction(
    scene: Scene, pause_ms: int, fixed_ms: float, looks_s: float
) -> None:
    controller = Controller(aim_of(scene, pause_ms, fixed_ms))
    stop, told = play(scene, controller, looks_s, until_s=60.0)
    allowed_ms = max(pause_ms, fixed_ms + pause_ms * PAGES_SHARE_MIN)
    assert all(limit.downtime_ms <= allowed_ms for limit in told)
    if stop is not None and stop.limit.raised:
        assert stop.predicted_ms <= allowed_ms + 1e-6
        # QEMU takes up a limit a tenth of a second later.
        assert stop.left < max(limit.threshold_bytes for limit in told)


@settings(max_examples=40, deadline=None)
@given(scenes, st.integers(200, 2000))
def test_always_stops_where_every_round_would_fit(scene: Scene, pause_ms: int) -> None:
    """All that the guest writes to fits at once, whenever it is stopped: then it must be stopped."""
    room_s = pause_ms / 1000 * PAGES_SHARE_MIN / 2
    pace = min(scene.work, scene.coding, scene.link / max(scene.ratio, scene.first_ratio))
    small = msgspec.structs.replace(scene, memory=16 * MIB, region=min(scene.region, pace * room_s))
    copying_s = small.memory / pace
    stop, _ = play(small, Controller(aim_of(small, pause_ms, fixed_ms=pause_ms / 2)), 0.1, until_s=copying_s * 2 + 20.0)
    assert stop is not None
