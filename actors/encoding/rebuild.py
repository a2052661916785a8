"""The decoder's hot loop: ops and operands become QEMU's bytes again. Trusts nothing: every access is checked."""

import numpy as np

from actors.encoding import layout as lay
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words, copy_bytes, copy_page, kernel, signed
from actors.encoding.pages import FILLED, PageRing, append, replace
from actors.encoding.records import FLAG_CONTINUE, FLAG_PAGE, FLAG_ZERO, HEADER_BYTES

# Which check failed.
OK = 0
OP_UNKNOWN = 1
RAW_TOO_LONG = 2
OUT_TOO_LONG = 3
NUMBER_CUT = 4
PAGES_CUT = 5
SLOT_EMPTY = 6
DELTA_CUT = 7
PARTS_LEFT = 8
OUT_TOO_SHORT = 9
BLOCKS_CUT = 10


@kernel
def take_number(part: int, payload: Bytes, cursors: Ints, ends: Ints) -> tuple[int, bool]:
    """The next signed number of `part`, and whether there was one."""
    number, after = lay.get_varint(payload, cursors[part], ends[part])
    if after < 0:
        return 0, False
    cursors[part] = after
    return number, True


@kernel
def put_header(
    op: int, due_page: int, payload: Bytes, cursors: Ints, ends: Ints, out: Bytes, at: int
) -> tuple[int, bool]:
    """Write a record's big-endian header at `at`; returns (the page that is due next, False when a jump is missing)."""
    if op & lay.JUMPS:
        jump, ok = take_number(lay.JUMP_LIST, payload, cursors, ends)
        if not ok:
            return 0, False
        due_page += jump
    flags = FLAG_ZERO if op & lay.OP_MASK == lay.OP_ZERO_RECORD else FLAG_PAGE
    value = (due_page << 12) | flags | FLAG_CONTINUE
    for i in range(8):
        out[at + i] = (value >> (56 - 8 * i)) & 0xFF
    return due_page + 1, True


@kernel
def put_zeros(out: Bytes, at: int, size: int) -> None:
    """``out[at:][:size] = 0``."""
    for i in range(at, at + size):
        out[i] = 0


@kernel
def apply_delta(page: Words, payload: Bytes, cursors: Ints, ends: Ints) -> bool:
    """Overwrite the words of `page` that the next mask names with the next words; False when there are too few."""
    mask_at = cursors[lay.MASKS]
    word_at = cursors[lay.WORDS]
    if ends[lay.MASKS] - mask_at < lay.MASK_BYTES:
        return False
    page_bytes = page.view(np.uint8)
    for group in range(lay.MASK_BYTES):
        mask = payload[mask_at + group]
        if mask == 0:
            continue
        for bit in range(8):
            if mask >> bit & 1:
                if ends[lay.WORDS] - word_at < 8:
                    return False
                copy_bytes(page_bytes, (group * 8 + bit) * 8, payload, word_at, 8)
                word_at += 8
    cursors[lay.MASKS] = mask_at + lay.MASK_BYTES
    cursors[lay.WORDS] = word_at
    return True


@kernel
def take_raw(payload: Bytes, cursors: Ints, ends: Ints, out: Bytes, at: int) -> int:
    """Copy the next raw bytes to ``out[at:]``; returns how many, 0 when something is wrong."""
    size, ok = take_number(lay.NUMBERS, payload, cursors, ends)
    raw_at = cursors[lay.RAW]
    if not ok or size <= 0 or size > len(out) - at or size > ends[lay.RAW] - raw_at:
        return 0
    copy_bytes(out, at, payload, raw_at, size)
    cursors[lay.RAW] = raw_at + size
    return size


