"""The encoder's engine: QEMU's migration stream in, framed batches out. No sockets, no threads, no clock of its own."""

from collections.abc import Callable

import msgspec
import numpy as np
import xxhash

from actors.encoding import condense as con
from actors.encoding import layout as lay
from actors.encoding.codec import WINDOW_LOG, Compressor
from actors.encoding.far import Acquaintances, FarStore
from actors.encoding.find import NO_BLOCK, Finds
from actors.encoding.format import (
    CODEC_NONE,
    DATA,
    FINAL,
    NO_CHECK,
    PAGES,
    SLOTS_PER_MIB,
    WANTS_FILES,
    WANTS_STORE,
    BatchHeader,
    Opening,
)
from actors.encoding.kernel import PAGE_BYTES
from actors.encoding.keyed import DIGEST_WORDS, sip128
from actors.encoding.messages import LayerCount
from actors.encoding.noise import noisy_pages
from actors.encoding.pages import PageIndex, PageRing
from actors.encoding.parser import UNPARSED_MAX_BYTES, Parser, StreamParser
from actors.encoding.records import HEADER_BYTES, PAGE_RECORD_BYTES, ZERO_RECORD_BYTES, Records
from actors.encoding.reverse import Need, Prints, Source, Sources
from actors.encoding.window import Held, Window

