"""The encoder's engine: QEMU's migration stream in, framed batches out. No sockets, no threads, no clock of its own."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import xxhash

from actors.encoding import condense as con
from actors.encoding import layout as lay
from actors.encoding.blocks import NO_BLOCK, BlockIndex, find_blocks
from actors.encoding.codec import Compressor
from actors.encoding.format import CODEC_NONE, DATA, FINAL, SLOTS_PER_MIB, BatchHeader, ImageName, Opening
from actors.encoding.kernel import PAGE_BYTES
from actors.encoding.messages import LayerCount
from actors.encoding.pages import PageIndex, PageRing
from actors.encoding.parser import UNPARSED_MAX_BYTES, StreamParser
from actors.encoding.records import HEADER_BYTES, PAGE_RECORD_BYTES, ZERO_RECORD_BYTES, Records


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which layers run and how large they may grow; the fields are those of the configuration's `encoding`."""

    zero: bool = True
    dedupe: bool = True
    delta: bool = True
    zstd: bool = True
    dedupe_cache_mib: int = 128
    batch_bytes: int = 1 << 20

    @property
    def slots(self) -> int:
        """Pages in the ring."""
        return self.dedupe_cache_mib * SLOTS_PER_MIB if self.dedupe or self.delta else 0


class IndexedImage(msgspec.Struct, frozen=True):
    """A disk image that both hosts have, ready to be searched."""

    name: ImageName
    index: BlockIndex


class Tally:
    """A `LayerCount` that grows."""

    def __init__(self) -> None:
        self.pages = self.bytes_in = self.bytes_out = 0
        self.cpu_s = 0.0

    def add(self, pages: int, bytes_in: int, bytes_out: int) -> None:
        """Add one batch."""
        self.pages += pages
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def count(self) -> LayerCount:
        """The sums so far."""
        return LayerCount(pages=self.pages, bytes_in=self.bytes_in, bytes_out=self.bytes_out, cpu_s=self.cpu_s)


