"""Finds guest pages in QEMU's migration stream, however the stream is cut into pieces.

The stream (QEMU's ``migration/savevm.c``, ``migration/ram.c``): a file header, then sections. Only RAM sections and
commands tell their own length; device state does not, so after it the parser looks for the section's footer followed
by something that can begin a section. Nothing that it finds is trusted: pages are what the encoder *may* code as
pages, and every other byte is carried as it stands. A wrong guess costs ratio, never bytes.
"""

import enum
import struct
from typing import Protocol

import numpy as np
import xxhash

from actors.encoding import records as rec
from actors.encoding.kernel import PAGE_BYTES, Bytes
from actors.encoding.records import Records

FILE_MAGIC = b"QEVM"
SECTION_EOF = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_FULL = 0x04
SUBSECTION = 0x05
VM_DESCRIPTION = 0x06
CONFIGURATION = 0x07
VM_COMMAND = 0x08
FOOTER = 0x7E
FOOTER_BYTES = 5
COMMAND_PACKAGED = 8
COMMAND_MAX = 64
SECTIONS_MAX = 1 << 16
ADDRESS_MAX = 1 << 62
# Longest piece that must be seen whole: a page record with a block's name of 255 bytes.
UNPARSED_MAX_BYTES = rec.HEADER_BYTES + 1 + 255 + PAGE_BYTES + 64


class Parser(Protocol):
    """What the encoder needs of a parser, of whichever stream."""

    @property
    def rounds(self) -> int:
        """How often the stream started over."""
        ...

    def parse(self, buffer: Bytes, end: int, found: Records) -> int:
        """Parse ``buffer[:end]``, which begins where the last call stopped, and note its pages in `found`.

        Returns how many bytes are done with; the rest (at most `UNPARSED_MAX_BYTES`) must come again, with more.
        """
        ...


class Mode(enum.Enum):
    """What the parser expects next."""

    FILE = "file"
    SECTION = "section"
    BLOCK_LIST = "block list"
    RAM = "ram"
    SKIP = "skip"
    FIND_FOOTER = "find footer"
    GIVEN_UP = "given up"


class _NeedsMoreError(Exception):
    """The piece at hand ends before what is being read."""


class _LostError(Exception):
    """The bytes are not what they should be."""


