"""The content store of a node: blocks of 4 KiB in a file, found by slot, kept over restarts, shared by processes.

Two files: `table` (mapped: what lies where) and `blocks` (read and written by offset, so that a full or truncated disk
is an error and not the end of the process). Nothing is flushed: after a crash a slot may hold anything, and whoever
reads a block checks it against its digest.
"""

import fcntl
import mmap
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from actors.encoding import slots as tables
from actors.encoding.fetch import fetch_blocks
from actors.encoding.find import PRINT_MASK
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words
from actors.encoding.keyed import DIGEST_WORDS, KEY_BYTES, digest_pages, key_words
from actors.encoding.slots import Slots

TABLE_FILE = "table"
BLOCKS_FILE = "blocks"
LOCK_FILE = "lock"
BLOCKS_PER_MIB = (1 << 20) // PAGE_BYTES


class StoreCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds and did: blocks of room, in use, of use to a move, that made room for others, found spoilt."""

    capacity: int = 0
    blocks: int = 0
    hits: int = 0
    evicted: int = 0
    dropped: int = 0


class Store:
    """One node's store, open. Threads and processes may share it.

    Args:
        folder: where its files lie; made if it is missing.
        mib: its size. A store of another size that lies there is emptied.

    Raises:
        OSError: the files can't be made.
    """

    def __init__(self, folder: Path, mib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.slots = mib * BLOCKS_PER_MIB
        self._thread_lock = threading.Lock()
        self._lock_file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._blocks_file = os.open(folder / BLOCKS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with self._locked():
            self._tables = Slots.over(memoryview(_mapped(folder / TABLE_FILE, Slots.size(self.slots))), self.slots)
            header = self._tables.header
            if header[tables.MAGIC] != tables.MAGIC_WORD or header[tables.SLOTS] != self.slots:
                self._reset(secrets.token_bytes(KEY_BYTES))

    @property
    def key(self) -> bytes:
        """The key of this node's digests, 16 bytes: of the store and of files in place."""
        return self._tables.header[tables.KEY : tables.KEY + 2].tobytes()

    @property
    def source(self) -> bytes:
        """Which store this is, 16 bytes; another one after `clear`."""
        return self._tables.header[tables.ID : tables.ID + 2].tobytes()

    @property
    def generation(self) -> int:
        """The number of the newest change."""
        return int(self._tables.header[tables.SEQUENCE])

    @property
    def free(self) -> int:
        """Slots never used."""
        return self.slots - int(self._tables.header[tables.FILLED])

    def counts(self) -> StoreCounts:
        """What it holds and did."""
        header = self._tables.header
        return StoreCounts(
            capacity=self.slots,
            blocks=int(np.count_nonzero(self._tables.digests[:, 0])),
            hits=int(header[tables.HITS]),
            evicted=int(header[tables.EVICTED]),
            dropped=int(header[tables.DROPPED]),
        )

    def prints(self) -> tuple[int, Words, Words]:
        """(generation, each slot's print, each slot's change number) as they are now."""
        generation = self.generation
        return generation, self._tables.digests[:, 0] & PRINT_MASK, self._tables.changed.copy()

    def read(self, blocks: Ints, places: Ints, pages: Bytes) -> None:
        """See `Blocks`."""
        fetch_blocks(self._blocks_file, blocks, places, pages)

    def use(self, blocks: Words) -> None:
        """See `Blocks`."""
        tables.use(self._tables, blocks)

    def spoilt(self, block: int, digest: Words) -> None:
        """See `Blocks`: a block that was replaced since is all right, one whose content has another digest goes."""
        with self._locked():
            if not np.array_equal(self._tables.digests[block], digest):
                tables.drop(self._tables, block)

    def add(self, pages: Words, *, worth: int = tables.WORTH_PASSING, evicts: bool = True) -> int:
        """Keep `pages` (n × 512 words) that are not there yet; returns how many were new.

        Raises:
            OSError: the disk is full or failed; nothing is wrong with the store then.
        """
        digests = np.empty((len(pages), DIGEST_WORDS), np.uint64)
        digest_pages(pages, key_words(self.key), digests)
        chosen = np.empty(len(pages), np.uint64)
        with self._locked():
            given = tables.claim(self._tables, digests, worth, evicts, chosen)
            places = np.flatnonzero(chosen != self.slots)
            kept = chosen[places].astype(np.int64)
            # Neighbours in one go.
            for run in np.split(np.arange(len(kept)), np.flatnonzero(np.diff(kept) != 1) + 1):
                if len(run):
                    self._write(int(kept[run[0]]), np.ascontiguousarray(pages[places[run]]))
        return given

    def clear(self) -> None:
        """Forget every block. The key stays, for what is known of files in place is under it."""
        with self._locked():
            self._reset(self.key)
            os.ftruncate(self._blocks_file, 0)

    def close(self) -> None:
        """Let go of the files. The tables must not be used again."""
        os.close(self._blocks_file)
        os.close(self._lock_file)

    def _write(self, slot: int, pages: Words) -> None:
        data = pages.reshape(-1).view(np.uint8).data
        try:
            if os.pwrite(self._blocks_file, data, slot * PAGE_BYTES) != len(data):
                raise OSError("the disk took only part of a block")
        except OSError:
            for each in range(slot, slot + len(pages)):
                tables.drop(self._tables, each)
            raise

    def _reset(self, key: bytes) -> None:
        for table in self._tables:
            table[:] = 0
        header = self._tables.header
        header[tables.SLOTS] = self.slots
        header[tables.ID : tables.ID + 2] = np.frombuffer(secrets.token_bytes(16), np.uint64)
        header[tables.KEY : tables.KEY + 2] = np.frombuffer(key, np.uint64)
        header[tables.MAGIC] = tables.MAGIC_WORD

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads and processes; the kernel lets go for a process that dies."""
        with self._thread_lock:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)


def _mapped(path: Path, size: int) -> mmap.mmap:
    """The file at `path`, made anew unless it has `size` bytes, in memory."""
    if path.exists() and path.stat().st_size != size:
        # Never cut: a process that still has the old one in memory would end.
        path.unlink()
    table = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Really taken, for a hole that can't be filled later would end the process.
        os.posix_fallocate(table, 0, size)
        return mmap.mmap(table, size)
    finally:
        os.close(table)


def warm_up() -> None:
    """Compile or load every kernel of the store, so that no job waits for it."""
    slots = Slots.over(memoryview(bytearray(Slots.size(8))), 8)
    digests = np.ones((1, DIGEST_WORDS), np.uint64)
    digest_pages(np.zeros((1, PAGE_WORDS), np.uint64), key_words(bytes(KEY_BYTES)), digests)
    tables.claim(slots, digests, 0, True, np.empty(1, np.uint64))
    tables.use(slots, np.zeros(1, np.uint64))
    tables.drop(slots, 0)
