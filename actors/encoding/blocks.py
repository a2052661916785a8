"""Pages that are blocks of a disk image which both hosts have: the encoder's index of an image, and the search in it.

A guest's page cache holds blocks of its disks, so most pages of a guest may be there already, in a file at the target.
The index finds a block by its hash; the block itself is compared before it is referred to.
"""

from typing import NamedTuple

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words, copy_bytes, kernel, signed
from actors.encoding.pages import SLOT_MASK, is_zero, page_hash, same
from actors.encoding.records import PAGE_RECORD, ZERO_RECORD

# A full stretch of the table this long hides a block; at half the entries in use that hardly ever happens by chance.
PROBES_MAX = 64
NO_BLOCK = -1
_32 = np.uint64(32)


class BlockIndex(NamedTuple):
    """One image as words of 4 KiB blocks, and the table of its blocks: hash's upper half | block + 1, 0 when free."""

    blocks: Words
    table: Words

    @classmethod
    def of(cls, blocks: Words) -> "BlockIndex":
        """Index `blocks` (shape blocks × 512), 16 to 32 bytes a block; reads all of them."""
        table = np.zeros(1 << max(4, (2 * len(blocks) - 1).bit_length()), np.uint64)
        fill_table(blocks, table)
        return cls(blocks, table)


@kernel
def fill_table(blocks: Words, table: Words) -> None:
    """Note every block that is not zero; of equal ones the first."""
    page = np.empty(PAGE_WORDS, np.uint64)
    mask = len(table) - 1
    for block in range(len(blocks)):
        for i in range(PAGE_WORDS):
            page[i] = blocks[block, i]
        if is_zero(page):
            continue
        hashed = page_hash(page)
        at = signed(hashed) & mask
        for _ in range(PROBES_MAX):
            entry = table[at]
            if entry == np.uint64(0):
                table[at] = (hashed & ~SLOT_MASK) | np.uint64(block + 1)
                break
            if entry >> _32 == hashed >> _32:
                break
            at = (at + 1) & mask


@kernel
def find_block(page: Words, hashed: np.uint64, index: BlockIndex) -> int:
    """The block that is `page`, byte for byte, or `NO_BLOCK`."""
    mask = len(index.table) - 1
    at = signed(hashed) & mask
    for _ in range(PROBES_MAX):
        entry = index.table[at]
        if entry == np.uint64(0):
            break
        if entry >> _32 == hashed >> _32:
            block = signed(entry & SLOT_MASK) - 1
            return block if same(index.blocks[block], page) else NO_BLOCK
        at = (at + 1) & mask
    return NO_BLOCK


@kernel
def find_blocks(
    buffer: Bytes, start: int, offsets: Ints, kinds: Bytes, index: BlockIndex, first: int, found: Ints
) -> None:
    """For each record from `start` on that is still `NO_BLOCK` in `found`: the block in this image, plus `first`."""
    page = np.empty(PAGE_WORDS, np.uint64)
    page_bytes = page.view(np.uint8)
    for i in range(len(offsets)):
        if kinds[i] == ZERO_RECORD or offsets[i] < start or found[i] != NO_BLOCK:
            continue
        at = offsets[i] + 8 if kinds[i] == PAGE_RECORD else offsets[i]
        copy_bytes(page_bytes, 0, buffer, at, PAGE_BYTES)
        block = find_block(page, page_hash(page), index)
        if block != NO_BLOCK:
            found[i] = first + block
