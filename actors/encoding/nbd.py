"""Finds the blocks of a disk in what an NBD client writes, however that is cut into pieces.

The protocol (NetworkBlockDevice's ``doc/proto.md``): the client's flags, its options, then requests, of which those
that write bring data. Data is cut where the disk's own blocks of 4 KiB begin. As with QEMU's stream nothing that is
found is trusted, and every other byte is carried as it stands: a wrong guess costs ratio, never bytes. What is no NBD,
or is encrypted after STARTTLS, passes through whole.
"""

import enum
import struct

import numpy as np

from actors.encoding import records as rec
from actors.encoding.kernel import PAGE_BYTES, Bytes
from actors.encoding.records import Records

# What each message of the client begins with.
OPTION_MAGIC = b"IHAVEOPT"
REQUEST_MAGIC = 0x25609513
EXTENDED_REQUEST_MAGIC = 0x21E41C71
_MAGICS = (int.from_bytes(OPTION_MAGIC[:4], "big"), REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC)

# magic, option, length
_OPTION = struct.Struct(">8sII")
# magic, flags, type, cookie, offset, length
_REQUEST = struct.Struct(">IHHQQI")
_EXTENDED_REQUEST = struct.Struct(">IHHQQQ")
_MAGIC_BYTES = 4
WRITE = 1
# Of an extended request: as many bytes of data follow as its length says.
FLAG_PAYLOAD = 1 << 5
CLIENT_FLAGS_MAX = 3


class Mode(enum.Enum):
    """What the parser expects next."""

    FLAGS = "flags"
    MESSAGE = "message"
    SKIP = "skip"
    DATA = "data"
    GIVEN_UP = "given up"


class NbdParser:
    """Parser of what the client of one connection writes; see `actors.encoding.parser.Parser`."""

    def __init__(self) -> None:
        self.mode = Mode.FLAGS
        self.rounds = 0
        self._left_bytes = 0
        self._offset = 0

    def parse(self, buffer: Bytes, end: int, found: Records) -> int:
        """Parse ``buffer[:end]``, which begins where the last call stopped, and note the disk's blocks in `found`.

        Returns how many bytes are done with; the rest, less than a block, must come again, with more.
        """
        found.count = 0
        at = 0
        view = buffer.data
        while at < end:
            step = self._step(view, at, end, found)
            if step == at:
                break
            at = step
        return at

    def _step(self, view: memoryview, at: int, end: int, found: Records) -> int:
        """The position after what lies at `at`; `at` itself when more must come first."""
        match self.mode:
            case Mode.DATA:
                return self._data(at, end, found)
            case Mode.SKIP:
                return self._pass(at, end, self._left_bytes)
            case Mode.GIVEN_UP:
                return end
        if end - at < _MAGIC_BYTES:
            return at
        magic = int.from_bytes(view[at : at + _MAGIC_BYTES], "big")
        if self.mode is Mode.FLAGS and magic <= CLIENT_FLAGS_MAX:
            self.mode = Mode.MESSAGE
            return at + _MAGIC_BYTES
        # A client of the oldest kind sends no flags.
        self.mode = Mode.MESSAGE if magic in _MAGICS else Mode.GIVEN_UP
        return self._message(magic, view[at:end], at) if self.mode is Mode.MESSAGE else end

    def _message(self, magic: int, view: memoryview, at: int) -> int:
        extended = magic == EXTENDED_REQUEST_MAGIC
        layout = _EXTENDED_REQUEST if extended else _REQUEST if magic == REQUEST_MAGIC else _OPTION
        if len(view) < layout.size:
            return at
        if layout is _OPTION:
            name, _, length = _OPTION.unpack_from(view)
            self._expect(Mode.SKIP if name == OPTION_MAGIC else Mode.GIVEN_UP, length)
            return at + layout.size
        _, flags, kind, _, self._offset, length = layout.unpack_from(view)
        if kind == WRITE:
            self._expect(Mode.DATA, length)
        elif extended and flags & FLAG_PAYLOAD:
            self._expect(Mode.SKIP, length)
        return at + layout.size

    def _expect(self, mode: Mode, size: int) -> None:
        self._left_bytes = size
        self.mode = mode if size or mode is Mode.GIVEN_UP else Mode.MESSAGE

    def _data(self, at: int, end: int, found: Records) -> int:
        before = -self._offset % PAGE_BYTES
        if before or self._left_bytes < PAGE_BYTES:
            return self._pass(at, end, before or self._left_bytes)
        blocks = min(self._left_bytes, end - at) // PAGE_BYTES
        first, last = found.count, found.count + blocks
        found.offsets[first:last] = np.arange(at, at + blocks * PAGE_BYTES, PAGE_BYTES)
        found.kinds[first:last] = rec.PAGE_BODY
        found.keys[first:last] = np.arange(blocks, dtype=np.uint64) + np.uint64(self._offset // PAGE_BYTES)
        found.count = last
        return self._pass(at, end, blocks * PAGE_BYTES)

    def _pass(self, at: int, end: int, size: int) -> int:
        """Go on by `size` bytes of data, as far as they are here and belong to it."""
        step = min(size, self._left_bytes, end - at)
        self._offset += step
        self._expect(self.mode, self._left_bytes - step)
        return at + step
