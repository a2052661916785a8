"""The encoded stream's frames: one opening, then batches, one of them final. See ``docs/formats/hde.md``.

Whatever is read here came over a wire: a length is checked before memory is taken for it, a checksum before the bytes
are looked at.
"""

import struct

import msgspec
import xxhash

from actors.encoding import layout as lay
from actors.encoding.kernel import PAGE_BYTES
from actors.encoding.parser import UNPARSED_MAX_BYTES
from actors.errors import StreamCorrupt

VERSION = 3
OPENING_MAGIC = b"NHDE"
BATCH_MAGIC = b"HB"
_OPENING = struct.Struct("<4sBBBxII")
_KNOWN = struct.Struct("<16sQ")
_BATCH = struct.Struct("<2sBBII8IQ16s16s")
_CHECKSUM = struct.Struct("<Q")
OPENING_HEAD_BYTES = _OPENING.size
BATCH_HEADER_BYTES = _BATCH.size + _CHECKSUM.size

DATA = 0
FINAL = 1
PAGES = 2
NO_CHECK = bytes(16)
CODEC_NONE = 0
CODEC_BEGIN = 1
CODEC_GO_ON = 2

SLOT_BYTES = 4096
SLOTS_PER_MIB = (1 << 20) // SLOT_BYTES
# Largest batch that any configuration allows, and the piece of a record that may have waited for it.
STREAM_MAX_BYTES = (8 << 20) + UNPARSED_MAX_BYTES
# Sources of blocks of which one opening may say what is known already.
KNOWN_MAX = 64
# Bits of the opening's wishes: blocks of the decoder's store, blocks of files in place.
WANTS_STORE = 1
WANTS_FILES = 2


class Known(msgspec.Struct, frozen=True):
    """What the encoder remembers of one source of blocks: all that it had up to `generation`."""

    source: bytes
    generation: int


class Opening(msgspec.Struct, frozen=True):
    """What the decoder must provide: slots of the page ring, QEMU's bytes in one batch at most, blocks of its store."""

    slots: int
    batch_bytes: int
    wants: int = 0
    known: tuple[Known, ...] = ()

    def pack(self) -> bytes:
        """The opening's bytes."""
        head = _OPENING.pack(OPENING_MAGIC, VERSION, len(self.known), self.wants, self.slots, self.batch_bytes)
        head += b"".join(_KNOWN.pack(known.source, known.generation) for known in self.known)
        return head + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))

    @staticmethod
    def size(head: memoryview) -> int:
        """Bytes of the opening that begins with `head`, `OPENING_HEAD_BYTES` long.

        Raises:
            StreamCorrupt: not an opening, of another version, or with too many sources.
        """
        magic, version, known, _, _, _ = _OPENING.unpack_from(head)
        if magic != OPENING_MAGIC:
            raise StreamCorrupt(reason="it does not begin as an encoded stream")
        if version != VERSION:
            raise StreamCorrupt(reason=f"format version {version}; this node knows {VERSION}")
        if known > KNOWN_MAX:
            raise StreamCorrupt(reason=f"{known} known sources announced")
        return _OPENING.size + int(known) * _KNOWN.size + _CHECKSUM.size

    @classmethod
    def unpack(cls, raw: memoryview, slots_max: int) -> "Opening":
        """Read an opening of the size that `size` told.

        Raises:
            StreamCorrupt: its checksum is wrong, or it asks for more than `slots_max`.
        """
        summed = len(raw) - _CHECKSUM.size
        if _CHECKSUM.unpack_from(raw, summed)[0] != _sum(raw[:summed]):
            raise StreamCorrupt(reason="the opening's checksum is wrong")
        _, _, _, wants, slots, batch_bytes = _OPENING.unpack_from(raw)
        if slots > slots_max:
            raise StreamCorrupt(
                reason=f"the sender's page cache of {slots // SLOTS_PER_MIB} MiB is larger than this node's "
                f"encoding.dedupe_cache_mib of {slots_max // SLOTS_PER_MIB}; raise it here or lower it there"
            )
        if not 0 < batch_bytes <= STREAM_MAX_BYTES:
            raise StreamCorrupt(reason=f"batches of {batch_bytes} bytes announced")
        if wants & ~(WANTS_STORE | WANTS_FILES):
            raise StreamCorrupt(reason="an unknown wish in the opening")
        known = tuple(Known(*fields) for fields in _KNOWN.iter_unpack(raw[_OPENING.size : summed]))
        return cls(slots, batch_bytes, wants, known)


