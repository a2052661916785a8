"""Rows of the encoding benchmark: ratios, speeds, memory beyond the caches, and what the command line may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.encoding.messages import LayerCount
from actors.errors import BadRequest
from actors.hypervisor.messages import GuestSpec
from benchmarks.coding.recording import GUESTS, key, parse_guests
from benchmarks.coding.rows import (
    COLUMNS,
    SYSTEMS,
    Coded,
    Memory,
    Sent,
    Setting,
    beyond,
    kernel_row,
    of_sent,
    parse_systems,
    rate,
    row,
)

MIB = 1 << 20
SETTING = Setting(guest="idle", memory_mib=512, apart_s=5.04, memcpy_gb_per_s=8.0)
CODED = Coded(
    guest_bytes=400_000_000,
    wire_bytes=50_000_000,
    encode_s=0.5,
    decode_s=0.2,
    encoder=Memory(peak_bytes=300 * MIB, caches_bytes=256 * MIB),
    decoder=Memory(peak_bytes=100 * MIB, caches_bytes=256 * MIB),
    layers={"zero": LayerCount(pages=2, bytes_in=8208, bytes_out=2, cpu_s=0.1)},
)


def test_row_has_ratio_speed_and_memory_beyond_caches() -> None:
    found = row(SETTING, "novacron", "pair", "all", CODED)
    assert (found["ratio"], found["guest_gb_per_s"], found["decode_gb_per_s"]) == (8.0, 0.8, 2.0)
    assert found["of_memcpy"] == 0.1
    assert found["apart_s"] == 5.0
    assert (found["peak_mib"], found["beyond_caches_mib"]) == (300.0, 44.0)
    assert (found["encoder_beyond_caches_mib"], found["decoder_beyond_caches_mib"]) == (44.0, None)
    assert str(found["layers"]).startswith("zero 2 pages")
    assert set(COLUMNS) <= set(found)


def test_snapshot_has_no_distance_and_what_was_not_measured_is_empty() -> None:
    found = row(SETTING, "qemu-xbzrle", "snapshot", "", Coded(guest_bytes=4096))
    for column in ("apart_s", "ratio", "guest_gb_per_s", "decode_gb_per_s", "of_memcpy", "wire_bytes", "peak_mib"):
        assert found[column] is None, column


def test_kernel_is_compared_with_memcpy() -> None:
    found = kernel_row(SETTING, "parse", 2_000_000_000, 0.5, "bytes of stream")
    assert (found["guest_gb_per_s"], found["of_memcpy"], found["of"]) == (4.0, 0.5, "kernel")


def test_what_qemu_sent_after_the_first_pass_is_a_difference() -> None:
    before = Sent(pages=100, wire_bytes=1000, rounds=2, seconds=1.0, cpu_s=0.5)
    after = Sent(pages=150, wire_bytes=1600, rounds=5, seconds=3.0, cpu_s=0.75)
    coded = of_sent(after.since(before), "running")
    assert (coded.guest_bytes, coded.wire_bytes, coded.encode_s, coded.note) == (50 * 4096, 600, 0.25, "running")


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_memory_beyond_caches_is_never_negative(peak: int, caches: int) -> None:
    found = beyond(Memory(peak_bytes=peak, caches_bytes=caches))
    assert found >= 0
    assert found + caches >= peak


def test_speed_of_nothing_measured_is_unknown() -> None:
    assert rate(1000, 0.0) is None
    assert rate(3_000_000_000, 2.0) == 1.5


def test_names_come_in_one_order_and_unknown_ones_are_refused() -> None:
    assert parse_systems("zstd-1, novacron") == ["novacron", "zstd-1"]
    assert parse_systems("") == list(SYSTEMS)
    assert parse_guests("redis,idle") == ["idle", "redis"]
    assert parse_guests("") == list(GUESTS)
    with pytest.raises(BadRequest, match="gzip"):
        parse_systems("gzip")
    with pytest.raises(BadRequest, match="windows"):
        parse_guests("windows")


def test_recording_is_another_one_for_whatever_changes_it() -> None:
    spec = GuestSpec(name="a", memory_mib=512, kernel="/k", initrd="/i", cmdline="nova.kind=memory")
    other = GuestSpec(name="a", memory_mib=512, kernel="/k", initrd="/i2", cmdline="nova.kind=memory")
    assert key(spec, 20.0, 5.0) == key(spec, 20.0, 5.0)
    assert len({key(spec, 20.0, 5.0), key(other, 20.0, 5.0), key(spec, 21.0, 5.0), key(spec, 20.0, 6.0)}) == 4
