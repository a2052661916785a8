"""What an operator registers, as blocks: a file's blocks, a folder's or an initramfs' files, each padded to a block.

A guest's page cache holds files in blocks of 4 KiB, the last one filled up with zeros: so a file that was unpacked
there has the blocks that this gives, wherever it stood in the archive.
"""

import gzip
import lzma
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from actors.encoding.kernel import PAGE_BYTES
from actors.errors import BadRequest

PIECE_BYTES = 256 * PAGE_BYTES
_QCOW2 = b"QFI\xfb"
_NEWC = (b"070701", b"070702")
_HEADER_BYTES = 110
_TRAILER = b"TRAILER!!!"
_NAME_MAX_BYTES = 4096
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ")


def kind_of(path: Path) -> str:
    """raw, qcow2, initramfs or folder.

    Raises:
        BadRequest: there is nothing that can be read.
    """
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return "folder"
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadRequest(detail=f"{path} is neither a file nor a folder")
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise BadRequest(detail=f"{path} can't be read on this node: {error.strerror}") from error
    if head.startswith(_QCOW2):
        return "qcow2"
    return "initramfs" if head.startswith((*_NEWC, *_PACKED)) else "raw"


def file_blocks(file: BinaryIO, size: int | None = None) -> Iterator[bytes]:
    """`size` bytes of `file`, or all of it, in pieces of whole blocks; the last one padded with zeros."""
    left = size
    while left is None or left > 0:
        piece = _read(file, PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece + bytes(-len(piece) % PAGE_BYTES)


def folder_blocks(folder: Path) -> Iterator[bytes]:
    """The blocks of every regular file below `folder`, links not followed."""
    for here, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(here, name)
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                yield from file_blocks(file)


def initramfs_blocks(path: Path) -> Iterator[bytes]:
    """The blocks of every file in an initramfs: cpio archives one after another, packed with gzip, xz or zstd or not.

    Raises:
        BadRequest: it is not one.
    """
    with path.open("rb") as file:
        try:
            yield from _archives(file)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise BadRequest(detail=f"{path} is not an initramfs that can be read: {error}") from error


def _archives(file: BinaryIO) -> Iterator[bytes]:
    at = file.tell()
    while head := _read(file, 8):
        if not head.strip(b"\0"):  # between archives
            at = file.tell()
            continue
        pad = len(head) - len(head.lstrip(b"\0"))
        file.seek(at + pad)
        if head[pad:].startswith(_PACKED):
            # Whatever is packed is the last one.
            yield from _archive(_unpacked(file, head[pad:]))
            return
        yield from _archive(file)
        at = file.tell()


def _unpacked(file: BinaryIO, head: bytes) -> BinaryIO:
    if head.startswith(_PACKED[0]):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if head.startswith(_PACKED[1]):
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file))
    return cast(BinaryIO, lzma.LZMAFile(file))


def _archive(file: BinaryIO) -> Iterator[bytes]:
    """The blocks of the files of one archive in cpio's "newc" format."""
    while True:
        header = _read(file, _HEADER_BYTES)
        if not header.startswith(_NEWC) or len(header) < _HEADER_BYTES:
            raise ValueError("a file's header is not cpio's")
        fields = [int(header[at : at + 8], 16) for at in range(6, _HEADER_BYTES, 8)]
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        if not 0 < name_bytes <= _NAME_MAX_BYTES:
            raise ValueError(f"a name of {name_bytes} bytes")
        name = _read(file, name_bytes + -(_HEADER_BYTES + name_bytes) % 4)
        if name.startswith(_TRAILER):
            return
        for piece in file_blocks(file, size):
            if stat.S_ISREG(mode):
                yield piece
        _read(file, -size % 4)


def _read(file: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end."""
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
