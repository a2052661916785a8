"""Pure: a recorded migration stream: where its pages are, its memory as an image, and two of them as one move.

Apart from the encoder's own parser on purpose, as a check of it: slow, and only for streams that QEMU wrote to a file.
"""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from actors.errors import BadRequest

PAGE_BYTES: Final = 4096
_HEAD_BYTES: Final = 8
_START, _PART, _END, _CONFIGURATION, _COMMAND, _FOOTER = 0x01, 0x02, 0x03, 0x07, 0x08, 0x7E
_ZERO, _SIZES, _PAGE, _EOS, _CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
_MAIN_BLOCK: Final = b"pc.ram"


class Page(msgspec.Struct, frozen=True):
    """One page of RAM block `block`; `at`: where its bytes lie in the stream, -1 for a page of zeros."""

    block: bytes
    address: int
    at: int


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds. `memory_bytes`: of the guest's RAM; `ram_end`: where its device state begins."""

    pages: list[Page]
    memory_bytes: int
    ram_end: int

    @property
    def guest_bytes(self) -> int:
        """Bytes of all pages, those of zeros too: what every ratio is about."""
        return len(self.pages) * PAGE_BYTES


def layout(stream: memoryview) -> Layout:
    """Read the RAM of a stream that was written without XBZRLE, multifd or other sections before the devices'.

    Raises:
        BadRequest: it is something else.
    """
    try:
        return _layout(stream)
    except (struct.error, IndexError) as error:
        raise BadRequest(detail=f"a recorded stream ends early: {error}") from error


def _layout(stream: memoryview) -> Layout:
    if bytes(stream[:4]) != b"QEVM":
        raise BadRequest(detail="a recorded stream does not begin as QEMU's do")
    at, pages, sizes = _HEAD_BYTES, list[Page](), dict[bytes, int]()
    while (kind := stream[at]) in (_START, _PART, _END, _CONFIGURATION, _COMMAND):
        if kind == _COMMAND:
            at += 5 + struct.unpack_from(">H", stream, at + 3)[0]
            continue
        (number,) = struct.unpack_from(">I", stream, at + 1)
        at += 5
        if kind == _CONFIGURATION:
            at += number
            continue
        if kind == _START:
            name = bytes(stream[at + 1 : at + 1 + stream[at]])
            if name != b"ram":
                raise BadRequest(detail=f"a recorded stream has a section {name!r} before its devices")
            at += 1 + len(name) + 8
        at = _section(stream, at, pages, sizes)
        if stream[at] != _FOOTER:
            raise BadRequest(detail=f"a section of RAM ends with {stream[at]:#x} at {at}")
        at += 5
    return Layout(pages=pages, memory_bytes=sizes.get(_MAIN_BLOCK, max(sizes.values(), default=0)), ram_end=at)


def _section(stream: memoryview, at: int, pages: list[Page], sizes: dict[bytes, int]) -> int:
    """Read the records of one section into `pages` and `sizes`; where it ends."""
    block = pages[-1].block if pages else b""
    while True:
        (header,) = struct.unpack_from(">Q", stream, at)
        flags, address = header & 0xFFF, header & ~0xFFF
        at += 8
        if flags == _EOS:
            return at
        if flags == _SIZES:
            at = _blocks(stream, at, address, sizes)
            continue
        if flags & ~_CONTINUE not in (_ZERO, _PAGE):
            raise BadRequest(detail=f"a recorded stream has a record of unknown kind {flags:#x} at {at - 8}")
        if not flags & _CONTINUE:
            block = bytes(stream[at + 1 : at + 1 + stream[at]])
            at += 1 + len(block)
        whole = flags & _PAGE
        pages.append(Page(block, address, at if whole else -1))
        at += PAGE_BYTES if whole else 1


def _blocks(stream: memoryview, at: int, left_bytes: int, sizes: dict[bytes, int]) -> int:
    while left_bytes > 0:
        name = bytes(stream[at + 1 : at + 1 + stream[at]])
        at += 1 + len(name)
        (sizes[name],) = struct.unpack_from(">Q", stream, at)
        left_bytes -= sizes[name]
        at += 8
    return at


def image(stream: memoryview, found: Layout) -> Iterator[tuple[int, memoryview]]:
    """The guest's RAM as (address, page) of every page that is not zeros, as a memory dump has it."""
    largest = _MAIN_BLOCK if any(page.block == _MAIN_BLOCK for page in found.pages) else _commonest(found)
    for page in found.pages:
        if page.block == largest and page.at >= 0:
            yield page.address, stream[page.at : page.at + PAGE_BYTES]


def _commonest(found: Layout) -> bytes:
    counts: dict[bytes, int] = {}
    for page in found.pages:
        counts[page.block] = counts.get(page.block, 0) + 1
    return max(counts, key=lambda block: counts[block], default=b"")


def joined(first: Layout) -> tuple[int, int]:
    """How two recordings of one guest become a move of two passes: the first up to here, the second from there on."""
    return first.ram_end, _HEAD_BYTES
