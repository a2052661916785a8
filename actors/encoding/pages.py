"""The page ring: unique pages already sent, held alike by encoder and decoder, and the encoder's index into it.

Both sides append every literal page where the hand of a clock stands: a page that was referred to or changed since
the hand last passed is passed over once. A delta overwrites its page in place.

Only the encoder searches: by content (a 64-bit hash, then the bytes themselves are compared, so a collision costs
nothing) and by address (where this page's last version lies; only a hint, any base gives a correct delta).
"""

from typing import NamedTuple

import numpy as np

from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words, copy_page, kernel, signed

WAYS = 8
SLOT_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_PRIME_A = np.uint64(0x9E3779B185EBCA87)
_PRIME_B = np.uint64(0xC2B2AE3D27D4EB4F)
_29 = np.uint64(29)

# Ring state shared with the kernels: where the clock's hand stands, how many slots ever held a page.
HEAD = 0
FILLED = 1


class PageRing(NamedTuple):
    """Pages of 4 KiB as words. Memory is touched only as pages come, so an unused ring costs nothing.

    `used`: 1 for a page that was used since the hand passed. `writes`: how often a slot's page was set, modulo 256.
    """

    pages: Words
    state: Ints
    used: Bytes
    writes: Bytes

    @classmethod
    def of(cls, slots: int) -> "PageRing":
        """An empty ring."""
        return cls(
            np.empty((slots, PAGE_WORDS), np.uint64),
            np.zeros(2, np.int64),
            np.zeros(slots, np.uint8),
            np.zeros(slots, np.uint8),
        )

    @property
    def touched_bytes(self) -> int:
        """Memory in use."""
        return int(self.state[FILLED]) * PAGE_BYTES


class PageIndex(NamedTuple):
    """Where pages lie in a ring: 8-way tables by content and by address; each slot's content hash and owner's key."""

    by_content: Words
    by_address: Words
    content: Words
    owner: Words

    @classmethod
    def of(cls, slots: int) -> "PageIndex":
        """An empty index: at most 80 bytes a slot."""
        entries = WAYS << max(0, (2 * slots // WAYS - 1).bit_length())
        return cls(*(np.zeros(room, np.uint64) for room in (entries, entries, slots, slots)))


@kernel
def page_hash(page: Words) -> np.uint64:
    """A 64-bit hash of a page: four lanes, so that the multiplications overlap. Not for use against an adversary."""
    a = _PRIME_A
    b = _PRIME_B
    c = _PRIME_A ^ _PRIME_B
    d = np.uint64(1)
    for i in range(0, PAGE_WORDS, 4):
        a = (a ^ page[i]) * _PRIME_A
        b = (b ^ page[i + 1]) * _PRIME_A
        c = (c ^ page[i + 2]) * _PRIME_A
        d = (d ^ page[i + 3]) * _PRIME_A
        a ^= a >> _29
        b ^= b >> _29
        c ^= c >> _29
        d ^= d >> _29
    return mix(mix(a + b * _PRIME_B) + mix(c + d * _PRIME_B) * _PRIME_B)


@kernel
def mix(value: np.uint64) -> np.uint64:
    """Spread every bit over all 64."""
    value ^= value >> _32
    value *= _PRIME_B
    value ^= value >> _29
    value *= _PRIME_A
    return value ^ (value >> _32)


@kernel
def is_zero(page: Words) -> bool:
    """Whether every byte is 0; most other pages show it in the first words."""
    for i in range(0, PAGE_WORDS, 8):
        if (
            page[i] | page[i + 1] | page[i + 2] | page[i + 3] | page[i + 4] | page[i + 5] | page[i + 6] | page[i + 7]
        ) != np.uint64(0):
            return False
    return True


@kernel
def same(one: Words, other: Words) -> bool:
    """Whether two pages are equal, byte for byte."""
    for i in range(0, PAGE_WORDS, 8):
        differ = np.uint64(0)
        for j in range(8):
            differ |= one[i + j] ^ other[i + j]
        if differ != np.uint64(0):
            return False
    return True


@kernel
def look_up(table: Words, hashed: np.uint64) -> int:
    """The slot noted under `hashed`, or -1. 32 bits and the bucket agree; the caller checks the rest."""
    bucket = signed(hashed & np.uint64(len(table) // WAYS - 1)) * WAYS
    tag = hashed >> _32
    for way in range(WAYS):
        entry = table[bucket + way]
        if entry >> _32 == tag and entry & SLOT_MASK != np.uint64(0):
            return signed(entry & SLOT_MASK) - 1
    return -1


@kernel
def append(ring: PageRing, page: Words) -> int:
    """Put `page` into the first free slot, else where the hand comes to a page not used lately; returns the slot."""
    slots = len(ring.pages)
    slot: int = ring.state[HEAD]
    if ring.state[FILLED] < slots:
        ring.state[FILLED] = slot + 1
    else:
        while ring.used[slot]:
            ring.used[slot] = 0
            slot = (slot + 1) % slots
    ring.state[HEAD] = (slot + 1) % slots
    copy_page(ring.pages[slot], page)
    ring.used[slot] = 0
    ring.writes[slot] += np.uint8(1)
    return slot


@kernel
def replace(ring: PageRing, slot: int, page: Words) -> None:
    """Put `page` in the place of the one in `slot`."""
    copy_page(ring.pages[slot], page)
    ring.used[slot] = 1
    ring.writes[slot] += np.uint8(1)


@kernel
def note(table: Words, hashed: np.uint64, slot: int) -> None:
    """Note `slot` under `hashed`, first in its bucket; what stood under it before, or else what is oldest, goes."""
    bucket = signed(hashed & np.uint64(len(table) // WAYS - 1)) * WAYS
    tag = hashed >> _32
    last = WAYS - 1
    for way in range(WAYS):
        entry = table[bucket + way]
        if entry == np.uint64(0) or entry >> _32 == tag:
            last = way
            break
    for way in range(last, 0, -1):
        table[bucket + way] = table[bucket + way - 1]
    table[bucket] = (tag << _32) | np.uint64(slot + 1)
