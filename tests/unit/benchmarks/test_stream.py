"""Reading a recorded stream: written here record by record as QEMU writes it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BadRequest
from benchmarks.coding.stream import PAGE_BYTES, image, layout

HEAD = b"QEVM" + struct.pack(">I", 3)
CONFIGURATION = b"\x07" + struct.pack(">I", 3) + b"q35"
FOOTER = b"\x7e" + struct.pack(">I", 2)
EOS = struct.pack(">Q", 0x10)
DEVICES = b"\x04" + struct.pack(">I", 5) + b"\x05timer" + bytes(8)


def named(name: bytes) -> bytes:
    return bytes([len(name)]) + name


def start(sizes: dict[bytes, int]) -> bytes:
    blocks = b"".join(named(name) + struct.pack(">Q", size) for name, size in sizes.items())
    head = b"\x01" + struct.pack(">I", 2) + named(b"ram") + struct.pack(">II", 0, 4)
    return head + struct.pack(">Q", sum(sizes.values()) | 0x04) + blocks + EOS + FOOTER


def record(address: int, page: bytes | None, block: bytes = b"") -> bytes:
    flags = (0x08 if page else 0x02) | (0 if block else 0x20)
    return struct.pack(">Q", address | flags) + (named(block) if block else b"") + (page or b"\0")


def part(*records: bytes, kind: int = 2) -> bytes:
    return bytes([kind]) + struct.pack(">I", 2) + b"".join(records) + EOS + FOOTER


def page(fill: int) -> bytes:
    return bytes([fill]) * PAGE_BYTES


def test_pages_blocks_and_the_end_of_memory_are_found() -> None:
    ram = HEAD + CONFIGURATION + start({b"pc.ram": 0x4000, b"pc.bios": 0x1000})
    ram += part(record(0, page(1), b"pc.ram"), record(0x1000, None), record(0x3000, page(3)))
    ram += b"\x08" + struct.pack(">HH", 11, 2) + b"ab"  # QEMU announces the switchover before the last section
    ram += part(record(0, page(9), b"pc.bios"), kind=3)
    found = layout(memoryview(ram + DEVICES))
    assert found.ram_end == len(ram)
    assert (found.memory_bytes, found.guest_bytes) == (0x4000, 4 * PAGE_BYTES)
    assert [(one.block, one.address, one.at >= 0) for one in found.pages] == [
        (b"pc.ram", 0, True), (b"pc.ram", 0x1000, False), (b"pc.ram", 0x3000, True), (b"pc.bios", 0, True),
    ]  # fmt: skip
    assert [(address, bytes(data)) for address, data in image(memoryview(ram), found)] == [
        (0, page(1)), (0x3000, page(3)),
    ]  # fmt: skip


def test_a_record_goes_on_in_the_block_of_the_section_before() -> None:
    ram = HEAD + start({b"pc.ram": 0x2000}) + part(record(0, page(1), b"pc.ram")) + part(record(0x1000, page(2)))
    assert [one.block for one in layout(memoryview(ram + DEVICES)).pages] == [b"pc.ram"] * 2


@pytest.mark.parametrize(
    "stream",
    [
        b"LIBVIRT!" + bytes(100),
        HEAD + start({b"pc.ram": 0x1000}) + part(struct.pack(">Q", 0x48) + bytes(64)) + DEVICES,
        HEAD + b"\x01" + struct.pack(">I", 1) + named(b"block") + bytes(64),
        HEAD + start({b"pc.ram": 0x1000})[:-5] + bytes(5) + DEVICES,
    ],
)
def test_what_is_no_plain_recording_is_refused(stream: bytes) -> None:
    with pytest.raises(BadRequest):
        layout(memoryview(stream))


@given(st.integers(0, 4000))
def test_a_recording_cut_anywhere_is_refused(at: int) -> None:
    whole = HEAD + CONFIGURATION + start({b"pc.ram": 0x2000}) + part(record(0, page(7), b"pc.ram")) + DEVICES
    with pytest.raises(BadRequest):
        layout(memoryview(whole[: min(at, len(whole) - len(DEVICES))]))
