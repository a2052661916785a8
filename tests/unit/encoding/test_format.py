"""Frames: version 3 stays what it is, and a frame that is whole but hostile is refused."""

import base64
import struct
import zlib

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import format as fmt
from actors.encoding import layout as lay
from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Settings
from actors.encoding.reverse import Need
from actors.encoding.shelf import Shelf
from actors.errors import StreamCorrupt
from tests.unit.encoding import kit

# A version 3 stream as it was first written; a decoder of version 3 must always read it. It holds one of each op.
GOLDEN = zlib.decompress(
    base64.b85decode(
        b"c-r&xaB*d3U}j+8U|{eNWMrtd)^97#eskBuiGg8m0|NuEA_D^t0|NsK16T<|3J?Q@83cfsL4kpRkpTfrIdc6j?u?ifxBF^46VC*D!xV+?"
        b"ZA*jKSXNuaHcs91hMViich^(ddJIgGJls+YEON5^3`|`7JkuB%B!Etk3Um$g1scN)GLwn9C@~jmE(@4sWMF}dA#4?>11km*P!SF!oycs6"
        b"N(Rb61Eu<tGZORCQ&SY7v>pQ^6Eh1d8#@Ol7dH<tAHRU0kg$lTn7D+bl(dYjoV<dflCp}bn!1LjmbQ+rp1y&hk+F%XnYo3fm9>qnoxOvj"
        b"le3Gfo4bdnm$#3vpMOALP;f|SSa?KaRCG*iTzo=eQgTXaT6#uiR(4KqUVcGgQE^FWS$RceRdr2mU427iQ*%peTYE=mS9ecuU;l)OlO|7@"
        b"I&J!lnX_iknLBU(f`y9~FIl>5`HGdRR<BvRZvBRhn>KIRx^4T8ox67L*}HH5frEz*A31vL_=%IJPM<k@?)-&|mo8tqdhPm+o40P?xqI*a"
        b"gNKhEKY9A>`HPpYUcY(!?)`_4pFV&2`tAFVpTB<p`TOtxsQ*X(KkENc|Bw2A)c>RYANBvJ|402l>i<#ykNSVq|0BWwu<?M=_#gHEsQ*X("
        b"KkENc|Bw2A)c>RYANBvJ|402l>i<#ykNSW3`k%?eiIM2l19Ka&FSI~cH|1Db`No-F+5pBQE29"
    )
)


IMAGE = b"".join(bytes([fill]) * 4096 for fill in range(1, 4))


def golden_stream() -> bytes:
    """What `GOLDEN` stands for."""
    body = bytes(range(256)) * 16
    changed = b"changed!" + body[8:]
    records = kit.page(0, body, "ram") + kit.zero(4096) + kit.page(2 << 12, body) + kit.page(3 << 12, bytes(4096))
    records += kit.page(9 << 12, changed) + kit.page(0, changed, "ram") + kit.page(2 << 12, body[:-8] + b"changed!")
    records += kit.page(9 << 12, changed[:-8] + b"changed.") + kit.page(10 << 12, IMAGE[4096:8192])
    return kit.FILE_HEADER + kit.section(1, kit.block_list(("ram", 1 << 16))) + kit.section(3, records + kit.EOS)


def test_the_golden_stream_is_read() -> None:
    assert kit.decoded(GOLDEN, blocks=[kit.MemoryBlocks(IMAGE)]) == golden_stream()


def test_the_golden_stream_is_written() -> None:
    plain = Settings(zstd=False, dedupe_cache_mib=8, batch_bytes=65536)
    frames, _ = kit.encoded([golden_stream()], plain, blocks=[kit.MemoryBlocks(IMAGE)])
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
RAW_PARTS = [bytes([lay.OP_RAW]), b"", b"\x0a", b"hello", b"", b"", b"", b""]


def test_the_batch_that_the_next_tests_spoil_is_right() -> None:
    assert Decoder(8).feed(OPENING + batch(RAW_PARTS, b"hello")) == b"hello"


WITH_BLOCKS = fmt.Opening(256, 65536, fmt.WANTS_FILES).pack()


def referring(blocks: bytes, page: bytes, check: bytes) -> bytes:
    """What a decoder with the blocks of `IMAGE` makes of a batch that refers to them."""
    decoder = Decoder(8, Shelf(kit.KEY, None, [kit.MemoryBlocks(IMAGE)]))
    out = decoder.feed(WITH_BLOCKS + batch([bytes([lay.OP_STORE]), *[b""] * 6, blocks], page, check=check))
    assert out or any(isinstance(reply, Need) for reply in decoder.replies)
    return out