class StreamParser:
    """Parser of one stream. `rounds` counts how often page addresses started over."""

    def __init__(self) -> None:
        self.mode = Mode.FILE
        self._ram_sections: set[int] = set()
        self._sections: set[int] = set()
        self._section = -1
        self._skip_bytes = 0
        self._blocks_left_bytes = 0
        self._last_address: dict[int, int] = {}
        self._cursor = np.zeros(rec.CURSOR_FIELDS, np.int64)

    @property
    def rounds(self) -> int:
        """How often the page addresses of a block started over: QEMU's rounds after the first."""
        return int(self._cursor[rec.ROUNDS])

    def parse(self, buffer: Bytes, end: int, found: Records) -> int:
        """See `Parser.parse`."""
        found.count = 0
        at = 0
        view = buffer.data
        while at < end:
            try:
                step = self._step(buffer, view, at, end, found)
            except _NeedsMoreError:
                if end - at <= UNPARSED_MAX_BYTES:
                    break
                self._lose()
                continue
            except _LostError:
                self._lose()
                continue
            if step == at:
                break
            at = step
        return at

    def _lose(self) -> None:
        # Inside a section the footer can bring us back; anywhere else the rest of the stream passes through unparsed.
        self.mode = Mode.FIND_FOOTER if self.mode in (Mode.RAM, Mode.BLOCK_LIST) else Mode.GIVEN_UP

    def _step(self, buffer: Bytes, view: memoryview, at: int, end: int, found: Records) -> int:
        match self.mode:
            case Mode.RAM:
                return self._ram(buffer, view, at, end, found)
            case Mode.SECTION:
                return self._section_header(view, at, end)
            case Mode.BLOCK_LIST:
                return self._block(view, at, end)
            case Mode.SKIP:
                return self._skip(at, end)
            case Mode.FIND_FOOTER:
                return self._find_footer(view, at, end)
            case Mode.FILE:
                if _take(view, at, end, 4) != FILE_MAGIC:
                    raise _LostError
                _take(view, at, end, 8)
                self.mode = Mode.SECTION
                return at + 8
            case Mode.GIVEN_UP:
                return end

    def _skip(self, at: int, end: int) -> int:
        step = min(end - at, self._skip_bytes)
        self._skip_bytes -= step
        if self._skip_bytes == 0:
            self.mode = Mode.SECTION
        return at + step

    def _skip_next(self, size: int) -> None:
        self._skip_bytes = size
        self.mode = Mode.SKIP if size else Mode.SECTION

    def _section_header(self, view: memoryview, at: int, end: int) -> int:
        match view[at]:
            case 0x00:
                return at + 1
            case 0x01 | 0x04 as kind:
                return self._full_header(view, at, end, starts=kind == SECTION_START)
            case 0x02 | 0x03:
                self._section = _u32(view, at + 1, end)
                if self._section not in self._sections:
                    raise _LostError
                self.mode = Mode.RAM if self._section in self._ram_sections else Mode.FIND_FOOTER
                return at + 5
            case 0x05:
                return _subsection_end(view, at, end)
            case 0x06:
                self._skip_next(_u32(view, at + 1, end))
                return at + 5
            case 0x07:
                size = _u32(view, at + 1, end)
                if size > 255:
                    raise _LostError
                _take(view, at, end, 5 + size)
                return at + 5 + size
            case 0x08:
                return self._command(view, at, end)
            case 0x7E:
                if _u32(view, at + 1, end) != self._section:
                    raise _LostError
                return at + FOOTER_BYTES
        raise _LostError

    def _full_header(self, view: memoryview, at: int, end: int, *, starts: bool) -> int:
        section = _u32(view, at + 1, end)
        name, at = _name(view, at + 5, end)
        _take(view, at, end, 8)  # instance and version
        if len(self._sections) >= SECTIONS_MAX:
            raise _LostError
        self._sections.add(section)
        self._section = section
        self.mode = Mode.FIND_FOOTER
        if starts and name == b"ram":
            self._ram_sections.add(section)
            self.mode = Mode.RAM
        return at + 8

    def _command(self, view: memoryview, at: int, end: int) -> int:
        command, size = struct.unpack(">HH", _take(view, at + 1, end, 4))
        if command > COMMAND_MAX:
            raise _LostError
        data = _take(view, at + 5, end, size) if size <= 4 else b""
        self._skip_next(size)
        if command == COMMAND_PACKAGED and size == 4:
            # A whole stream of device state, wrapped: its length stands in the command.
            self._skip_bytes += int.from_bytes(data, "big")
        return at + 5

    def _ram(self, buffer: Bytes, view: memoryview, at: int, end: int, found: Records) -> int:
        scanned, found.count, why = rec.scan_records(
            buffer, at, end, found.offsets, found.kinds, found.keys, found.count, self._cursor
        )
        # The next record is a step of its own: should it not be all there, what the scan noted still holds.
        return self._other_record(view, at, end, found) if why == rec.OTHER_RECORD and scanned == at else scanned

    def _other_record(self, view: memoryview, at: int, end: int, found: Records) -> int:
        header = int.from_bytes(_take(view, at, end, 8), "big")
        flags = header & rec.FLAGS_MASK
        address = header - flags
        if header == rec.FLAG_EOS:
            self.mode = Mode.SECTION
            return at + 8
        if flags == rec.FLAG_MEM_SIZE:
            self._blocks_left_bytes = address
            self.mode = Mode.BLOCK_LIST
            return at + 8
        if flags not in (rec.FLAG_PAGE, rec.FLAG_ZERO, rec.FLAG_XBZRLE) or address > ADDRESS_MAX:
            raise _LostError
        name, body = _name(view, at + 8, end)
        if flags == rec.FLAG_PAGE:
            size = PAGE_BYTES
        elif flags == rec.FLAG_ZERO:
            size = 1
        else:
            prefix = _take(view, body, end, 3)
            size = 3 + int.from_bytes(prefix[1:], "big")
            if prefix[0] != 1 or size > PAGE_BYTES + 3:
                raise _LostError
        _take(view, body, end, size)
        self._enter_block(name, address)
        if flags == rec.FLAG_PAGE:
            found.add(body, rec.PAGE_BODY, int(self._cursor[rec.BLOCK_KEY]) ^ address)
        return body + size

    def _enter_block(self, name: bytes, address: int) -> None:
        # 62 bits: the key stays positive in an int64.
        cursor = self._cursor
        self._last_address[int(cursor[rec.BLOCK_KEY])] = int(cursor[rec.LAST_ADDRESS])
        block = xxhash.xxh3_64_intdigest(name) >> 2
        if len(self._last_address) > SECTIONS_MAX:
            raise _LostError
        if address < self._last_address.get(block, 0):
            cursor[rec.ROUNDS] += 1
            self._last_address.clear()
        cursor[rec.BLOCK_KEY] = block
        cursor[rec.LAST_ADDRESS] = address

    def _block(self, view: memoryview, at: int, end: int) -> int:
        _, after = _name(view, at, end)
        size = int.from_bytes(_take(view, after, end, 8), "big")
        if not 0 < size <= self._blocks_left_bytes:
            raise _LostError
        self._blocks_left_bytes -= size
        if self._blocks_left_bytes == 0:
            self.mode = Mode.RAM
        return after + 8

    def _find_footer(self, view: memoryview, at: int, end: int) -> int:
        footer = bytes([FOOTER]) + self._section.to_bytes(4, "big")
        piece = bytes(view[at:end])
        hit = piece.find(footer)
        while hit >= 0:
            follows = self._can_follow(piece[hit + FOOTER_BYTES : hit + FOOTER_BYTES + 7])
            if follows is None:
                return at + hit
            if follows:
                self.mode = Mode.SECTION
                return at + hit + FOOTER_BYTES
            hit = piece.find(footer, hit + 1)
        return max(at, end - FOOTER_BYTES + 1)

    def _can_follow(self, head: bytes) -> bool | None:
        """Whether a section can begin with `head`; None when that takes more bytes than there are."""
        if not head:
            return None
        kind = head[0]
        if kind == SECTION_EOF:
            return head[1] == VM_DESCRIPTION if len(head) > 1 else None
        if kind == VM_DESCRIPTION:
            return True
        if kind in (SECTION_START, SECTION_FULL):
            return None if len(head) < 7 else head[1] == 0 and head[5] > 0 and 0x20 <= head[6] < 0x7F
        if kind in (SECTION_PART, SECTION_END):
            return None if len(head) < 5 else int.from_bytes(head[1:5], "big") in self._sections
        if kind == VM_COMMAND:
            return None if len(head) < 3 else int.from_bytes(head[1:3], "big") <= COMMAND_MAX
        return False


def _take(view: memoryview, at: int, end: int, size: int) -> bytes:
    if end - at < size:
        raise _NeedsMoreError
    return bytes(view[at : at + size])


def _u32(view: memoryview, at: int, end: int) -> int:
    return int.from_bytes(_take(view, at, end, 4), "big")


def _name(view: memoryview, at: int, end: int) -> tuple[bytes, int]:
    """A length byte and that many printable characters; returns them and the position after."""
    size = _take(view, at, end, 1)[0]
    name = _take(view, at + 1, end, size)
    if not name or not all(0x20 <= char < 0x7F for char in name):
        raise _LostError
    return name, at + 1 + size


def _subsection_end(view: memoryview, at: int, end: int) -> int:
    """End of a subsection of the configuration; of other subsections nobody outside QEMU knows the length."""
    name, at = _name(view, at + 1, end)
    at += 4  # version
    match name:
        case b"configuration/target-page-bits":
            size = 4
        case b"configuration/uuid":
            size = 16
        case b"configuration/capabilities":
            count = _u32(view, at, end)
            at += 4
            if count > 255:
                raise _LostError
            for _ in range(count):
                _, at = _name(view, at, end)
            size = 0
        case _:
            raise _LostError
    _take(view, at, end, size)
    return at + size
