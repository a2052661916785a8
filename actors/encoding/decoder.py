"""The decoder's engine: framed batches in, QEMU's stream out, or `StreamCorrupt` and no byte of the bad batch."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import xxhash

from actors.encoding import layout as lay
from actors.encoding.codec import Decompressor
from actors.encoding.fetch import fetch_blocks
from actors.encoding.format import (
    BATCH_HEADER_BYTES,
    FINAL,
    NO_CHECK,
    OPENING_HEAD_BYTES,
    PAGES,
    SLOTS_PER_MIB,
    BatchHeader,
    Opening,
    body_max,
    check_batch,
)
from actors.encoding.kernel import PAGE_BYTES, Bytes, Ints, Words
from actors.encoding.keyed import DIGEST_WORDS, KEY_BYTES
from actors.encoding.pages import PageRing
from actors.encoding.rebuild import rebuild, take_blocks
from actors.encoding.reverse import BLOCKS_MAX, Done, Message, Need
from actors.encoding.shelf import Shelf
from actors.errors import StreamCorrupt

# Frames that came behind a batch whose pages were asked for again: what the encoder has under way at most, and more.
QUEUE_MAX_BYTES = 128 << 20


class _Parts:
    """A batch's payload and where its parts lie in it."""

    def __init__(self, header: BatchHeader, payload: Bytes) -> None:
        self.header = header
        self.payload = payload
        sizes = np.array(header.parts, np.int64)
        self.ends: Ints = np.cumsum(sizes)
        self.starts: Ints = self.ends - sizes


class _Waiting:
    """A batch with blocks that are not here: asked for."""

    def __init__(self, parts: _Parts, count: int, places: Ints) -> None:
        self.parts = parts
        self.count = count
        self.places = places


