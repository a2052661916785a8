"""The decoder's engine: framed batches in, QEMU's stream out, or `StreamCorrupt` and no byte of the bad batch."""

import numpy as np
import xxhash

from actors.encoding import layout as lay
from actors.encoding.codec import Decompressor
from actors.encoding.format import (
    BATCH_HEADER_BYTES,
    FINAL,
    OPENING_BYTES,
    SLOTS_PER_MIB,
    BatchHeader,
    Opening,
    check_batch,
)
from actors.encoding.kernel import Bytes
from actors.encoding.pages import PageRing
from actors.encoding.rebuild import rebuild
from actors.errors import StreamCorrupt


class Decoder:
    """Decodes one stream. `want` bytes go into `room`, then `decode` is called; over and over until `finished`.

    Args:
        cache_mib: the largest page ring that the sender may ask for, MiB.
    """

    def __init__(self, cache_mib: int) -> None:
        self.stream_bytes = 0
        self.wire_bytes = 0
        self.finished = False
        self._slots_max = cache_mib * SLOTS_PER_MIB
        self._opening: Opening | None = None
        self._header: BatchHeader | None = None
        self._ring: PageRing | None = None
        self._frame = bytearray(max(OPENING_BYTES, BATCH_HEADER_BYTES))
        self._have = 0
        self._want = OPENING_BYTES
        self._out = np.empty(0, np.uint8)
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
        return (self._ring.touched_bytes if self._ring else 0) + len(self._frame) + self._out.nbytes

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
            self._open(frame)
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
        failed = rebuild(
            np.frombuffer(payload, np.uint8),
            ends - sizes,
            ends,
            self._ring,
            self._opening.slots > 0,
            out,
        )
        if failed:
            raise StreamCorrupt(reason=f"a batch's ops contradict each other (check {failed})")


def warm_up() -> None:
    """Compile or load every kernel of the decoder, so that no job waits for it."""
    ring = PageRing.of(1)
    parts = np.zeros(lay.PARTS, np.int64)
    rebuild(np.frombuffer(b"", np.uint8), parts, parts, ring, True, np.empty(0, np.uint8))
