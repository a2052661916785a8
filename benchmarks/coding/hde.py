"""NovaCron's own encoding, measured in a process of its own: ``python -m benchmarks.coding.hde REQUEST`` as JSON.

A process of its own, since what is asked is also how far its memory grows.
"""

import contextlib
import gc
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import xxhash

from actors.encoding import decoder as dec
from actors.encoding import encoder as enc
from actors.encoding.files import FileBlocks, FileLibrary
from actors.encoding.format import Opening
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS
from actors.encoding.keyed import KEY_BYTES
from actors.encoding.messages import LayerCount
from actors.encoding.reverse import Message, Prints, Ready, Sources
from actors.encoding.shelf import Shelf
from actors.encoding.store import Store
from actors.errors import DeadlineExceeded, Failed, StreamCorrupt
from benchmarks.coding.recording import mapped
from benchmarks.coding.rows import Coded, Memory

_READ_BYTES: Final = 1 << 20
_FILE_S: Final = 60.0
_STORE_PAGES: Final = 4096


class Piece(msgspec.Struct, frozen=True):
    """Bytes `start` to `end` of a file with a recorded stream; -1: to its end."""

    path: str
    start: int = 0
    end: int = -1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Encode and decode the pieces as one stream; what is measured is the last of them.

    `image`: a disk image that the far side has, '' for none. `visited`: a memory image whose pages its store has.
    `guest_bytes`: of the last piece. `frames`: a file to use.
    """

    pieces: list[Piece]
    guest_bytes: int
    settings: enc.Settings
    level: int
    frames: str
    image: str = ""
    visited: str = ""


def measure(request: Request, deadline_s: float) -> Coded:
    """Run `request` in a process of its own.

    Raises:
        Failed: it ended badly. DeadlineExceeded: it took too long and was ended.
    """
    command = [sys.executable, "-m", "benchmarks.coding.hde", msgspec.json.encode(request).decode()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(what="encoding a recorded stream", deadline_s=deadline_s) from error
    if done.returncode:
        raise Failed(detail=f"encoding a recorded stream: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return msgspec.json.decode(done.stdout, type=Coded)


class Growth:
    """How far this process's own memory grows: not what it maps of files, which others need too."""

    def __init__(self) -> None:
        gc.collect()
        self._before_bytes = self._now_bytes()
        self.peak_bytes = 0

    def look(self) -> None:
        """Note what it has now."""
        self.peak_bytes = max(self.peak_bytes, self._now_bytes() - self._before_bytes)

    @staticmethod
    def _now_bytes() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:", 1)[1].split(None, 1)[0]) * 1024


def _batches(pieces: Sequence[Piece]) -> Iterator[tuple[int, memoryview]]:
    """(number of the piece, bytes): what a read of QEMU's socket would give."""
    for number, piece in enumerate(pieces):
        content = mapped(Path(piece.path))
        end = len(content) if piece.end < 0 else piece.end
        for at in range(piece.start, end, _READ_BYTES):
            yield number, content[at : min(at + _READ_BYTES, end)]


class FarSide(msgspec.Struct, frozen=True):
    """What the far side has; each end of a job sees it through a shelf of its own."""

    key: bytes
    store: Store | None
    files: Sequence[FileBlocks]

    def shelf(self) -> Shelf:
        """A job's view of it."""
        return Shelf(self.key, self.store, self.files)


@contextlib.contextmanager
def _far_side(request: Request) -> Iterator[FarSide]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path(request.frames).parent)))
        store, key = None, secrets.token_bytes(KEY_BYTES)
        if request.visited:
            pages = np.memmap(request.visited, np.uint64, "r").reshape(-1, PAGE_WORDS)
            store = Store(folder / "store", max(1, pages.nbytes >> 20))
            stack.callback(store.close)
            key = store.key
            for at in range(0, len(pages), _STORE_PAGES):
                some = pages[at : at + _STORE_PAGES]
                store.add(some[some.any(axis=1)])
        files = FileLibrary(folder, key).open([request.image] if request.image else [], _FILE_S)
        for file in files:
            stack.callback(file.close)
        if request.image and not files:
            raise Failed(detail=f"{request.image} can't be read")
        yield FarSide(key, store, files)