class Decoder:
    """Decodes one stream. `want` bytes go into `room`, then `decode` is called; over and over until `finished`.

    What is to be sent back gathers in `replies`.

    Args:
        cache_mib: the largest page ring that the sender may ask for, MiB.
        shelf: the blocks that the sender may refer to.
    """

    def __init__(self, cache_mib: int, shelf: Shelf | None = None) -> None:
        self.stream_bytes = 0
        self.wire_bytes = 0
        self.finished = False
        self.replies: deque[Message] = deque()
        self._slots_max = cache_mib * SLOTS_PER_MIB
        self._shelf = shelf or Shelf(bytes(KEY_BYTES))
        self._opening: Opening | None = None
        self._header: BatchHeader | None = None
        self._ring: PageRing | None = None
        self._frame = bytearray(OPENING_HEAD_BYTES)
        self._have = 0
        self._want = OPENING_HEAD_BYTES
        # Where the next batch on the wire begins; behind it are those that wait.
        self._due = 0
        self._ended = False
        self._waiting: _Waiting | None = None
        self._queue: deque[tuple[BatchHeader, bytes]] = deque()
        self._queue_bytes = 0
        self._out = np.empty(0, np.uint8)
        self._block_pages = np.empty(0, np.uint8)
        self._block_digests: Words = np.empty((0, DIGEST_WORDS), np.uint64)
        self._blocks = np.empty(0, np.int64)
        self._decompressor = Decompressor()
        self._digest = xxhash.xxh3_128()
        # Kept apart, since others may ask while the decoding thread updates the hash.
        self._digest_now = self._digest.digest()

    @property
    def ring(self) -> PageRing | None:
        """The page ring, None without one."""
        return self._ring if self._opening and self._opening.slots else None

    @property
    def digest(self) -> str:
        """xxh3-128 of all that was decoded, in hexadecimal digits."""
        return self._digest_now.hex()

    @property
    def memory_bytes(self) -> int:
        """Memory in use by the page ring, the buffers, the prints that were told and the frames that wait."""
        buffers = len(self._frame) + self._out.nbytes + self._block_pages.nbytes + self._shelf.memory_bytes
        return (self._ring.touched_bytes if self._ring else 0) + buffers + self._queue_bytes

    def room(self) -> memoryview:
        """Where the next bytes from the wire go; never more than the present piece of a frame needs.

        Raises:
            StreamCorrupt: the final batch has come, so nothing may follow.
        """
        if self._ended and self._waiting is None:
            raise StreamCorrupt(reason="bytes follow the final batch")
        return memoryview(self._frame)[self._have : self._want]

    def decode(self, size: int) -> Iterator[memoryview]:
        """Take note of the `size` bytes written to `room`; QEMU's bytes that they complete, batch by batch.

        Each piece is valid until the next one is asked for, and all must be.

        Raises:
            StreamCorrupt: a length, checksum, op or digest is wrong. The decoder is then of no further use.
        """
        self._have += size
        self.wire_bytes += size
        if self._have < self._want:
            return
        frame = memoryview(self._frame)[: self._want]
        if self._opening is None:
            self._want = Opening.size(frame)
            if self._have == self._want:
                self._open(frame)
            else:
                self._frame = self._frame.ljust(self._want)
            return
        if self._header is None:
            self._header = BatchHeader.unpack(frame, self._opening, self._due)
            self._want += self._header.body_bytes
            if self._have < self._want:
                return
            frame = memoryview(self._frame)[: self._want]
        yield from self._batch(frame, self._header)
        self._expect_header()

    def feed(self, data: bytes) -> bytes:
        """Decode `data`, however long; QEMU's bytes."""
        out = []
        view = memoryview(data)
        while view:
            room = self.room()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            out += [bytes(piece) for piece in self.decode(size)]
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
        self._frame = bytearray(BATCH_HEADER_BYTES + body_max(2 * opening.batch_bytes + 64))
        self._out = np.empty(opening.batch_bytes, np.uint8)
        self._blocks = np.empty(opening.batch_bytes // PAGE_BYTES, np.int64)
        self._block_pages = np.empty(len(self._blocks) * PAGE_BYTES, np.uint8)
        self._block_digests = np.empty((len(self._blocks), DIGEST_WORDS), np.uint64)
        self.replies += self._shelf.tell(opening)
        self._expect_header()

    def _expect_header(self) -> None:
        self._header = None
        self._have = 0
        self._want = BATCH_HEADER_BYTES

    def _batch(self, frame: memoryview, header: BatchHeader) -> Iterator[memoryview]:
        check_batch(frame)
        body = frame[BATCH_HEADER_BYTES:]
        if header.kind == PAGES:
            yield self._supply(header, body)
            while self._queue and self._waiting is None:
                header, kept = self._queue.popleft()
                self._queue_bytes -= len(kept)
                yield from self._next(header, memoryview(kept))
            return
        if self._ended:
            raise StreamCorrupt(reason="bytes follow the final batch")
        self._due += header.stream_bytes
        self._ended = header.kind == FINAL
        if self._waiting is None:
            yield from self._next(header, body)
            return
        self._queue.append((header, bytes(body)))
        self._queue_bytes += len(body)
        if self._queue_bytes > QUEUE_MAX_BYTES:
            raise StreamCorrupt(reason="too much came instead of the pages that were asked for")

    def _next(self, header: BatchHeader, body: memoryview) -> Iterator[memoryview]:
        """The batch that is next in the stream, unless blocks that it refers to are not here: those are asked for."""
        if header.kind == FINAL:
            self._advance(header, self._out[:0])
            self.finished = True
            return
        payload = self._decompressor.decompress(header.codec, body, header.payload_bytes)
        parts = _Parts(header, np.frombuffer(payload, np.uint8))
        count = self._take_blocks(parts)
        if count:
            missing = self._fetch(header, count)
            if len(missing):
                # The payload may lie in the frame's buffer, which is about to be used again.
                parts.payload = parts.payload.copy()
                self._waiting = _Waiting(parts, count, missing)
                places = () if len(missing) == count else tuple(missing.tolist())
                self.replies.append(Need(header.offset, places))
                return
        elif header.check != NO_CHECK:
            raise StreamCorrupt(reason="a batch without blocks has a check of blocks")
        yield self._finish(parts, count)

    def _fetch(self, header: BatchHeader, count: int) -> Ints:
        """Read the batch's blocks; the places of those that are missing."""
        numbers, digests = self._blocks[:count], self._block_digests[:count]
        missing = self._shelf.fetch(numbers, self._block_pages[: count * PAGE_BYTES], digests)
        if len(missing) == 0 and self._shelf.check(digests) != header.check:
            # A print has 48 bits: some block has the same one as the block that is meant. Which, nobody knows.
            return np.arange(count)
        return missing

    def _supply(self, header: BatchHeader, body: memoryview) -> memoryview:
        """The waiting batch, now that the pages that were asked for have come."""
        waiting = self._waiting
        if waiting is None or header.offset != waiting.parts.header.offset:
            raise StreamCorrupt(reason="pages came that nobody asked for")
        size = header.parts[lay.PAGES]
        if size != len(waiting.places) * PAGE_BYTES:
            raise StreamCorrupt(reason=f"{size} bytes of pages came, {len(waiting.places)} pages were asked for")
        # A frame of its own: these pages come out of turn.
        payload = np.frombuffer(Decompressor().decompress(header.codec, body, size), np.uint8)
        pages = self._block_pages[: waiting.count * PAGE_BYTES]
        pages.reshape(-1, PAGE_BYTES)[waiting.places] = payload.reshape(-1, PAGE_BYTES)
        digests = self._block_digests[: waiting.count]
        self._shelf.digest(pages, digests)
        if self._shelf.check(digests) != waiting.parts.header.check:
            raise StreamCorrupt(reason="the pages that were asked for are not those that the batch refers to")
        self._waiting = None
        return self._finish(waiting.parts, waiting.count)

    def _finish(self, parts: _Parts, count: int) -> memoryview:
        """Rebuild a batch whose blocks are all here."""
        assert self._opening is not None and self._ring is not None, "batches come after the opening"
        out = self._out[: parts.header.stream_bytes]
        pages = self._block_pages[: count * PAGE_BYTES]
        keeps = self._opening.slots > 0
        failed = rebuild(parts.payload, parts.starts, parts.ends, self._ring, keeps, pages, out)
        if failed:
            raise StreamCorrupt(reason=f"a batch's ops contradict each other (check {failed})")
        self._advance(parts.header, out)
        if count:
            self.replies.append(Done(self.stream_bytes))
        return out.data

    def _advance(self, header: BatchHeader, out: Bytes) -> None:
        self._digest.update(out.data)
        digest = self._digest.digest()
        if digest != header.digest:
            raise StreamCorrupt(reason=f"after byte {self.stream_bytes} the rebuilt stream differs from the sender's")
        self._digest_now = digest
        self.stream_bytes += header.stream_bytes

    def _take_blocks(self, parts: _Parts) -> int:
        """Read the numbers of the blocks that a batch refers to; how many."""
        start, end = int(parts.starts[lay.BLOCKS]), int(parts.ends[lay.BLOCKS])
        count = take_blocks(parts.payload, start, end, BLOCKS_MAX, self._blocks)
        if count < 0:
            raise StreamCorrupt(reason="a batch refers to a block that can't be")
        return count


def warm_up() -> None:
    """Compile or load every kernel of the decoder, so that no job waits for it."""
    ring = PageRing.of(1)
    parts = np.zeros(lay.PARTS, np.int64)
    payload, out = np.frombuffer(b"", np.uint8), np.empty(0, np.uint8)
    take_blocks(payload, 0, 0, 0, np.empty(0, np.int64))
    rebuild(payload, parts, parts, ring, True, out, out)
    shelf, digests = Shelf(bytes(KEY_BYTES)), np.empty((1, DIGEST_WORDS), np.uint64)
    shelf.digest(np.zeros(PAGE_BYTES, np.uint8), digests)
    shelf.check(digests)
    fetch_blocks(-1, np.empty(0, np.int64), np.empty(0, np.int64), out)
