"""How many writes a store has acknowledged, beside the store.

SQLite takes a damaged write-ahead log for one that was torn, and silently goes on with what stands before the damage.
For a vote or an entry that was acknowledged that would be fatal. So each write counts itself, in the store and then
here; a store that has fewer than this file says has lost some.

Two slots of 20 bytes are written in turn, so that a torn write spoils the older one only. A slot is magic, u64
count, CRC-32, little endian. It is written after the store's own write is durable, and made durable itself every
`SYNC_EVERY` writes and when the store is closed: after a crash of the process it is exact; after a power cut it may be
behind, never ahead, so it never accuses a good store.
"""

import fcntl
import os
import struct
import zlib
from pathlib import Path

_SLOT = struct.Struct("<4sQ")
_MAGIC = b"NCG1"
_SUM = struct.Struct("<I")
_SLOT_BYTES = _SLOT.size + _SUM.size
SYNC_EVERY = 64


class Guard:
    """The file next to a store; made when it is missing and `new`."""

    def __init__(self, path: Path, *, new: bool) -> None:
        """Open it.

        Raises:
            FileNotFoundError: it is missing, and the store is not new.
            BlockingIOError: somebody else has it open.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if new else 0)
        self._file = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise
        self.count = max((self._slot(0), self._slot(1)))
        if new:
            self._write(0)
            self._write(0, slot=1)
            os.fsync(self._file)

    def raise_to(self, count: int) -> None:
        """Write `count` was acknowledged."""
        self._write(count)
        if count % SYNC_EVERY == 0:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Make it durable and close it."""
        os.fdatasync(self._file)
        os.close(self._file)

    @property
    def readable(self) -> bool:
        """False when neither slot is whole."""
        return self.count >= 0

    def _write(self, count: int, slot: int | None = None) -> None:
        body = _SLOT.pack(_MAGIC, count)
        at = (count % 2 if slot is None else slot) * _SLOT_BYTES
        os.pwrite(self._file, body + _SUM.pack(zlib.crc32(body)), at)
        self.count = count

    def _slot(self, slot: int) -> int:
        """The count in a slot, -1 if it is not whole."""
        body = os.pread(self._file, _SLOT_BYTES, slot * _SLOT_BYTES)
        if len(body) != _SLOT_BYTES:
            return -1
        magic, count = _SLOT.unpack_from(body)
        (told,) = _SUM.unpack_from(body, _SLOT.size)
        return int(count) if magic == _MAGIC and told == zlib.crc32(body[: _SLOT.size]) else -1