def _hear(encoder: enc.Encoder, message: Message) -> None:
    match message:
        case Sources():
            encoder.far.meet(message)
        case Prints():
            encoder.far.learn(message)
        case Ready():
            encoder.far.ready()
        case _:
            raise StreamCorrupt(reason=f"the far side says {type(message).__name__} before anything came")


def _encode(request: Request, far: FarSide) -> tuple[Coded, int]:
    """The encoder's half, its frames written to `request.frames`; and how many of the frames' bytes come before.

    The far side is as fast as can be: what it was sent it has rebuilt at once.
    """
    growth = Growth()
    encoder = enc.Encoder(request.settings, time.thread_time)
    encoder.level = request.level
    last = len(request.pieces) - 1
    spent_s, before, before_layers = 0.0, -1, dict[str, LayerCount]()
    with Path(request.frames).open("wb", buffering=0) as frames:
        opening = encoder.open()
        frames.write(opening)
        for message in far.shelf().tell(Opening.unpack(memoryview(opening), request.settings.slots)):
            _hear(encoder, message)
        for number, batch in _batches(request.pieces):
            if number == last and before < 0:
                frames.write(encoder.encode(0, flush=True))
                before, spent_s = frames.tell(), 0.0
                before_layers = {name: tally.count() for name, tally in encoder.layers.items()}
            at = 0
            while at < len(batch):
                room = encoder.room(len(batch) - at)
                room[:] = batch[at : at + len(room)]
                at += len(room)
                began_s = time.thread_time()
                frame = encoder.encode(len(room))
                spent_s += time.thread_time() - began_s
                frames.write(frame)
            growth.look()
            encoder.window.done(encoder.stream_bytes)
        frames.write(encoder.finish())
        total = frames.tell()
    layers = {name: _since(tally.count(), before_layers[name]) for name, tally in encoder.layers.items()}
    coded = Coded(
        guest_bytes=request.guest_bytes,
        wire_bytes=total - before,
        encode_s=spent_s,
        encoder=Memory(peak_bytes=growth.peak_bytes, caches_bytes=_caches_bytes(request)),
        layers=layers,
    )
    return coded, before


def _decode(request: Request, far: FarSide, before: int) -> tuple[float, Memory]:
    """The decoder's half: CPU seconds of the last piece, its memory.

    Raises:
        StreamCorrupt: what it gives is not what was encoded.
    """
    wanted, given = xxhash.xxh3_128(), xxhash.xxh3_128()
    for _, batch in _batches(request.pieces):
        wanted.update(batch)
    growth = Growth()
    spent_s = 0.0
    with Path(request.frames).open("rb", buffering=0) as frames:
        decoder = dec.Decoder(request.settings.dedupe_cache_mib, far.shelf())
        while not decoder.finished:
            size = frames.readinto(decoder.room())
            if not size:
                raise StreamCorrupt(reason="the frames end before the stream does")
            began_s = time.thread_time()
            for out in decoder.decode(size):
                if frames.tell() > before:
                    spent_s += time.thread_time() - began_s
                given.update(out)
                began_s = time.thread_time()
            growth.look()
            decoder.replies.clear()
    if given.digest() != wanted.digest():
        raise StreamCorrupt(reason="the decoded stream is not the one that was encoded")
    return spent_s, Memory(peak_bytes=growth.peak_bytes, caches_bytes=_caches_bytes(request))


def _caches_bytes(request: Request) -> int:
    """What the caches may hold, at most all that came by."""
    came = sum((len_of(piece) for piece in request.pieces), 0)
    return min(request.settings.slots * PAGE_BYTES, came)


def len_of(piece: Piece) -> int:
    """Its bytes."""
    return (Path(piece.path).stat().st_size if piece.end < 0 else piece.end) - piece.start


def _since(now: LayerCount, before: LayerCount) -> LayerCount:
    return LayerCount(
        pages=now.pages - before.pages,
        bytes_in=now.bytes_in - before.bytes_in,
        bytes_out=now.bytes_out - before.bytes_out,
        cpu_s=now.cpu_s - before.cpu_s,
    )


def run(request: Request) -> Coded:
    """Encode, decode, compare."""
    enc.warm_up()
    dec.warm_up()
    with _far_side(request) as far:
        coded, before = _encode(request, far)
        decode_s, memory = _decode(request, far, before)
    return msgspec.structs.replace(coded, decode_s=decode_s, decoder=memory)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(run(msgspec.json.decode(sys.argv[1], type=Request))))
