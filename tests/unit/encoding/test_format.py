"""Frames: version 1 stays what it is, and a frame that is whole but hostile is refused."""

import base64
import struct
import zlib

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import format as fmt
from actors.encoding import layout as lay
from actors.encoding.codec import Decompressor
from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Settings
from actors.errors import StreamCorrupt
from tests.unit.encoding import kit

# A version 1 stream as it was first written; a decoder of version 1 must always read it. It holds one of each op.
GOLDEN = zlib.decompress(
    base64.b85decode(
        b"c-r&xaB*d100IsM1`k0-h6V-!xwnh!y*!*47^W65FmNjZF;JQXqJ$v@h#P=d0HjBO0S?|CO0)2J>pMX}Gi8aW*Tc25(>d8z3sm1^"
        b"V3OqFmSSL$lVxDy;^&#h$RNSM%peu$8s-bs#SF5ViMc2-7itU(m}F#Nfr~N1tq`aKD+Uoz5e_7s$ZUv82FgGKrTUXI67$kiQxu`J"
        b"9s?s2GYcylI|nBhHxDl#zkr~Su!yLbxP+vXw2Z8ryn>>VvWlvjx`w8fwvMizzJZ~Uv5BdfxrL>bwT-Qvy@R8Zvx}>nyN9Qjw~w!%"
        b"e?VYRa7buactm7WbWChqd_rPUa!P7idPZhec1~_yenDYTaY<=ec|~PabxmzueM4hYb4zPmdq-zicTaC$|AdK?CQq3<ZTgIvvu4kk"
        b"J8%Aig^Lz1S-Ncbij}KYuUWfp{f3R3HgDOwZTpU$yLRu{yKn!2gNF_uIeP5)iIb;JpE-N({Dq5`E?>EN?fQ+Iw{G9Ld++{(hmRgV"
        b"dHU@6i<hrnzj^!a{fCdAK7aZ8?fZ|PzkdJu`|tm#|402l>i<#ykNSVq|D*mN_5Y~<NBuwQ|55*s`hV2_Bf<Z$@qp3zANBvJ|402l"
        b">i<#ykNSVq|D*mN_5Y~<NBuwQ|55*s`hWQP-@}QKsD%TdWf$0%RJi_~e1qxY>@@%ZkR!7"
    )
)


def golden_stream() -> bytes:
    """What `GOLDEN` stands for."""
    body = bytes(range(256)) * 16
    changed = b"changed!" + body[8:]
    records = kit.page(0, body, "ram") + kit.zero(4096) + kit.page(2 << 12, body) + kit.page(3 << 12, bytes(4096))
    records += kit.page(9 << 12, changed) + kit.page(0, changed, "ram") + kit.page(2 << 12, body[:-8] + b"changed!")
    records += kit.page(9 << 12, changed[:-8] + b"changed.")
    return kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 1 << 16))) + kit.section(3, records + kit.EOS)


def test_the_golden_stream_is_read() -> None:
    assert kit.decoded(GOLDEN) == golden_stream()


def test_the_golden_stream_is_written() -> None:
    frames, _ = kit.encoded([golden_stream()], Settings(zstd=False, dedupe_cache_mib=8, batch_bytes=65536))
    assert frames == GOLDEN


def batch(pieces: list[bytes], stream: bytes, **changes: object) -> bytes:
    """A batch with a right checksum, whatever else is wrong with it."""
    body = b"".join(pieces)
    fields = {
        "kind": fmt.DATA,
        "codec": fmt.CODEC_NONE,
        "stream_bytes": len(stream),
        "body_bytes": len(body),
        "parts": tuple(len(piece) for piece in pieces),
        "offset": 0,
        "digest": xxhash.xxh3_128_digest(stream),
    }
    return fmt.BatchHeader(**(fields | changes)).pack(body)  # type: ignore[arg-type]


OPENING = fmt.Opening(256, 65536).pack()
RAW_PARTS = [bytes([lay.OP_RAW]), b"", b"\x0a", b"hello", b"", b"", b""]


def test_the_batch_that_the_next_tests_spoil_is_right() -> None:
    assert Decoder(8).feed(OPENING + batch(RAW_PARTS, b"hello")) == b"hello"


