"""How one batch is laid out before compression: which ops there are and in which parts their operands lie.

The encoder writes and the decoder reads these parts, each one front to back: see ``docs/formats/hde.md``.
"""

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, kernel, signed

# What an op byte says (low bits) and its flags.
OP_RAW = 0
OP_ZERO_RECORD = 1
OP_LITERAL = 2
OP_ZERO_PAGE = 3
OP_REFERENCE = 4
OP_DELTA = 5
OP_FORK = 6
OP_STORE = 7
OPS_KNOWN = 8
OP_MASK = 0x07
WITH_HEADER = 0x08
JUMPS = 0x10

# The parts, in their order.
OPS = 0
JUMP_LIST = 1
NUMBERS = 2
RAW = 3
MASKS = 4
WORDS = 5
PAGES = 6
BLOCKS = 7
PARTS = 8

MASK_BYTES = PAGE_WORDS // 8
DELTA_WORDS_MAX = PAGE_WORDS // 2
VARINT_MAX_BYTES = 10


PartArrays = tuple[Bytes, ...]


class Parts:
    """Room for the parts of one batch of at most `batch_bytes`; `sizes` are the bytes used of each."""

    def __init__(self, batch_bytes: int) -> None:
        records = batch_bytes // 9 + 2
        rooms = [0] * PARTS
        rooms[OPS] = 2 * records
        rooms[JUMP_LIST] = VARINT_MAX_BYTES * records
        rooms[NUMBERS] = 2 * VARINT_MAX_BYTES * records
        rooms[RAW] = rooms[PAGES] = batch_bytes + PAGE_BYTES
        pages = batch_bytes // PAGE_BYTES + 1
        rooms[MASKS] = pages * MASK_BYTES
        rooms[WORDS] = pages * DELTA_WORDS_MAX * 8
        rooms[BLOCKS] = pages * VARINT_MAX_BYTES
        self.arrays: PartArrays = tuple(np.empty(room, np.uint8) for room in rooms)
        self.sizes = np.zeros(PARTS, np.int64)

    def used(self) -> list[memoryview]:
        """The bytes of each part, in order."""
        return [array.data[:size] for array, size in zip(self.arrays, self.sizes.tolist(), strict=True)]


@kernel
def put_varint(part: Bytes, at: int, signed: int) -> int:
    """Write `signed` zigzag in LEB128 at `at`; returns the position after."""
    value = np.uint64((signed << 1) ^ (signed >> 63))
    while value >= np.uint64(0x80):
        part[at] = np.uint8(value & np.uint64(0x7F)) | np.uint8(0x80)
        value >>= np.uint64(7)
        at += 1
    part[at] = np.uint8(value)
    return at + 1


@kernel
def get_varint(part: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read what `put_varint` wrote; returns (value, position after), position -1 when it does not end before `end`."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < end and shift < np.uint64(64):
        byte = np.uint64(part[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return signed(value >> np.uint64(1)) ^ -signed(value & np.uint64(1)), at
        shift += np.uint64(7)
    return 0, -1
