"""Files that are there whole or not at all, read within limits, and one writer at a time."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.registry.errors import RegistryBusy, VersionInvalid

LOCK_S = 30.0
_LOOK_S = 0.05


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A new file with its bytes on disk; its name is not safe yet. Raises FileExistsError, OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_new(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path`, over what is there; after a crash the old or the new is there, never a part."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_synced(aside, content, mode)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_within(path: Path, most_bytes: int) -> bytes:
    """All bytes of a plain file.

    Raises:
        FileNotFoundError: there is none.
        VersionInvalid: it is larger than `most_bytes`, or no plain file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VersionInvalid(f"{path} can't be read: {error}") from error
    with os.fdopen(handle, "rb") as file:
        try:
            content = file.read(most_bytes + 1)
        except OSError as error:
            raise VersionInvalid(f"{path} can't be read: {error}") from error
    if len(content) > most_bytes:
        raise VersionInvalid(f"{path} is larger than {most_bytes} bytes")
    return content


@contextmanager
def locked(folder: Path, wait_s: float = LOCK_S) -> Iterator[None]:
    """Be the only writer of `folder` while the block runs; the kernel frees the lock of a process that dies.

    Raises:
        RegistryBusy: another one holds it for `wait_s` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise RegistryBusy(f"another process has been writing to {folder} for {wait_s:.0f} s") from error
                time.sleep(_LOOK_S)
        yield
    finally:
        os.close(handle)