class Encoder:
    """Encodes one stream. Bytes are written into `room` and then announced with `encode`, so none is copied twice.

    Args:
        settings: layers and bounds.
        clock: CPU seconds of the calling thread, for the layers' accounts.
        images: those that the decoder has too, `IMAGES_MAX` at most.

    `level` is the zstd level of the next batch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float], images: Sequence[IndexedImage] = ()) -> None:
        self.settings = settings
        self.level = 3
        self.stream_bytes = 0
        self.wire_bytes = 0
        self.layers = {name: Tally() for name in ("zero", "image", "dedupe", "delta", "zstd", "passthrough")}
        self._clock = clock
        batch_max = settings.batch_bytes + UNPARSED_MAX_BYTES
        self._buffer = np.empty(batch_max, np.uint8)
        self._end = 0
        self._sent = 0
        self._parser = StreamParser()
        self._found = Records(batch_max)
        self._ring = PageRing.of(max(1, settings.slots))
        self._index = PageIndex.of(max(1, settings.slots))
        self._parts = lay.Parts(batch_max)
        self._counts = np.zeros(lay.OPS_KNOWN, np.int64)
        self._layers_on = con.LayersOn(settings.zero, settings.dedupe, settings.delta)
        self._compressor = Compressor()
        self._digest = xxhash.xxh3_128()
        # Kept apart, since others may ask while the encoding thread updates the hash.
        self._digest_now = self._digest.digest()
        self._images = list(images)
        self._blocks = np.empty(len(self._found.offsets) if images else 0, np.int64)
        self._opening = Opening(settings.slots, batch_max, tuple(image.name for image in images))
        self._opened = False

    @property
    def held_bytes(self) -> int:
        """Bytes taken that no batch carries yet: the beginning of a record. `encode` with `flush` sends them."""
        return self._end - self._sent

    @property
    def rounds(self) -> int:
        """How often the page addresses started over."""
        return self._parser.rounds

    @property
    def digest(self) -> str:
        """xxh3-128 of all that was encoded, in hexadecimal digits."""
        return self._digest_now.hex()

    @property
    def memory_bytes(self) -> int:
        """Memory in use by the page ring, the indexes and the batch's buffers; not the images' own pages."""
        index = self._index
        tables = [index.by_content, index.by_address, index.content, index.owner]
        tables += [image.index.table for image in self._images]
        buffers = [*self._parts.arrays, self._buffer]
        held_bytes = sum(table.nbytes for table in tables) + sum(buffer.nbytes for buffer in buffers)
        return self._ring.touched_bytes + held_bytes + self._blocks.nbytes

    def room(self, limit: int) -> memoryview:
        """Where the next bytes of the stream go: at most `limit` of them, at most `batch_bytes`."""
        return self._buffer.data[self._end : self._end + min(limit, self.settings.batch_bytes)]

    def encode(self, size: int, *, flush: bool = False) -> bytes:
        """Encode the `size` bytes written to `room`; the frame, or b"" when all belongs to an unfinished record.

        With `flush` an unfinished record is sent too, as far as it came.
        """
        self._end += size
        before_s = self._clock()
        parsed = self._parser.parse(self._buffer, self._end, self._found)
        parsed_s = self._clock()
        self.layers["zero"].cpu_s += parsed_s - before_s
        until = self._end if flush else parsed
        frame = b""
        if until > self._sent:
            self._search()
            searched_s = self._clock()
            self.layers["image"].cpu_s += searched_s - parsed_s
            self._condense(until)
            self.layers["dedupe"].cpu_s += self._clock() - searched_s
            frame = self._frame(self._buffer.data[self._sent : until])
        # What was not parsed stays for the parser, also where it has already been sent.
        rest = self._end - parsed
        self._buffer[:rest] = self._buffer[parsed : self._end]
        self._sent = max(until, self._sent) - parsed
        self._end = rest
        return frame

    def finish(self) -> bytes:
        """The rest of the stream and the final batch. Nothing may follow."""
        rest = self.encode(0, flush=True)
        header = BatchHeader(FINAL, CODEC_NONE, 0, 0, (0,) * lay.PARTS, self.stream_bytes, self._digest_now)
        return rest + self._opened_with(header.pack(b""))

    def feed(self, data: bytes) -> bytes:
        """Encode `data`, however long; the frames."""
        frames = []
        view = memoryview(data)
        while view:
            room = self.room(len(view))
            room[:] = view[: len(room)]
            frames.append(self.encode(len(room)))
            view = view[len(room) :]
        return b"".join(frames)

    def _search(self) -> None:
        """Look for the batch's pages in the images."""
        found, first = self._found, 0
        blocks = self._blocks[: found.count]
        blocks[:] = NO_BLOCK
        for image in self._images:
            find_blocks(self._buffer, self._sent, found.offsets[: found.count], found.kinds, image.index, first, blocks)
            first += image.name.blocks

    def _condense(self, until: int) -> None:
        found = self._found
        con.condense(
            self._buffer,
            self._sent,
            until,
            found.offsets[: found.count],
            found.kinds,
            found.keys,
            self._layers_on,
            self._ring,
            self._index,
            self._parts.arrays,
            self._parts.sizes,
            self._counts,
            self._blocks,
        )

    def _frame(self, piece: memoryview) -> bytes:
        parts = self._parts.used()
        payload = b"".join(parts)
        codec, body = CODEC_NONE, payload
        if self.settings.zstd:
            before_s = self._clock()
            codec, body = self._compressor.compress(payload, self.level)
            self.layers["zstd"].cpu_s += self._clock() - before_s
        before_s = self._clock()
        self._digest.update(piece)
        self._digest_now = self._digest.digest()
        sizes = tuple(self._parts.sizes.tolist())
        header = BatchHeader(DATA, codec, len(piece), len(body), sizes, self.stream_bytes, self._digest_now)
        self.stream_bytes += len(piece)
        frame = self._opened_with(header.pack(body))
        self.layers["passthrough"].cpu_s += self._clock() - before_s
        self._account(sizes, len(payload), len(body))
        return frame

    def _opened_with(self, frame: bytes) -> bytes:
        if not self._opened:
            self._opened = True
            frame = self._opening.pack() + frame
        self.wire_bytes += len(frame)
        return frame

    def _account(self, sizes: tuple[int, ...], payload_bytes: int, body_bytes: int) -> None:
        counts: list[int] = self._counts.tolist()
        zero_records, zero_pages = counts[lay.OP_ZERO_RECORD], counts[lay.OP_ZERO_PAGE]
        references, literals = counts[lay.OP_REFERENCE], counts[lay.OP_LITERAL]
        deltas = counts[lay.OP_DELTA] + counts[lay.OP_FORK]
        plain_bytes = sizes[lay.RAW]
        self.layers["zero"].add(
            zero_records + zero_pages,
            zero_records * ZERO_RECORD_BYTES + zero_pages * PAGE_RECORD_BYTES,
            zero_records + zero_pages,
        )
        blocks = counts[lay.OP_IMAGE]
        self.layers["image"].add(blocks, blocks * PAGE_RECORD_BYTES, blocks + sizes[lay.BLOCKS])
        self.layers["dedupe"].add(references, references * PAGE_RECORD_BYTES, references)
        self.layers["delta"].add(deltas, deltas * PAGE_RECORD_BYTES, sizes[lay.MASKS] + sizes[lay.WORDS])
        if self.settings.zstd:
            self.layers["zstd"].add(literals, payload_bytes, body_bytes)
            self.layers["passthrough"].add(0, plain_bytes, plain_bytes)
        else:
            plain_bytes += literals * PAGE_BYTES
            self.layers["passthrough"].add(literals, plain_bytes, plain_bytes)


def warm_up() -> None:
    """Compile or load every kernel of the encoder, so that no job waits for it."""
    # Read-only like a mapped image: the machine code is for that.
    blocks = np.frombuffer(bytes(PAGE_BYTES), np.uint64).reshape(1, -1)
    image = IndexedImage(ImageName(bytes(32), 1), BlockIndex.of(blocks))
    encoder = Encoder(Settings(dedupe_cache_mib=1, batch_bytes=65536), lambda: 0.0, [image])
    records = (0x28).to_bytes(HEADER_BYTES, "big") + bytes(range(256)) * 16
    head = b"QEVM\0\0\0\3\1\0\0\0\1\3ram" + bytes(8)
    encoder.feed(head + 2 * records)
    encoder.finish()
