"""Progress and ETA."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.encoding.messages import CodecStats, DiskStats, LayerCount
from actors.hypervisor.messages import MoveStatus
from actors.migration.eta import AGAIN, FIRST_PASS
from actors.migration.progress import PAGE_BYTES, Meter
from actors.prediction.messages import Forecast

MIB = 1 << 20
# What a move takes beyond its bytes over its link, while nothing is known of what comes again.
MORE = math.exp(FIRST_PASS.centre)


def status(memory_remaining, memory_total=1024 * MIB, disk_remaining=0):
    return MoveStatus(
        outcome="running",
        guest_state="running",
        memory_total=memory_total,
        memory_remaining=memory_remaining,
        disk_total=disk_remaining,
        disk_remaining=disk_remaining,
    )


def codec(wire_bytes, pages):
    return CodecStats(
        job="m",
        state="running",
        stream_bytes=pages * 4104,
        wire_bytes=wire_bytes,
        layers={"zstd": LayerCount(pages=pages)},
    )


def forecast(mean, low=None, high=None):
    return Forecast(mean=mean, low=low or mean, high=high or mean, horizon_s=30, method="ewma", samples=10, streams=4)


def test_unknown_until_something_was_measured():
    meter = Meter()
    assert meter.take(0, status(100), None, forecast(1e6)).eta_s == -1
    assert meter.take(1, status(100), codec(0, 0), forecast(1e6)).eta_s == -1


def test_remaining_times_ratio_over_forecast():
    # 64 MiB of guest memory became 16 MiB on the wire; 512 MiB are left; the link carries 8 (4 to 16) MiB/s.
    meter = Meter()
    pages = 64 * MIB // PAGE_BYTES
    progress = meter.take(0, status(512 * MIB), codec(16 * MIB, pages), forecast(8 * MIB, 4 * MIB, 16 * MIB))
    assert progress.eta_s == pytest.approx(16 * MORE)
    assert progress.eta_low_s == pytest.approx(16 * MORE * math.exp(-math.hypot(FIRST_PASS.low, math.log(2))))
    assert progress.eta_high_s == pytest.approx(16 * MORE * math.exp(math.hypot(FIRST_PASS.high, math.log(2))))


@pytest.mark.parametrize("copied", [0, 20 * MIB])
def test_disks_that_nobody_codes_cross_as_they_are(copied):
    meter = Meter()
    pages = 64 * MIB // PAGE_BYTES
    looked = msgspec.structs.replace(status(0, disk_remaining=80 * MIB), disk_total=80 * MIB + copied)
    progress = meter.take(0, looked, codec(16 * MIB, pages), forecast(8 * MIB))
    assert progress.eta_s == pytest.approx(10 * MORE)


def test_disks_have_a_ratio_of_their_own():
    # 20 MiB of the disk became 5 MiB on the wire, 80 MiB are left; memory is done, whatever it took.
    meter = Meter()
    looked = msgspec.structs.replace(status(0, disk_remaining=80 * MIB), disk_total=100 * MIB)
    disks = DiskStats(streams=1, stream_bytes=20 * MIB, wire_bytes=5 * MIB, layers={"zstd": LayerCount(pages=7)})
    coded = msgspec.structs.replace(codec(16 * MIB, 64 * MIB // PAGE_BYTES), disks=disks)
    progress = meter.take(0, looked, coded, forecast(5 * MIB))
    assert progress.eta_s == pytest.approx(4 * MORE)
    assert (progress.wire_bytes, progress.disk_wire_bytes) == (21 * MIB, 5 * MIB)
    assert progress.stream_bytes - progress.disk_stream_bytes == coded.stream_bytes
    assert progress.layers["zstd"].pages == 64 * MIB // PAGE_BYTES + 7


def test_the_ratio_of_late_counts():
    meter = Meter()
    meter.take(0, status(900 * MIB), codec(1 * MIB, 25600), forecast(8 * MIB))
    progress = meter.take(1, status(800 * MIB), codec(51 * MIB, 51200), forecast(8 * MIB))
    assert progress.eta_s == pytest.approx(50 * MORE)


def test_what_the_guest_dirties_meanwhile_counts_from_the_second_pass_on():
    meter = Meter()
    pages = 64 * MIB // PAGE_BYTES
    looked = msgspec.structs.replace(status(64 * MIB), iteration=2, dirty_pages_per_s=4 * MIB // PAGE_BYTES)
    first = meter.take(0, looked, codec(64 * MIB, pages), forecast(8 * MIB))
    assert first.eta_s == pytest.approx(8 / (1 - 0.5) * math.exp(AGAIN.centre))
    later = meter.take(
        4,
        msgspec.structs.replace(looked, memory_remaining=32 * MIB),
        codec(96 * MIB, pages * 3 // 2),
        forecast(8 * MIB),
    )
    assert later.eta_s == pytest.approx(first.eta_s * (32 + 16) / 64), "what it wrote since QEMU counted comes again"


def test_a_move_that_does_not_fill_its_link_takes_as_long_as_its_hosts():
    meter = Meter()
    pages = 64 * MIB // PAGE_BYTES
    meter.take(0, status(900 * MIB), codec(0, pages), forecast(1000 * MIB))
    progress = meter.take(2, status(800 * MIB), codec(10 * MIB, 3 * pages), forecast(1000 * MIB))
    assert progress.eta_s == pytest.approx(800 / 64 * MORE)


def test_without_a_forecast_the_moves_own_rate_counts():
    meter = Meter()
    meter.take(0, status(900 * MIB), codec(0, 0), None)
    progress = meter.take(2, status(800 * MIB), codec(20 * MIB, 25600), None)
    assert progress.rate_bytes_per_s == pytest.approx(10 * MIB)
    assert progress.eta_s == pytest.approx(16 * MORE)
    assert progress.eta_low_s == pytest.approx(16 * MORE * math.exp(-math.hypot(FIRST_PASS.low, math.log(2))))
    assert progress.eta_high_s == pytest.approx(16 * MORE * math.exp(math.hypot(FIRST_PASS.high, math.log(2))))


def test_a_look_without_figures_keeps_the_last_ones():
    meter = Meter()
    meter.take(0, status(900 * MIB), codec(5, 1), None)
    progress = meter.take(1, None, None, None)
    assert (progress.memory_remaining, progress.wire_bytes) == (900 * MIB, 5)


steps = st.lists(
    st.tuples(st.floats(0.01, 5), st.integers(0, 1 << 30), st.integers(0, 1 << 18), st.integers(0, 1 << 32)),
    max_size=20,
)


@given(steps, st.floats(1, 1e10), st.floats(0.1, 1), st.floats(1, 10))
def test_the_interval_surrounds_the_estimate(moves, mean, low, high):
    meter, at, wire, pages = Meter(), 0.0, 0, 0
    for gap, more_wire, more_pages, remaining in moves:
        at, wire, pages = at + gap, wire + more_wire, pages + more_pages
        progress = meter.take(at, status(remaining), codec(wire, pages), forecast(mean, mean * low, mean * high))
        if progress.eta_s >= 0:
            assert progress.eta_low_s <= progress.eta_s <= progress.eta_high_s
        else:
            assert (progress.eta_low_s, progress.eta_high_s) == (-1, -1)


def native(stream_bytes):
    return CodecStats(job="m", state="running", stream_bytes=stream_bytes, wire_bytes=stream_bytes)


def test_without_layers_memory_crosses_as_it_is():
    meter = Meter()
    at_work = msgspec.structs.replace(status(512 * MIB), iteration=2)
    progress = meter.take(0, at_work, native(64 * MIB), forecast(64 * MIB))
    assert progress.eta_s == pytest.approx(8 * math.exp(AGAIN.centre))
    assert (progress.round, progress.layers) == (2, {})
    # Once its job is over libvirt counts no rounds any more.
    assert meter.take(1, status(0), native(80 * MIB), None).round == 2
