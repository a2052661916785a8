"""The parser of an NBD client's stream: it finds the disk's blocks however it is cut, and changes nothing."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding.encoder import Encoder
from actors.encoding.nbd import Mode, NbdParser
from tests.unit.encoding import kit, nbd_kit
from tests.unit.encoding.nbd_kit import HELLO

DISCONNECT = nbd_kit.extended(nbd_kit.DISCONNECT, 0, 0)


def blocks_of(stream: bytes) -> list[tuple[int, int]]:
    """(where a block lies in `stream`, its number on the disk)."""
    return [(at, key) for at, _, key in kit.found_by(NbdParser(), [stream])]


@pytest.mark.parametrize("long", [False, True])
def test_the_blocks_of_a_write_are_found(long: bool) -> None:
    head = HELLO + nbd_kit.write(40960, b"", long=long)
    stream = HELLO + nbd_kit.write(40960, kit.noise(3 * 4096), long=long)
    assert blocks_of(stream) == [(len(head) + number * 4096, 10 + number) for number in range(3)]


def test_blocks_begin_where_the_disks_own_do() -> None:
    head = len(HELLO + nbd_kit.write(0, b""))
    assert blocks_of(HELLO + nbd_kit.write(4096 - 512, kit.noise(4096 + 1024))) == [(head + 512, 1)]
    assert blocks_of(HELLO + nbd_kit.write(4096 - 512, kit.noise(4096))) == []
    assert blocks_of(HELLO + nbd_kit.write(512, kit.noise(1024)) + nbd_kit.write(8192, kit.noise(4096))) == [
        (2 * head + 1024 - len(HELLO), 2)
    ]


def test_what_follows_other_requests_is_found_again() -> None:
    others = b"".join(
        [
            nbd_kit.extended(nbd_kit.READ, 0, 1 << 40),
            nbd_kit.extended(nbd_kit.WRITE_ZEROES, 1 << 62, 1 << 63),
            nbd_kit.extended(nbd_kit.BLOCK_STATUS, 0, 12, b"query of ids"),
            nbd_kit.extended(99, 0, 7),
            nbd_kit.request(nbd_kit.TRIM, 0, 1 << 31),
            nbd_kit.write(0, b""),
        ]
    )
    assert [number for _, number in blocks_of(HELLO + others + nbd_kit.write(4096, kit.noise(4096)))] == [1]


def test_a_client_without_a_handshake() -> None:
    assert [number for _, number in blocks_of(nbd_kit.write(8192, kit.noise(4096), long=False))] == [2]


@pytest.mark.parametrize(
    "strange",
    [
        nbd_kit.FLAGS + nbd_kit.option(nbd_kit.STARTTLS) + b"\x16\3\1\2\0\1\0\1\xfc",
        b"\x16\3\1\2\0\1\0\1\xfc",
        struct.pack(">I", 4),
        HELLO + struct.pack(">I", 0x21E41C72),
        nbd_kit.FLAGS + b"IHAVENOT" + bytes(8),
    ],
    ids=["tls", "tls at once", "flags", "request", "option"],
)
def test_what_is_not_understood_passes_whole(strange: bytes) -> None:
    parser = NbdParser()
    stream = strange + nbd_kit.write(0, kit.noise(8192))
    assert kit.found_by(parser, [stream]) == []
    assert parser.mode is Mode.GIVEN_UP


@pytest.mark.parametrize("length", [1 << 31, (1 << 32) - 1])
def test_a_length_without_end_holds_nothing(length: int) -> None:
    head = HELLO + nbd_kit.request(nbd_kit.WRITE, (1 << 64) - 4096, length)
    found = kit.found_by(NbdParser(), [head, *[bytes(10_000)] * 20])
    assert len(found) == 200_000 // 4096
    option = nbd_kit.FLAGS + b"IHAVEOPT" + struct.pack(">II", 7, length)
    assert kit.found_by(NbdParser(), [option, *[bytes(10_000)] * 20]) == []


@given(seed=st.integers(0, 2**32), data=st.data())
@settings(max_examples=60, deadline=None)
def test_cuts_change_nothing_that_is_found(seed: int, data: st.DataObject) -> None:
    stream = nbd_kit.client_stream(seed)
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=40))
    assert kit.found_by(NbdParser(), kit.pieces(stream, cuts)) == kit.found_by(NbdParser(), [stream])


def test_byte_by_byte() -> None:
    stream = HELLO + nbd_kit.write(3584, kit.noise(9000)) + DISCONNECT
    parser = NbdParser()
    assert kit.found_by(parser, kit.pieces(stream, range(len(stream)))) == kit.found_by(NbdParser(), [stream])
    assert parser.mode is Mode.MESSAGE


@given(
    seed=st.integers(0, 2**32),
    rubbish=st.binary(max_size=100),
    at=st.integers(0, 200_000),
    flush=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_what_comes_out_is_what_went_in(seed: int, rubbish: bytes, at: int, flush: bool, data: st.DataObject) -> None:
    sound = nbd_kit.client_stream(seed, requests=6)
    stream = sound[:at] + rubbish + sound[at:] if rubbish else sound
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=12))
    frames, _ = kit.encoded(kit.pieces(stream, cuts), flush=flush, parser=NbdParser())
    assert kit.decoded(frames) == stream


def test_every_layer_has_its_part_of_a_disk() -> None:
    known, new = kit.noise(64 << 12, seed=1), kit.noise(64 << 12, seed=2)
    changed = new[:8] + b"changed!" + new[16:]
    parts = [HELLO, *(nbd_kit.write(0, data) for data in (bytes(64 << 12), known, new, new, changed)), DISCONNECT]
    stream = b"".join(parts)
    there = kit.MemoryBlocks(known)
    frames, encoder = kit.encoded(parts, blocks=[there], parser=NbdParser())
    pages = {name: tally.pages for name, tally in encoder.layers.items()}
    # What is written again is known by its place or by its content, and of a block that changed only the words go.
    assert pages == {"zero": 64, "store": 64, "dedupe": 64 + 63, "delta": 1, "zstd": 0, "passthrough": 64}
    assert len(frames) < len(new) + 4096
    assert kit.decoded(frames, blocks=[there]) == stream


def test_small_requests_are_not_held_back() -> None:
    encoder = Encoder(kit.SMALL, kit.no_clock, parser=NbdParser())
    for message in (HELLO, nbd_kit.extended(nbd_kit.READ, 0, 4096), nbd_kit.write(512, kit.noise(1024)), DISCONNECT):
        encoder.feed(message)
        assert encoder.held_bytes == 0