@kernel
def take_page(
    code: int,
    page: Words,
    due_slot: int,
    payload: Bytes,
    block_pages: Bytes,
    cursors: Ints,
    ends: Ints,
    ring: PageRing,
    keeps: bool,
) -> tuple[int, int]:
    """Make the next page in `page` and keep it where the encoder does; returns (slot that comes next, failed check)."""
    if code == lay.OP_STORE:
        block_at = cursors[lay.BLOCKS]
        if ends[lay.BLOCKS] - block_at < PAGE_BYTES:
            return 0, BLOCKS_CUT
        copy_bytes(page.view(np.uint8), 0, block_pages, block_at, PAGE_BYTES)
        cursors[lay.BLOCKS] = block_at + PAGE_BYTES
        return due_slot, OK
    if code == lay.OP_LITERAL:
        page_at = cursors[lay.PAGES]
        if ends[lay.PAGES] - page_at < PAGE_BYTES:
            return 0, PAGES_CUT
        copy_bytes(page.view(np.uint8), 0, payload, page_at, PAGE_BYTES)
        cursors[lay.PAGES] = page_at + PAGE_BYTES
        if keeps:
            append(ring, page)
        return due_slot, OK
    jump, ok = take_number(lay.NUMBERS, payload, cursors, ends)
    slot = due_slot + jump
    if not ok or slot < 0 or slot >= ring.state[FILLED]:
        return 0, SLOT_EMPTY
    copy_page(page, ring.pages[slot])
    ring.used[slot] = 1
    if code != lay.OP_REFERENCE:
        if not apply_delta(page, payload, cursors, ends):
            return 0, DELTA_CUT
        if code == lay.OP_FORK:
            append(ring, page)
        else:
            replace(ring, slot, page)
    return slot + 1, OK


@kernel
def take_blocks(payload: Bytes, start: int, end: int, blocks: int, found: Ints) -> int:
    """Read the numbers of a batch's blocks into `found`; how many, -1 when one is cut or not below `blocks`."""
    count = 0
    due = 0
    at = start
    while at < end:
        jump, at = lay.get_varint(payload, at, end)
        block = due + jump
        if at < 0 or count == len(found) or block < 0 or block >= blocks:
            return -1
        found[count] = block
        due = block + 1
        count += 1
    return count


@kernel
def rebuild(
    payload: Bytes, starts: Ints, ends: Ints, ring: PageRing, keeps: bool, block_pages: Bytes, out: Bytes
) -> int:
    """Rebuild ``len(out)`` bytes from the parts of `payload`; returns `OK` or the check that failed.

    With `keeps` the ring mirrors the encoder's; without, the encoder has none. `block_pages` are the pages of the
    blocks that `take_blocks` found, back to back; their numbers are not looked at again.
    """
    page = np.empty(PAGE_WORDS, np.uint64)
    page_bytes = page.view(np.uint8)
    cursors = starts.copy()
    at = 0
    due_page = 0
    due_slot = 0
    # The numbers of blocks have become pages: those are used up like a part.
    cursors[lay.BLOCKS] = 0
    ends = ends.copy()
    ends[lay.BLOCKS] = len(block_pages)
    for op_at in range(starts[lay.OPS], ends[lay.OPS]):
        op = signed(payload[op_at])
        code = op & lay.OP_MASK
        if op > (lay.OP_MASK | lay.WITH_HEADER | lay.JUMPS):
            return OP_UNKNOWN
        if code == lay.OP_RAW:
            size = take_raw(payload, cursors, ends, out, at)
            if size == 0:
                return RAW_TOO_LONG
            at += size
            continue
        body = 1 if code == lay.OP_ZERO_RECORD else PAGE_BYTES
        header = HEADER_BYTES if op & lay.WITH_HEADER else 0
        if len(out) - at < header + body:
            return OUT_TOO_LONG
        if header:
            due_page, ok = put_header(op, due_page, payload, cursors, ends, out, at)
            if not ok:
                return NUMBER_CUT
            at += header
        if code in (lay.OP_ZERO_RECORD, lay.OP_ZERO_PAGE):
            put_zeros(out, at, body)
        else:
            due_slot, failed = take_page(code, page, due_slot, payload, block_pages, cursors, ends, ring, keeps)
            if failed != OK:
                return failed
            copy_bytes(out, at, page_bytes, 0, PAGE_BYTES)
        at += body
    for part in range(1, lay.PARTS):
        if cursors[part] != ends[part]:
            return PARTS_LEFT
    return OK if at == len(out) else OUT_TOO_SHORT