@pytest.mark.parametrize(
    "frame",
    [
        batch(RAW_PARTS, b"hello", kind=2),
        batch(RAW_PARTS, b"hello", codec=9),
        batch(RAW_PARTS, b"hello", offset=1),
        batch(RAW_PARTS, b"hello", digest=bytes(16)),
        batch(RAW_PARTS, b"hello", stream_bytes=4),
        batch(RAW_PARTS, b"hello", stream_bytes=6),
        batch(RAW_PARTS, b"hello", stream_bytes=0),
        batch(RAW_PARTS, b"hello", stream_bytes=1 << 31),
        batch(RAW_PARTS, b"hello", parts=(1, 0, 1, 1 << 31, 0, 0, 0)),
        batch(RAW_PARTS, b"hello", body_bytes=1 << 31),
        batch(RAW_PARTS, b"hello", kind=fmt.FINAL),
        batch([b"\x07", *RAW_PARTS[1:]], b"hello"),
        batch([bytes([lay.OP_REFERENCE]), b"", b"\x00", b"", b"", b"", b""], bytes(4096)),
        batch([bytes([lay.OP_REFERENCE]), b"", b"\xff" * 12, b"", b"", b"", b""], bytes(4096)),
        batch([bytes([lay.OP_LITERAL]), b"", b"", b"", b"", b"", bytes(4095)], bytes(4096)),
        batch([bytes([lay.OP_ZERO_RECORD | lay.WITH_HEADER])] + [b""] * 6, bytes(8)),
        batch([bytes([lay.OP_ZERO_RECORD | lay.WITH_HEADER | lay.JUMPS])] + [b""] * 6, bytes(9)),
    ],
)
def test_hostile_batches_are_refused(frame: bytes) -> None:
    with pytest.raises(StreamCorrupt):
        Decoder(8).feed(OPENING + frame)


@given(
    st.lists(st.binary(max_size=300), min_size=7, max_size=7),
    st.binary(max_size=400),
    st.binary(min_size=1, max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_random_ops_never_get_out(parts: list[bytes], filler: bytes, ops: bytes) -> None:
    parts[lay.OPS] = bytes(op & 0x1F for op in ops)
    parts[lay.PAGES] = (filler or b"x") * 32
    stream = bytes(20_000)
    first = kit.page(0, bytes(range(256)) * 16)
    opening = batch([bytes([lay.OP_LITERAL | lay.WITH_HEADER])] + [b""] * 5 + [first[8:]], first)
    decoder = Decoder(8)
    decoder.feed(OPENING + opening)
    with pytest.raises(StreamCorrupt):
        decoder.feed(batch(parts, stream, offset=len(first)))


@pytest.mark.parametrize(
    ("opening", "problem"),
    [
        (b"GET / HTTP/1.1\r\nHost: somewhere", "does not begin"),
        (fmt.Opening(9 * 256, 65536).pack(), "dedupe_cache_mib"),
        (fmt.Opening(256, 1 << 30).pack(), "announced"),
        (fmt.Opening(256, 0).pack(), "announced"),
    ],
)
def test_openings_that_are_refused(opening: bytes, problem: str) -> None:
    with pytest.raises(StreamCorrupt, match=problem):
        Decoder(8).feed(opening)


def test_another_version_is_named() -> None:
    head = struct.pack("<4sB3xII", b"NHDE", 2, 256, 65536)
    with pytest.raises(StreamCorrupt, match="version 2"):
        Decoder(8).feed(head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head)))


def test_a_body_that_grows_beyond_its_header_is_not_decompressed() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100 << 20))
    with pytest.raises(StreamCorrupt, match="another size"):
        Decompressor().decompress(fmt.CODEC_ZSTD, memoryview(bomb), 1000)
    with pytest.raises(StreamCorrupt):
        Decompressor().decompress(fmt.CODEC_ZSTD, memoryview(b"no frame at all"), 1000)


@given(st.integers(-(1 << 62), 1 << 62))
@settings(deadline=None)
def test_numbers_come_back(number: int) -> None:
    part = np.zeros(lay.VARINT_MAX_BYTES, np.uint8)
    end = lay.put_varint(part, 0, number)
    assert lay.get_varint(part, 0, end) == (number, end)
    assert lay.get_varint(part, 0, end - 1)[1] == -1
