"""Disk images and other files in place as sources of blocks: read, digested block by block once, remembered."""

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import structlog

from actors.encoding.fetch import fetch_blocks
from actors.encoding.find import PRINT_MASK
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words
from actors.encoding.keyed import DIGEST_WORDS, digest_pages, key_words
from actors.files import write_atomically

log = structlog.get_logger()

# Prints of so many blocks are kept in memory, and so many files of them on disk: the oldest go.
BLOCKS_MAX = 3 << 20
REMEMBERED_MAX = 64
# Larger files are left alone: 8 GiB take 16 MiB of prints, and seconds to read.
FILE_MAX_BYTES = 8 << 30
READ_BLOCKS = 256


class FileState(msgspec.Struct, frozen=True):
    """What a file's content can't change without."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, descriptor: int) -> "FileState":
        """The open file's."""
        now = os.fstat(descriptor)
        return cls(now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)

    def name(self, key: bytes) -> bytes:
        """16 bytes that stand for this state of this file on this node."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=16, key=key).digest()


class FileBlocks:
    """A file opened for reading, see `Blocks`. Close it."""

    def __init__(self, path: str, descriptor: int, source: bytes, prints: Words) -> None:
        self.path = path
        self.source = source
        self._descriptor = descriptor
        self._prints = prints

    def prints(self) -> tuple[int, Words, Words]:
        """See `Blocks`: a file that changes is another source."""
        return 1, self._prints, np.ones(len(self._prints), np.uint64)

    def read(self, blocks: Ints, places: Ints, pages: Bytes) -> None:
        """See `Blocks`. Reads rather than maps: a file that shrinks under a map would end the process."""
        fetch_blocks(self._descriptor, blocks, places, pages)

    def use(self, blocks: Words) -> None:
        """See `Blocks`."""

    def spoilt(self, block: int, digest: Words) -> None:  # noqa: ARG002  the file is what it is
        """See `Blocks`."""
        log.info("a file changed while a move read it", path=self.path, block=block)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class FileLibrary:
    """The files of one node's decoder. Whatever can't be used is left out: a move goes on without it.

    Args:
        folder: where prints are remembered.
        key: of the digests.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder = folder
        self._key = key
        # One worker: what a move did not wait for goes on in the background, one file at a time, for the next move.
        self._worker = ThreadPoolExecutor(1, "files")
        self._lock = threading.Lock()
        self._running: dict[bytes, Future[Words | None]] = {}
        self._prints: OrderedDict[bytes, Words] = OrderedDict()

    def open(self, paths: Iterable[str], patience_s: float) -> list[FileBlocks]:
        """Open those of `paths` that are files here with whole blocks. Blocks for about `patience_s` in all."""
        until_s = time.monotonic() + patience_s
        opened: list[FileBlocks] = []
        for path in paths:
            file = self._open(path, until_s)
            if file is not None and any(each.source == file.source for each in opened):
                file.close()
            elif file is not None:
                opened.append(file)
        return opened

    def _open(self, path: str, until_s: float) -> FileBlocks | None:
        descriptor = open_regular(path)
        if descriptor is None:
            return None
        prints: Words | None = None
        try:
            state = FileState.of(descriptor)
            source = state.name(self._key)
            if PAGE_BYTES <= state.size <= FILE_MAX_BYTES:
                prints = self._prints_of(path, state, source, until_s)
            if FileState.of(descriptor) != state:
                prints = None
        finally:
            if prints is None:
                os.close(descriptor)
        return None if prints is None else FileBlocks(path, descriptor, source, prints)

    def _prints_of(self, path: str, state: FileState, source: bytes, until_s: float) -> Words | None:
        with self._lock:
            prints = self._prints.get(source)
            if prints is not None:
                return prints
            running = self._running.get(source)
            if running is None:
                running = self._running[source] = self._worker.submit(self._make, path, state, source)
                running.add_done_callback(lambda _: self._running.pop(source, None))
        try:
            return running.result(max(0.0, until_s - time.monotonic()))
        except OSError as error:  # also the TimeoutError
            log.info("file not used", path=path, reason=str(error) or "not read in time")
            return None

    def _make(self, path: str, state: FileState, source: bytes) -> Words | None:
        prints = self._remembered(state, source)
        if prints is None:
            prints = self._read(path, state)
            if prints is not None:
                self._remember(source, prints)
        if prints is not None:
            with self._lock:
                self._prints[source] = prints
                while len(self._prints) > 1 and sum(len(each) for each in self._prints.values()) > BLOCKS_MAX:
                    self._prints.popitem(last=False)
        return prints

    def _remembered(self, state: FileState, source: bytes) -> Words | None:
        try:
            raw = (self._folder / source.hex()).read_bytes()
        except OSError:
            return None
        # Should it be spoilt, pages are asked for again.
        return np.frombuffer(raw, np.uint64) if len(raw) == 8 * (state.size // PAGE_BYTES) else None

    def _remember(self, source: bytes, prints: Words) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._folder / source.hex(), prints.tobytes())
            kept = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
            for old in kept[:-REMEMBERED_MAX]:
                with contextlib.suppress(OSError):
                    old.unlink()
        except OSError as error:
            log.warning("prints of a file not remembered", reason=str(error))

    def _read(self, path: str, state: FileState) -> Words | None:
        """The print of every whole block, 0 for one of zeros; None when the file changed meanwhile."""
        descriptor = open_regular(path)
        if descriptor is None:
            return None
        prints = np.zeros(state.size // PAGE_BYTES, np.uint64)
        pages = np.empty((READ_BLOCKS, PAGE_WORDS), np.uint64)
        digests = np.empty((READ_BLOCKS, DIGEST_WORDS), np.uint64)
        key = key_words(self._key)
        with os.fdopen(descriptor, "rb", buffering=0):
            for first in range(0, len(prints), READ_BLOCKS):
                count = min(READ_BLOCKS, len(prints) - first)
                room = pages[:count].reshape(-1).view(np.uint8).data
                if os.preadv(descriptor, [room], first * PAGE_BYTES) != len(room):
                    return None
                digest_pages(pages[:count], key, digests)
                marks = digests[:count, 0] & PRINT_MASK
                prints[first : first + count] = np.where(pages[:count].any(axis=1), marks, np.uint64(0))
            return prints if FileState.of(descriptor) == state else None


def open_regular(path: str) -> int | None:
    """A descriptor for reading the regular file at the absolute `path`; None when there is none."""
    if not Path(path).is_absolute():
        return None
    try:
        # Not blocking: a FIFO under that name must not hold up anything.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