# A batch with at least so much noise goes past zstd.
NOISE_SHARE = 0.9


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Which layers run and how large they may grow; the fields are those of the configuration's `encoding`,
    and of zstd's window the binary logarithm.
    """

    zero: bool = True
    store: bool = True
    files: bool = True
    dedupe: bool = True
    delta: bool = True
    zstd: bool = True
    dedupe_cache_mib: int = 128
    batch_bytes: int = 1 << 20
    window_log: int = WINDOW_LOG

    @property
    def slots(self) -> int:
        """Pages in the ring."""
        return self.dedupe_cache_mib * SLOTS_PER_MIB if self.dedupe or self.delta else 0


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
        acquaintances: what is remembered of other nodes' stores.
        parser: of the stream; None: that of QEMU's migration.

    `level` is the zstd level of the next batch. `far` is to be told what comes back, `window` when a
    batch is done; `missed` counts the pages that the far side turned out not to have.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        acquaintances: Acquaintances | None = None,
        parser: Parser | None = None,
    ) -> None:
        self.settings = settings
        self.level = 3
        self.stream_bytes = 0
        self.missed = 0
        # Two threads write frames: each counts its own.
        self._framed_bytes = self._missed_bytes = 0
        self.layers = {name: Tally() for name in ("zero", "store", "dedupe", "delta", "zstd", "passthrough")}
        self._clock = clock
        batch_max = settings.batch_bytes + UNPARSED_MAX_BYTES
        self._buffer = np.empty(batch_max, np.uint8)
        self._end = 0
        self._sent = 0
        self._parser: Parser = parser or StreamParser()
        self._found = Records(batch_max)
        self._ring = PageRing.of(max(1, settings.slots))
        self._index = PageIndex.of(max(1, settings.slots))
        self._parts = lay.Parts(batch_max)
        self._counts = np.zeros(lay.OPS_KNOWN, np.int64)
        self._layers_on = con.LayersOn(settings.zero, settings.dedupe, settings.delta)
        self._compressor = Compressor(settings.window_log)
        self._digest = xxhash.xxh3_128()
        # Kept apart, since others may ask while the encoding thread updates the hash.
        self._digest_now = self._digest.digest()
        self.far = FarStore(acquaintances or Acquaintances())
        self.window = Window()
        self._numbers = np.empty(0, np.int64)
        self._finds = Finds.of(0)
        wants = (WANTS_STORE if settings.store else 0) | (WANTS_FILES if settings.files else 0)
        self._opening = Opening(settings.slots, batch_max, wants, self.far.known if wants else ())

    @property
    def ring(self) -> PageRing | None:
        """The page ring, None without one."""
        return self._ring if self.settings.slots else None

    @property
    def held_bytes(self) -> int:
        """Bytes taken that no batch carries yet: the beginning of a record. `encode` with `flush` sends them."""
        return self._end - self._sent

    @property
    def wire_bytes(self) -> int:
        """Bytes of all frames."""
        return self._framed_bytes + self._missed_bytes

    @property
    def found_pages(self) -> bool:
        """Whether the last `encode` met guest pages."""
        return self._found.count > 0

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
        """Memory in use by the page ring, the indexes, the batch's buffers and the pages kept for the far side."""
        index = self._index
        tables = [index.by_content, index.by_address, index.content, index.owner]
        buffers = [*self._parts.arrays, self._buffer]
        held_bytes = sum(table.nbytes for table in tables) + sum(buffer.nbytes for buffer in buffers)
        return self._ring.touched_bytes + held_bytes + self.far.memory_bytes + self.window.held_bytes

    def open(self) -> bytes:
        """The opening: the first bytes on the wire."""
        opening = self._opening.pack()
        self._framed_bytes += len(opening)
        return opening

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
            finds = self._search()
            searched_s = self._clock()
            self.layers["store"].cpu_s += searched_s - parsed_s
            self._condense(until)
            self.layers["dedupe"].cpu_s += self._clock() - searched_s
            frame = self._frame(self._buffer.data[self._sent : until], finds)
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
        final = header.pack(b"")
        self._framed_bytes += len(final)
        return rest + final

    def missing(self, need: Need) -> bytes:
        """The frame with the pages that the far side turned out not to have. For the thread that reads what comes back.

        Raises:
            StreamCorrupt: it can't have been referred to them.
        """
        numbers, pages = self.window.needed(need)
        self.far.miss(numbers)
        payload = pages.tobytes()
        codec, body = Compressor().compress(payload, 1) if self.settings.zstd else (CODEC_NONE, payload)
        parts = [0] * lay.PARTS
        parts[lay.PAGES] = len(payload)
        frame = BatchHeader(PAGES, codec, 0, len(body), tuple(parts), need.offset, bytes(16)).pack(body)
        self._missed_bytes += len(frame)
        self.missed += len(numbers)
        return frame

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

    def _search(self) -> int:
        """Look for the batch's pages among the far side's blocks; how many were found."""
        if not self.far.on:
            self._numbers = self._numbers[:0]
            return 0
        if not len(self._finds.pages):
            self._finds = Finds.of(len(self._buffer) // PAGE_BYTES + 1)
        self._numbers = np.empty(self._found.count, np.int64)
        return self.far.find(self._buffer, self._sent, self._found, self._numbers, self._finds)

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
            self._numbers,
        )

    def _frame(self, piece: memoryview, finds: int) -> bytes:
        parts = self._parts.used()
        payload_bytes = int(self._parts.sizes.sum())
        codec, body = CODEC_NONE, parts
        before_s = self._clock()
        if self.settings.zstd and self.level > 0 and not self._is_noise(payload_bytes):
            codec, pressed = self._compressor.compress(b"".join(parts), self.level)
            body = [memoryview(pressed)]
            self.layers["zstd"].cpu_s += self._clock() - before_s
            before_s = self._clock()
        self._digest.update(piece)
        self._digest_now = self._digest.digest()
        sizes = tuple(self._parts.sizes.tolist())
        check = self._hold(len(piece), finds) if finds else NO_CHECK
        body_bytes = sum(len(part) for part in body)
        header = BatchHeader(DATA, codec, len(piece), body_bytes, sizes, self.stream_bytes, self._digest_now, check)
        self.stream_bytes += len(piece)
        frame = header.pack(*body)
        self._framed_bytes += len(frame)
        self.layers["passthrough"].cpu_s += self._clock() - before_s
        self._account(sizes, payload_bytes, body_bytes, pressed=codec != CODEC_NONE)
        return frame

    def _is_noise(self, payload_bytes: int) -> bool:
        """Whether so much of the payload are pages that can't be compressed that it is not worth trying."""
        pages = self._parts.arrays[lay.PAGES][: self._parts.sizes[lay.PAGES]]
        return noisy_pages(pages) * PAGE_BYTES > NOISE_SHARE * payload_bytes

    def _hold(self, size: int, finds: int) -> bytes:
        """Keep the pages that the batch refers to until the far side has them; the keyed hash of their digests."""
        numbers = self._numbers[self._numbers != NO_BLOCK]
        pages = self._finds.pages[:finds].copy()
        self.window.hold(Held(self.stream_bytes, self.stream_bytes + size, numbers, pages))
        check = np.empty(DIGEST_WORDS, np.uint64)
        sip128(self._finds.digests[:finds].reshape(-1), self.far.key, check)
        return check.tobytes()

    def _account(self, sizes: tuple[int, ...], payload_bytes: int, body_bytes: int, *, pressed: bool) -> None:
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
        blocks = counts[lay.OP_STORE]
        self.layers["store"].add(blocks, blocks * PAGE_RECORD_BYTES, blocks + sizes[lay.BLOCKS])
        self.layers["dedupe"].add(references, references * PAGE_RECORD_BYTES, references)
        self.layers["delta"].add(deltas, deltas * PAGE_RECORD_BYTES, sizes[lay.MASKS] + sizes[lay.WORDS])
        if pressed:
            self.layers["zstd"].add(literals, payload_bytes, body_bytes)
            self.layers["passthrough"].add(0, plain_bytes, plain_bytes)
        else:
            plain_bytes += literals * PAGE_BYTES
            self.layers["passthrough"].add(literals, plain_bytes, plain_bytes)


def warm_up() -> None:
    """Compile or load every kernel of the encoder, so that no job waits for it."""
    encoder = Encoder(Settings(dedupe_cache_mib=1, batch_bytes=65536), lambda: 0.0)
    encoder.far.meet(Sources(bytes(16), (Source(bytes(16), 1, 0, 1),)))
    encoder.far.learn(Prints(0, np.ones(1, np.uint64)))
    encoder.far.ready()
    records = (0x28).to_bytes(HEADER_BYTES, "big") + bytes(range(256)) * 16
    head = b"QEVM\0\0\0\3\1\0\0\0\1\3ram" + bytes(8)
    encoder.feed(head + 2 * records)
    encoder.finish()
