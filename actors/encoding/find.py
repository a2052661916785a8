"""The encoder's index of the far side's blocks, and the search in it: by 48 bits of a page's keyed digest."""

from typing import NamedTuple

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words, copy_bytes, copy_page, kernel, signed
from actors.encoding.keyed import DIGEST_WORDS, SCRATCH_WORDS, page_digest
from actors.encoding.pages import SLOT_MASK, is_zero
from actors.encoding.records import HEADER_BYTES, PAGE_RECORD, ZERO_RECORD

PRINT_BITS = 48
PRINT_MASK = np.uint64((1 << PRINT_BITS) - 1)
# A full stretch of the table this long hides a block; at half the entries in use that hardly ever happens by chance.
PROBES_MAX = 64
NO_BLOCK = -1
_32 = np.uint64(32)


class FarBlocks(NamedTuple):
    """The far side's blocks: each one's print by its number (0: none), and the table of numbers: print's lower half |
    number + 1, 0 when free.
    """

    prints: Words
    table: Words

    @classmethod
    def of(cls, blocks: int) -> "FarBlocks":
        """Room for the numbers below `blocks`: 24 to 40 bytes each."""
        entries = 1 << max(4, (2 * blocks - 1).bit_length())
        return cls(np.zeros(blocks, np.uint64), np.zeros(entries, np.uint64))


class Finds(NamedTuple):
    """What one batch refers to: the blocks' digests (the far side's key) and pages, in order."""

    digests: Words
    pages: Words

    @classmethod
    def of(cls, pages: int) -> "Finds":
        """Room for `pages`; memory is touched only as pages are found."""
        return cls(np.empty((pages, DIGEST_WORDS), np.uint64), np.empty((pages, PAGE_WORDS), np.uint64))


@kernel
def add_prints(prints: Words, first: int, far: FarBlocks) -> None:
    """Note `prints` as those of the blocks from number `first` on; of equal ones the first counts."""
    mask = len(far.table) - 1
    for i in range(len(prints)):
        mark = prints[i] & PRINT_MASK
        far.prints[first + i] = mark
        if mark == np.uint64(0):
            continue
        at = signed(mark >> np.uint64(16)) & mask
        for _ in range(PROBES_MAX):
            entry = far.table[at]
            if entry == np.uint64(0):
                far.table[at] = (mark << _32) | np.uint64(first + i + 1)
                break
            if entry >> _32 == mark & SLOT_MASK and far.prints[signed(entry & SLOT_MASK) - 1] == mark:
                break
            at = (at + 1) & mask


@kernel
def find_print(mark: np.uint64, far: FarBlocks) -> int:
    """The number of a block with this print, or `NO_BLOCK`."""
    mask = len(far.table) - 1
    at = signed(mark >> np.uint64(16)) & mask
    for _ in range(PROBES_MAX):
        entry = far.table[at]
        if entry == np.uint64(0):
            break
        if entry >> _32 == mark & SLOT_MASK:
            number = signed(entry & SLOT_MASK) - 1
            if far.prints[number] == mark:
                return number
        at = (at + 1) & mask
    return NO_BLOCK


@kernel
def find_pages(
    buffer: Bytes, start: int, offsets: Ints, kinds: Bytes, far: FarBlocks, key: Words, numbers: Ints, finds: Finds
) -> int:
    """For each record from `start` on: the far side's block that its page is, or `NO_BLOCK`; returns how many are.

    Pages of zeros are left alone.
    """
    page = np.empty(PAGE_WORDS, np.uint64)
    page_bytes = page.view(np.uint8)
    scratch = np.empty(SCRATCH_WORDS, np.uint64)
    digest = np.empty(DIGEST_WORDS, np.uint64)
    count = 0
    for i in range(len(offsets)):
        numbers[i] = NO_BLOCK
        if kinds[i] == ZERO_RECORD or offsets[i] < start:
            continue
        at = offsets[i] + HEADER_BYTES if kinds[i] == PAGE_RECORD else offsets[i]
        copy_bytes(page_bytes, 0, buffer, at, PAGE_BYTES)
        if is_zero(page):
            continue
        page_digest(page, key, scratch, digest)
        numbers[i] = find_print(digest[0] & PRINT_MASK, far)
        if numbers[i] != NO_BLOCK:
            finds.digests[count, 0] = digest[0]
            finds.digests[count, 1] = digest[1]
            copy_page(finds.pages[count], page)
            count += 1
    return count
