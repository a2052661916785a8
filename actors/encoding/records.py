"""RAM records inside one RAM section of QEMU's migration stream: found at memory speed, without copying.

A record is a big-endian u64 (page address | flags), for all but `CONTINUE` records the block's name, then what the
flags say: 4096 bytes of page, one fill byte, or an XBZRLE run.
"""

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, Bytes, Ints, Words, kernel, signed

FLAG_ZERO = 0x02
FLAG_MEM_SIZE = 0x04
FLAG_PAGE = 0x08
FLAG_EOS = 0x10
FLAG_CONTINUE = 0x20
FLAG_XBZRLE = 0x40
FLAG_MULTIFD_FLUSH = 0x200
FLAGS_MASK = 0xFFF

HEADER_BYTES = 8
ZERO_RECORD_BYTES = HEADER_BYTES + 1
PAGE_RECORD_BYTES = HEADER_BYTES + PAGE_BYTES
XBZRLE_PREFIX_BYTES = HEADER_BYTES + 3

# What a found record is. A body is a page whose header (with a block's name) is left to be carried as it stands.
ZERO_RECORD = 1
PAGE_RECORD = 2
PAGE_BODY = 3

# Why a scan stopped.
NEEDS_MORE = 0
OTHER_RECORD = 1

# Fields of the scan's cursor.
BLOCK_KEY = 0
LAST_ADDRESS = 1
ROUNDS = 2
CURSOR_FIELDS = 3


class Records:
    """Where records were found in a buffer: `offsets` of the header or body, `kinds`, `keys` of block and page.

    Only the first `count` entries mean anything. A key tells pages of one guest apart with 62 bits; it may collide.
    """

    def __init__(self, buffer_bytes: int) -> None:
        # No record is shorter than a zero page's, so a buffer can't hold more than this.
        room = buffer_bytes // ZERO_RECORD_BYTES + 1
        self.offsets = np.empty(room, np.int64)
        self.kinds = np.empty(room, np.uint8)
        self.keys = np.empty(room, np.uint64)
        self.count = 0

    def add(self, offset: int, kind: int, key: int) -> None:
        """Note one record that was found outside the fast scan."""
        self.offsets[self.count] = offset
        self.kinds[self.count] = kind
        self.keys[self.count] = key
        self.count += 1


@kernel
def load_header(buffer: Bytes, at: int) -> int:
    """The big-endian u64 at `at`, as int64 (addresses of guests stay far below 2^63)."""
    value = 0
    for i in range(8):
        value = (value << 8) | signed(buffer[at + i])
    return value


@kernel
def scan_records(
    buffer: Bytes, start: int, end: int, offsets: Ints, kinds: Bytes, keys: Words, count: int, cursor: Ints
) -> tuple[int, int, int]:
    """Walk `CONTINUE` records in ``buffer[start:end]``; returns (position, count of records, why it stopped)."""
    at = start
    why = NEEDS_MORE
    while end - at >= HEADER_BYTES:
        header = load_header(buffer, at)
        flags = header & FLAGS_MASK
        if flags == FLAG_PAGE | FLAG_CONTINUE:
            size = PAGE_RECORD_BYTES
            kind = PAGE_RECORD
        elif flags == FLAG_ZERO | FLAG_CONTINUE:
            size = ZERO_RECORD_BYTES
            kind = ZERO_RECORD
        elif flags == FLAG_XBZRLE | FLAG_CONTINUE:
            if end - at < XBZRLE_PREFIX_BYTES:
                break
            size = XBZRLE_PREFIX_BYTES + (signed(buffer[at + 9]) << 8) + signed(buffer[at + 10])
            kind = 0
            if buffer[at + 8] != 1 or size > PAGE_RECORD_BYTES + 3:
                why = OTHER_RECORD
                break
        elif header == FLAG_MULTIFD_FLUSH:
            at += HEADER_BYTES
            continue
        else:
            why = OTHER_RECORD
            break
        if end - at < size:
            break
        address = header - flags
        if address < cursor[LAST_ADDRESS]:
            cursor[ROUNDS] += 1
        cursor[LAST_ADDRESS] = address
        if kind == PAGE_RECORD or (kind == ZERO_RECORD and buffer[at + HEADER_BYTES] == 0):
            offsets[count] = at
            kinds[count] = kind
            keys[count] = np.uint64(cursor[BLOCK_KEY] ^ address)
            count += 1
        at += size
    return at, count, why
