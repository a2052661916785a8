"""The encoded stream's frames: one opening, then batches, the last of them final. See ``docs/formats/hde.md``.

Whatever is read here came over a wire: a length is checked before memory is taken for it, a checksum before the bytes
are looked at.
"""

import struct

import msgspec
import xxhash

from actors.encoding import layout as lay
from actors.encoding.parser import UNPARSED_MAX_BYTES
from actors.errors import StreamCorrupt

VERSION = 2
OPENING_MAGIC = b"NHDE"
BATCH_MAGIC = b"HB"
_OPENING = struct.Struct("<4sBB2xII")
_IMAGE = struct.Struct("<32sI")
_BATCH = struct.Struct("<2sBBII8IQ16s")
_CHECKSUM = struct.Struct("<Q")
OPENING_HEAD_BYTES = _OPENING.size
BATCH_HEADER_BYTES = _BATCH.size + _CHECKSUM.size

DATA = 0
FINAL = 1
CODEC_NONE = 0
CODEC_ZSTD = 1

SLOT_BYTES = 4096
SLOTS_PER_MIB = (1 << 20) // SLOT_BYTES
# Largest batch that any configuration allows, and the piece of a record that may have waited for it.
STREAM_MAX_BYTES = (8 << 20) + UNPARSED_MAX_BYTES
# Images that one stream may refer to.
IMAGES_MAX = 8


class ImageName(msgspec.Struct, frozen=True):
    """A disk image by its content: blake3 of all of it, its whole blocks of 4 KiB."""

    digest: bytes
    blocks: int


class Opening(msgspec.Struct, frozen=True):
    """What the decoder must provide: slots of the page ring, QEMU's bytes in one batch at most, images."""

    slots: int
    batch_bytes: int
    images: tuple[ImageName, ...] = ()

    def pack(self) -> bytes:
        """The opening's bytes."""
        head = _OPENING.pack(OPENING_MAGIC, VERSION, len(self.images), self.slots, self.batch_bytes)
        head += b"".join(_IMAGE.pack(image.digest, image.blocks) for image in self.images)
        return head + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))

    @staticmethod
    def size(head: memoryview) -> int:
        """Bytes of the opening that begins with `head`, `OPENING_HEAD_BYTES` long.

        Raises:
            StreamCorrupt: not an opening, of another version, or with too many images.
        """
        magic, version, images, _, _ = _OPENING.unpack_from(head)
        if magic != OPENING_MAGIC:
            raise StreamCorrupt(reason="it does not begin as an encoded stream")
        if version != VERSION:
            raise StreamCorrupt(reason=f"format version {version}; this node knows {VERSION}")
        if images > IMAGES_MAX:
            raise StreamCorrupt(reason=f"{images} images announced")
        return _OPENING.size + int(images) * _IMAGE.size + _CHECKSUM.size

    @classmethod
    def unpack(cls, raw: memoryview, slots_max: int) -> "Opening":
        """Read an opening of the size that `size` told.

        Raises:
            StreamCorrupt: its checksum is wrong, or it asks for more than `slots_max`.
        """
        summed = len(raw) - _CHECKSUM.size
        if _CHECKSUM.unpack_from(raw, summed)[0] != _sum(raw[:summed]):
            raise StreamCorrupt(reason="the opening's checksum is wrong")
        _, _, _, slots, batch_bytes = _OPENING.unpack_from(raw)
        if slots > slots_max:
            raise StreamCorrupt(
                reason=f"the sender's page cache of {slots // SLOTS_PER_MIB} MiB is larger than this node's "
                f"encoding.dedupe_cache_mib of {slots_max // SLOTS_PER_MIB}; raise it here or lower it there"
            )
        if not 0 < batch_bytes <= STREAM_MAX_BYTES:
            raise StreamCorrupt(reason=f"batches of {batch_bytes} bytes announced")
        images = tuple(ImageName(*fields) for fields in _IMAGE.iter_unpack(raw[_OPENING.size : summed]))
        return cls(slots, batch_bytes, images)


class BatchHeader(msgspec.Struct, frozen=True):
    """One batch: `stream_bytes` of QEMU's stream from `offset` on, in a body of `body_bytes`.

    `parts` are the sizes of the payload's parts before compression; `digest` is the xxh3-128 of QEMU's whole stream up
    to this batch's end.
    """

    kind: int
    codec: int
    stream_bytes: int
    body_bytes: int
    parts: tuple[int, ...]
    offset: int
    digest: bytes

    @property
    def payload_bytes(self) -> int:
        """Size of the payload before compression."""
        return sum(self.parts)

    def pack(self, body: bytes) -> bytes:
        """The batch's bytes, header and `body`."""
        head = _BATCH.pack(
            BATCH_MAGIC,
            self.kind,
            self.codec,
            self.stream_bytes,
            self.body_bytes,
            *self.parts,
            self.offset,
            self.digest,
        )
        return b"".join((head, _CHECKSUM.pack(_sum(head, body)), body))

    @classmethod
    def unpack(cls, raw: memoryview, opening: Opening, offset: int) -> "BatchHeader":
        """Read a header of `BATCH_HEADER_BYTES` that must continue the stream at `offset`.

        Raises:
            StreamCorrupt: a field is outside what this version and the opening allow.
        """
        magic, kind, codec, stream_bytes, body_bytes, *rest = _BATCH.unpack_from(raw)
        header = cls(kind, codec, stream_bytes, body_bytes, tuple(rest[: lay.PARTS]), rest[-2], rest[-1])
        if magic != BATCH_MAGIC or kind not in (DATA, FINAL) or codec not in (CODEC_NONE, CODEC_ZSTD):
            raise StreamCorrupt(reason="a batch does not begin as one")
        if header.offset != offset:
            raise StreamCorrupt(reason=f"a batch for byte {header.offset} came where byte {offset} is due")
        if kind == FINAL and (stream_bytes or body_bytes or header.payload_bytes or codec != CODEC_NONE):
            raise StreamCorrupt(reason="the final batch is not empty")
        if kind == DATA and not 0 < stream_bytes <= opening.batch_bytes:
            raise StreamCorrupt(reason=f"a batch of {stream_bytes} bytes, {opening.batch_bytes} at most were announced")
        # No batch needs more: an op, its operands and its data are never twice what they stand for.
        if header.payload_bytes > 2 * stream_bytes + 64 or body_bytes > header.payload_bytes:
            raise StreamCorrupt(reason=f"a body of {body_bytes} bytes for {stream_bytes} of the stream")
        return header


def check_batch(batch: memoryview) -> None:
    """Check header and body of a whole batch against its checksum.

    Raises:
        StreamCorrupt: they differ.
    """
    expected = _CHECKSUM.unpack_from(batch, _BATCH.size)[0]
    if _sum(batch[: _BATCH.size], batch[BATCH_HEADER_BYTES:]) != expected:
        raise StreamCorrupt(reason="a batch's checksum is wrong")


def _sum(*pieces: bytes | memoryview) -> int:
    checksum = xxhash.xxh3_64()
    for piece in pieces:
        checksum.update(piece)
    return checksum.intdigest()
