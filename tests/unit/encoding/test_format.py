"""Frames: version 2 stays what it is, and a frame that is whole but hostile is refused."""

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

# A version 2 stream as it was first written; a decoder of version 2 must always read it. It holds one of each op.
GOLDEN = zlib.decompress(
    base64.b85decode(
        b"c-r&xaB*c~WME+6U|{eNWMuej^MLOov&n76`yAmd2F_A?)yv;ql~t}w>t%Gi8Y<w<3{<+|hs%@;JGq=aoERA9HZU;oDl#ze0L57##xSG"
        b"+F;JL60EihB7#Kjt!+<GAuHVI-5wqfUUu|dNnP6YGGJjj<pVvJMOp-j@QVc9|viuB8T>L!K7#SoOm>Hx3UBi5V+L%FRFfkV;=0eS30h5"
        b"djEO0S|Edq65#UKJI!hxg{nGI3NKpAMDRDW_tVqSV`iXxQOV_;-rW?^Mx=iubx=Hcbz7Z4N@77-N_mync_mXVc{S5Q<^R#8<`*U;3`*3"
        b"s3|H!w6ZHZe6bx3ILbwz0LdcW`uac5!uc_we-c_VM-e4+snj4hanlkBE$lj){$nPe@EkPDxEm&&bTm&dJToFDNW3E-5W5uc)l5uBol7Z"
        b")j|4ZfR|6@96C6?&<C8pD=OK<SA39O`kDy*6cZR=gnWRaM9u=OP4KQv2xYwHEY+c->`Ah<}F*dZQrqT*X})g_w7G$@X+BSM~@vpaq`sZ"
        b"GiT48zi{!=<ttaOUB7Yj*6llY@7;g!@X_NZPoF)1@$%K{H*ep)|M2nC=PzHsegE<E*Y7`n|NS5J|ET{*{XgpeQU8znf7Jh@{vY-KsQ*X"
        b"(KkENc|Bw2AB={dT9xxjJqy8WD|ET{*{XgpeQU8znf7Jh@{vY-KsQ*X(KkENc{|{gPGkG{M61{q0ZUgp(6*jk?u2X(6_b32mu`?q"
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
    assert kit.decoded(GOLDEN, images=[kit.MemoryImage(IMAGE)]) == golden_stream()


def test_the_golden_stream_is_written() -> None:
    plain = Settings(zstd=False, dedupe_cache_mib=8, batch_bytes=65536)
    frames, _ = kit.encoded([golden_stream()], plain, images=[kit.indexed(IMAGE)])
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


def test_blocks_outside_the_image_are_refused() -> None:
    image = kit.MemoryImage(IMAGE)
    opening = fmt.Opening(256, 65536, (image.name,)).pack()

    def page(blocks: bytes) -> bytes:
        stream = IMAGE[8192:]
        return Decoder(8, [image]).feed(opening + batch([bytes([lay.OP_IMAGE]), *[b""] * 6, blocks], stream))

    assert page(b"\x04") == IMAGE[8192:]
    for blocks in (b"\x06", b"\x01", b"", b"\x84", b"\x04\x05", b"\xfe" + b"\xff" * 8 + b"\x01"):
        with pytest.raises(StreamCorrupt):
            page(blocks)


def test_blocks_without_images_are_refused() -> None:
    with pytest.raises(StreamCorrupt, match="no image"):
        Decoder(8).feed(OPENING + batch([bytes([lay.OP_IMAGE]), *[b""] * 6, b"\x00"], IMAGE[:4096]))


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
        batch([bytes([lay.OP_IMAGE]), *[b""] * 7], bytes(4096)),
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
        (fmt.Opening(256, 65536, (fmt.ImageName(bytes(32), 1),)).pack(), "not offer"),
        (fmt.Opening(256, 65536, (fmt.ImageName(bytes(32), 1),) * 9).pack(), "9 images"),
        (fmt.Opening(256, 65536).pack()[:-1] + b"x", "checksum"),
    ],
)
def test_openings_that_are_refused(opening: bytes, problem: str) -> None:
    with pytest.raises(StreamCorrupt, match=problem):
        Decoder(8).feed(opening)


def test_another_version_is_named() -> None:
    head = struct.pack("<4sB3xII", b"NHDE", 1, 256, 65536)
    with pytest.raises(StreamCorrupt, match="version 1"):
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
