"""The decoder's engine: framed batches in, QEMU's stream out, or `StreamCorrupt` and no byte of the bad batch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xxhash

from actors.encoding import layout as lay
from actors.encoding.codec import Decompressor
from actors.encoding.format import (
    BATCH_HEADER_BYTES,
    FINAL,
    OPENING_HEAD_BYTES,
    SLOTS_PER_MIB,
    BatchHeader,
    ImageName,
    Opening,
    check_batch,
)
from actors.encoding.kernel import PAGE_BYTES, Bytes, Ints
from actors.encoding.pages import PageRing
from actors.encoding.rebuild import rebuild, take_blocks
from actors.errors import StreamCorrupt


class BlockReader(Protocol):
    """A disk image of this host that the sender may refer to."""

    @property
    def name(self) -> ImageName: ...
    def read(self, block: int, into: memoryview) -> bool:
        """Read the blocks from `block` on that fill `into`; False when the image no longer has all of them."""
        ...


class Decoder:
    """Decodes one stream. `want` bytes go into `room`, then `decode` is called; over and over until `finished`.

    Args:
        cache_mib: the largest page ring that the sender may ask for, MiB.
        images: those that the sender was told of.
    """

    def __init__(self, cache_mib: int, images: Sequence[BlockReader] = ()) -> None:
        self.stream_bytes = 0
        self.wire_bytes = 0
        self.finished = False
        self._slots_max = cache_mib * SLOTS_PER_MIB
        self._known = {image.name: image for image in images}
        self._images: list[BlockReader] = []
        self._opening: Opening | None = None
        self._header: BatchHeader | None = None
        self._ring: PageRing | None = None
        self._frame = bytearray(OPENING_HEAD_BYTES)
        self._have = 0
        self._want = OPENING_HEAD_BYTES
        self._out = np.empty(0, np.uint8)
        self._image_pages = np.empty(0, np.uint8)
        self._blocks = np.empty(0, np.int64)
        self._decompressor = Decompressor()
        self._digest = xxhash.xxh3_128()
        # Kept apart, since others may ask while the decoding thread updates the hash.
        self._digest_now = self._digest.digest()

    @property
    def digest(self) -> str:
        """xxh3-128 of all that was decoded, in hexadecimal digits."""
        return self._digest_now.hex()

    @property
    def memory_bytes(self) -> int:
        """Memory in use by the page ring and the buffers."""
        buffers = len(self._frame) + self._out.nbytes + self._image_pages.nbytes
        return (self._ring.touched_bytes if self._ring else 0) + buffers

    def room(self) -> memoryview:
        """Where the next bytes from the wire go; never more than the present piece of a frame needs.

        Raises:
            StreamCorrupt: the final batch has come, so nothing may follow.
        """
        if self.finished:
            raise StreamCorrupt(reason="bytes follow the final batch")
        return memoryview(self._frame)[self._have : self._want]

    def decode(self, size: int) -> memoryview:
        """Take note of the `size` bytes written to `room`; QEMU's bytes that they complete (valid until the next call).

        Raises:
            StreamCorrupt: a length, checksum, op or digest is wrong. The decoder is then of no further use.
        """
        self._have += size
        self.wire_bytes += size
        if self._have < self._want:
            return memoryview(b"")
        frame = memoryview(self._frame)[: self._want]
        if self._opening is None:
            self._want = Opening.size(frame)
            if self._have == self._want:
                self._open(frame)
            else:
                self._frame = self._frame.ljust(self._want)
        elif self._header is None:
            self._header = BatchHeader.unpack(frame, self._opening, self.stream_bytes)
            self._want += self._header.body_bytes
            if self._have == self._want:
                return self._batch(frame, self._header)
        else:
            return self._batch(frame, self._header)
        return memoryview(b"")

    def feed(self, data: bytes) -> bytes:
        """Decode `data`, however long; QEMU's bytes."""
        out = []
        view = memoryview(data)
        while view:
            room = self.room()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            out.append(bytes(self.decode(size)))
            view = view[size:]
        return b"".join(out)

    def end(self) -> None:
        """The wire has ended.

        Raises:
            StreamCorrupt: before the final batch.
        """
        if not self.finished:
            raise StreamCorrupt(reason=f"it ended after {self.stream_bytes} bytes without a final batch")

    def _open(self, frame: memoryview) -> None:
        self._opening = opening = Opening.unpack(frame, self._slots_max)
        self._ring = PageRing.of(max(1, opening.slots))
        self._frame = bytearray(BATCH_HEADER_BYTES + 2 * opening.batch_bytes + 64)
        self._out = np.empty(opening.batch_bytes, np.uint8)
        for name in opening.images:
            if name not in self._known:
                raise StreamCorrupt(reason="it refers to a disk image that this node did not offer")
            self._images.append(self._known[name])
        if self._images:
            self._blocks = np.empty(opening.batch_bytes // PAGE_BYTES, np.int64)
            self._image_pages = np.empty(len(self._blocks) * PAGE_BYTES, np.uint8)
        self._expect_header()

    def _expect_header(self) -> None:
        self._header = None
        self._have = 0
        self._want = BATCH_HEADER_BYTES

    def _batch(self, frame: memoryview, header: BatchHeader) -> memoryview:
        check_batch(frame)
        out = self._out[: header.stream_bytes]
        if header.kind != FINAL:
            self._rebuild(frame[BATCH_HEADER_BYTES:], header, out)
        self._digest.update(out.data)
        digest = self._digest.digest()
        if digest != header.digest:
            raise StreamCorrupt(reason=f"after byte {self.stream_bytes} the rebuilt stream differs from the sender's")
        self._digest_now = digest
        self.stream_bytes += header.stream_bytes
        self.finished = header.kind == FINAL
        self._expect_header()
        return out.data

    def _rebuild(self, body: memoryview, header: BatchHeader, out: Bytes) -> None:
        assert self._opening is not None and self._ring is not None, "batches come after the opening"
        payload = self._decompressor.decompress(header.codec, body, header.payload_bytes)
        sizes = np.array(header.parts, np.int64)
        ends = np.cumsum(sizes)
        starts = ends - sizes
        array = np.frombuffer(payload, np.uint8)
        pages = self._read_blocks(array, int(starts[lay.BLOCKS]), int(ends[lay.BLOCKS]))
        failed = rebuild(array, starts, ends, self._ring, self._opening.slots > 0, pages, out)
        if failed:
            raise StreamCorrupt(reason=f"a batch's ops contradict each other (check {failed})")

    def _read_blocks(self, payload: Bytes, start: int, end: int) -> Bytes:
        """The pages of the blocks that a batch refers to, read from the images: neighbours at once."""
        blocks = sum(image.name.blocks for image in self._images)
        count = take_blocks(payload, start, end, blocks, self._blocks)
        if count < 0:
            raise StreamCorrupt(reason="a batch refers to a block that no image has")
        pages = self._image_pages[: count * PAGE_BYTES]
        first = 0
        for image in self._images:
            self._read_from(image, first, self._blocks[:count], pages)
            first += image.name.blocks
        return pages

    @staticmethod
    def _read_from(image: BlockReader, first: int, blocks: Ints, pages: Bytes) -> None:
        """Read those of `blocks` that lie in `image`, which begins with number `first`, to their places in `pages`."""
        ours = np.flatnonzero((blocks >= first) & (blocks < first + image.name.blocks))
        runs = np.split(ours, np.flatnonzero((np.diff(ours) != 1) | (np.diff(blocks[ours]) != 1)) + 1)
        for run in runs:
            if len(run) and not image.read(
                int(blocks[run[0]]) - first, pages.data[run[0] * PAGE_BYTES : (run[-1] + 1) * PAGE_BYTES]
            ):
                raise StreamCorrupt(reason="a disk image became shorter while a move read it")


def warm_up() -> None:
    """Compile or load every kernel of the decoder, so that no job waits for it."""
    ring = PageRing.of(1)
    parts = np.zeros(lay.PARTS, np.int64)
    payload, out = np.frombuffer(b"", np.uint8), np.empty(0, np.uint8)
    take_blocks(payload, 0, 0, 0, np.empty(0, np.int64))
    rebuild(payload, parts, parts, ring, True, out, out)
