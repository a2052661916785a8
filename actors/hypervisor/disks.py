"""Disk files on this host: looking at them, making missing ones, removing exactly what was made. Blocking."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from actors.errors import Failed
from actors.hypervisor.engine.fit import missing_parents
from actors.hypervisor.messages import DiskSpec

_TOOL_S = 60.0
Record = Callable[[str], None]


class _Info(msgspec.Struct):
    size: int = msgspec.field(name="virtual-size")


def size_bytes(disk: DiskSpec) -> int:
    """The disk's size as a guest sees it; 0 when there is nothing at its path.

    Raises:
        Failed: qemu-img can't read it.
    """
    if not Path(disk.path).exists():
        return 0
    # --force-share: a running guest holds the image's lock. The format is stated, never probed.
    shown = _qemu_img("info", "--force-share", "--output=json", "-f", disk.format, disk.path)
    return msgspec.json.decode(shown, type=_Info).size


def make(disk: DiskSpec, owner: tuple[int, int], record: Record) -> None:
    """Make an empty disk and the folders above it; `record` is told of each before it is made.

    Raises:
        Failed: it can't be made, e.g. no space is left.
    """
    path = Path(disk.path)
    existing = frozenset(str(parent) for parent in path.parents if parent.exists())
    try:
        for parent in missing_parents(disk.path, existing):
            record(parent)
            Path(parent).mkdir(mode=0o755)
        if path.exists():
            raise Failed(detail=f"{disk.path} appeared while it was to be made")
        record(disk.path)
        _qemu_img("create", "-q", "-f", disk.format, disk.path, str(disk.size_bytes))
        path.chmod(0o600)
        os.chown(path, *owner)
    except OSError as error:
        raise Failed(detail=f"can't make {disk.path}: {error.strerror}") from error


def unmake(made: Iterable[str]) -> None:
    """Remove files, and folders if they are empty, in the opposite order of their making; what is gone is fine."""
    for name in reversed(list(made)):
        path = Path(name)
        with contextlib.suppress(OSError):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def _qemu_img(*arguments: str) -> bytes:
    try:
        done = subprocess.run(["qemu-img", *arguments], capture_output=True, check=True, timeout=_TOOL_S)
    except subprocess.CalledProcessError as error:
        raise Failed(detail=f"qemu-img: {error.stderr.decode(errors='replace').strip()[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(detail=f"qemu-img: {error}") from error
    return done.stdout
