"""The tables of a content store: which block lies in which slot, how much it is worth, and who has to go for another.

Pure: arrays and kernels. They may lie in memory that several processes share; whoever changes them holds a lock.
"""

from typing import NamedTuple

import numpy as np

from actors.encoding.kernel import Bytes, Words, kernel, signed
from actors.encoding.keyed import DIGEST_WORDS
from actors.encoding.pages import WAYS, look_up, note

# The words of the header.
MAGIC = 0
SLOTS = 1
ID = 2
KEY = 4
SEQUENCE = 6
HAND = 7
FILLED = 8
HITS = 9
EVICTED = 10
DROPPED = 11
HEADER_WORDS = 16

MAGIC_WORD = 0x3345524F5453434E  # "NCSTORE3"
# How often the hand passes over a block: those that were used, and those that an operator asked for.
WORTH_MAX = 7
WORTH_PASSING = 0
WORTH_WANTED = 3
PROBES_MAX = 512
NOT_KEPT = -1


class Slots(NamedTuple):
    """Tables of a store: header, each slot's change number (0: never used), digest and worth, the index by digest."""

    header: Words
    changed: Words
    digests: Words
    worth: Bytes
    by_digest: Words

    @staticmethod
    def size(slots: int) -> int:
        """Bytes of the tables."""
        return 8 * HEADER_WORDS + 8 * slots + 8 * DIGEST_WORDS * slots + slots + 8 * Slots.entries(slots)

    @staticmethod
    def entries(slots: int) -> int:
        """Entries of the index."""
        return WAYS << max(0, (2 * slots // WAYS - 1).bit_length())

    @classmethod
    def over(cls, memory: memoryview, slots: int) -> "Slots":
        """The tables in `memory` of `size(slots)` bytes; `slots` is a multiple of 8."""
        at = 0
        tables: list[Words] = []
        for words in (HEADER_WORDS, slots, DIGEST_WORDS * slots, Slots.entries(slots)):
            tables.append(np.frombuffer(memory, np.uint64, words, at))
            at += 8 * words
        worth = np.frombuffer(memory, np.uint8, slots, at)
        return cls(tables[0], tables[1], tables[2].reshape(slots, DIGEST_WORDS), worth, tables[3])


@kernel
def place_of(slots: Slots, digest: Words) -> int:
    """The slot that holds the block with `digest`, or `NOT_KEPT`."""
    slot = look_up(slots.by_digest, digest[0])
    if 0 <= slot < len(slots.worth) and slots.digests[slot, 0] == digest[0] and slots.digests[slot, 1] == digest[1]:
        return slot
    return NOT_KEPT


@kernel
def next_slot(slots: Slots) -> int:
    """The slot to be used next: one never used, else where the clock's hand finds the least worth."""
    header = slots.header
    count = len(slots.worth)
    filled = signed(header[FILLED])
    if 0 <= filled < count:
        header[FILLED] = np.uint64(filled + 1)
        return filled
    slot = signed(header[HAND]) % count
    for _ in range(PROBES_MAX):
        if slots.worth[slot] == 0:
            break
        slots.worth[slot] -= np.uint8(1)
        slot = (slot + 1) % count
    header[HAND] = np.uint64((slot + 1) % count)
    header[EVICTED] += np.uint64(1)
    return slot


@kernel
def claim(slots: Slots, digests: Words, worth: int, evicts: bool, chosen: Words) -> int:
    """Give each of `digests` (n × 2) a slot in `chosen`, `len(worth)` for one that is there already or has no room.

    Without `evicts` only slots never used are given. Returns how many were. The caller then writes the blocks.
    """
    header = slots.header
    count = len(slots.worth)
    given = 0
    for i in range(len(digests)):
        chosen[i] = np.uint64(count)
        slot = place_of(slots, digests[i])
        if slot >= 0:
            slots.worth[slot] = max(slots.worth[slot], np.uint8(worth))
            continue
        if not evicts and signed(header[FILLED]) >= count:
            continue
        slot = next_slot(slots)
        header[SEQUENCE] += np.uint64(1)
        slots.changed[slot] = header[SEQUENCE]
        slots.digests[slot, 0] = digests[i, 0]
        slots.digests[slot, 1] = digests[i, 1]
        slots.worth[slot] = np.uint8(worth)
        note(slots.by_digest, digests[i, 0], slot)
        chosen[i] = np.uint64(slot)
        given += 1
    return given


@kernel
def use(slots: Slots, used: Words) -> None:
    """These slots' blocks were of use: they stay longer."""
    for i in range(len(used)):
        slot = signed(used[i])
        slots.worth[slot] = min(slots.worth[slot] + 1, WORTH_MAX)
    slots.header[HITS] += np.uint64(len(used))


@kernel
def drop(slots: Slots, slot: int) -> None:
    """Forget the block in `slot`."""
    header = slots.header
    header[SEQUENCE] += np.uint64(1)
    header[DROPPED] += np.uint64(1)
    slots.changed[slot] = header[SEQUENCE]
    slots.digests[slot, 0] = np.uint64(0)
    slots.digests[slot, 1] = np.uint64(0)
    slots.worth[slot] = np.uint8(0)