def check_of(page: bytes) -> bytes:
    return Shelf(kit.KEY).check(kit.digests_of(page))


def test_blocks_are_read_and_those_that_can_not_be_are_refused() -> None:
    page = IMAGE[8192:]
    assert referring(b"\x04", page, check_of(page)) == page
    for blocks in (b"\x06", b"\x01", b"", b"\x84", b"\xfe" + b"\xff" * 8 + b"\x01"):
        with pytest.raises(StreamCorrupt):
            referring(blocks, page, check_of(page))


def test_another_block_with_the_same_print_is_asked_for() -> None:
    assert referring(b"\x04", IMAGE[8192:], check_of(IMAGE[:4096])) == b""


def test_blocks_without_a_source_are_refused() -> None:
    with pytest.raises(StreamCorrupt, match="never told"):
        Decoder(8).feed(OPENING + batch([bytes([lay.OP_STORE]), *[b""] * 6, b"\x00"], IMAGE[:4096]))


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
        batch(RAW_PARTS, b"hello", parts=(1, 0, 1, 1 << 31, 0, 0, 0, 0)),
        batch(RAW_PARTS, b"hello", body_bytes=1 << 31),
        batch(RAW_PARTS, b"hello", kind=fmt.FINAL),
        batch([bytes([lay.OP_STORE]), *[b""] * 7], bytes(4096)),
        batch(RAW_PARTS, b"hello", check=b"c" * 16),
        batch([*[b""] * 6, bytes(4096), b""], b"", kind=fmt.PAGES),
        batch([*[b""] * 6, bytes(4095), b""], b"", kind=fmt.PAGES),
        batch(RAW_PARTS, b"hello", kind=fmt.PAGES),
        batch([b"\x20", *RAW_PARTS[1:]], b"hello"),
        batch([bytes([lay.OP_REFERENCE]), b"", b"\x00", b"", b"", b"", b"", b""], bytes(4096)),
        batch([bytes([lay.OP_REFERENCE]), b"", b"\xff" * 12, b"", b"", b"", b"", b""], bytes(4096)),
        batch([bytes([lay.OP_LITERAL]), b"", b"", b"", b"", b"", bytes(4095), b""], bytes(4096)),
        batch([bytes([lay.OP_ZERO_RECORD | lay.WITH_HEADER])] + [b""] * 7, bytes(8)),
        batch([bytes([lay.OP_ZERO_RECORD | lay.WITH_HEADER | lay.JUMPS])] + [b""] * 7, bytes(9)),
    ],
)
def test_hostile_batches_are_refused(frame: bytes) -> None:
    with pytest.raises(StreamCorrupt):
        Decoder(8).feed(OPENING + frame)


@given(
    st.lists(st.binary(max_size=300), min_size=8, max_size=8),
    st.binary(max_size=400),
    st.binary(min_size=1, max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_random_ops_never_get_out(parts: list[bytes], filler: bytes, ops: bytes) -> None:
    parts[lay.OPS] = bytes(op & 0x1F for op in ops)
    parts[lay.PAGES] = (filler or b"x") * 32
    stream = bytes(20_000)
    first = kit.page(0, bytes(range(256)) * 16)
    opening = batch([bytes([lay.OP_LITERAL | lay.WITH_HEADER])] + [b""] * 5 + [first[8:], b""], first)
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
        (fmt.Opening(256, 65536, 4).pack(), "wish"),
        (fmt.Opening(256, 65536, 0, (fmt.Known(bytes(16), 1),) * 65).pack(), "65 known"),
        (fmt.Opening(256, 65536).pack()[:-1] + b"x", "checksum"),
    ],
)
def test_openings_that_are_refused(opening: bytes, problem: str) -> None:
    with pytest.raises(StreamCorrupt, match=problem):
        Decoder(8).feed(opening)


def test_another_version_is_named() -> None:
    head = struct.pack("<4sB3xII", b"NHDE", 2, 256, 65536)
    with pytest.raises(StreamCorrupt, match="version 2"):
        Decoder(8).feed(head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head)))


@given(st.integers(-(1 << 62), 1 << 62))
@settings(deadline=None)
def test_numbers_come_back(number: int) -> None:
    part = np.zeros(lay.VARINT_MAX_BYTES, np.uint8)
    end = lay.put_varint(part, 0, number)
    assert lay.get_varint(part, 0, end) == (number, end)
    assert lay.get_varint(part, 0, end - 1)[1] == -1