class BatchHeader(msgspec.Struct, frozen=True):
    """One batch: `stream_bytes` of QEMU's stream from `offset` on, in a body of `body_bytes`.

    `parts` are the sizes of the payload's parts before compression; `digest` is the xxh3-128 of QEMU's whole stream up
    to this batch's end; `check` is the keyed hash of the digests of the blocks that it refers to. A batch of kind
    `PAGES` has no bytes of the stream: it brings the pages of such blocks for the batch that begins at `offset`.
    """

    kind: int
    codec: int
    stream_bytes: int
    body_bytes: int
    parts: tuple[int, ...]
    offset: int
    digest: bytes
    check: bytes = NO_CHECK

    @property
    def payload_bytes(self) -> int:
        """Size of the payload before compression."""
        return sum(self.parts)

    def pack(self, *body: bytes | memoryview) -> bytes:
        """The batch's bytes, header and `body`, which may come in pieces."""
        head = _BATCH.pack(
            BATCH_MAGIC,
            self.kind,
            self.codec,
            self.stream_bytes,
            self.body_bytes,
            *self.parts,
            self.offset,
            self.digest,
            self.check,
        )
        return b"".join((head, _CHECKSUM.pack(_sum(head, *body)), *body))

    @classmethod
    def unpack(cls, raw: memoryview, opening: Opening, offset: int) -> "BatchHeader":
        """Read a header of `BATCH_HEADER_BYTES`; one of data or the end must continue the stream at `offset`.

        Raises:
            StreamCorrupt: a field is outside what this version and the opening allow.
        """
        magic, kind, codec, stream_bytes, body_bytes, *rest = _BATCH.unpack_from(raw)
        parts = tuple(rest[: lay.PARTS])
        header = cls(kind, codec, stream_bytes, body_bytes, parts, *rest[lay.PARTS :])
        if magic != BATCH_MAGIC or kind not in (DATA, FINAL, PAGES) or codec > CODEC_GO_ON:
            raise StreamCorrupt(reason="a batch does not begin as one")
        room = header._room(opening, offset)
        if header.payload_bytes > room or body_bytes > body_max(header.payload_bytes):
            raise StreamCorrupt(reason=f"a body of {body_bytes} bytes for {stream_bytes} of the stream")
        return header

    def _room(self, opening: Opening, offset: int) -> int:
        """The largest payload that a batch of this kind may have."""
        if self.kind == PAGES:
            size = self.parts[lay.PAGES]
            if self.stream_bytes or size == 0 or size % PAGE_BYTES or size != self.payload_bytes:
                raise StreamCorrupt(reason="pages that were missing come in an ill-formed batch")
            return opening.batch_bytes
        if self.offset != offset:
            raise StreamCorrupt(reason=f"a batch for byte {self.offset} came where byte {offset} is due")
        if self.kind == FINAL:
            if self.stream_bytes or self.body_bytes or self.codec != CODEC_NONE or self.check != NO_CHECK:
                raise StreamCorrupt(reason="the final batch is not empty")
            return 0
        if not 0 < self.stream_bytes <= opening.batch_bytes:
            raise StreamCorrupt(
                reason=f"a batch of {self.stream_bytes} bytes, {opening.batch_bytes} at most were announced"
            )
        # No batch needs more: an op, its operands and its data are never twice what they stand for.
        return 2 * self.stream_bytes + 64


def body_max(payload_bytes: int) -> int:
    """Bytes that a payload of that size takes at most: what can't be compressed grows a little."""
    return payload_bytes + payload_bytes // 256 + 64


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
