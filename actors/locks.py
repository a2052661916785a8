"""Locks on files that say which process holds them: the kernel drops one with its holder, however that ends."""

import fcntl
import os
import signal
import struct
from pathlib import Path

# The kernel's `struct flock` on 64-bit Linux: type, whence, start, length, holder's process number.
_FLOCK = struct.Struct("hhqqi0q")


def hold(path: Path) -> int:
    """Hold the lock of `path` until this process ends or closes the handle that is returned.

    The lock belongs to the process: closing any other handle of the same file drops it, so `holder` must not be asked
    by the process that holds it.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file can't be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def holder(path: Path) -> int | None:
    """Number of the process that holds the lock of `path`, or None when none does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else int(pid)


def signal_holder(path: Path, number: signal.Signals) -> bool:
    """Send signal `number` to the process that holds the lock of `path`; false when none does (any more)."""
    pid = holder(path)
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Asked again: between the question and the handle the number may have passed to another process.
        if holder(path) != pid:
            return False
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True
