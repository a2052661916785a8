"""The encoder's hot loop: pages found by the parser become ops and operands."""

from typing import NamedTuple

import numpy as np

from actors.encoding import layout as lay
from actors.encoding.find import NO_BLOCK
from actors.encoding.kernel import PAGE_BYTES, PAGE_WORDS, Bytes, Ints, Words, copy_bytes, kernel
from actors.encoding.pages import PageIndex, PageRing, append, is_zero, look_up, mix, note, page_hash, replace, same
from actors.encoding.records import HEADER_BYTES, PAGE_BODY, ZERO_RECORD, load_header


class LayersOn(NamedTuple):
    """Which layers may be used."""

    zero: bool
    dedupe: bool
    delta: bool


@kernel
def put_op(op: int, parts: lay.PartArrays, sizes: Ints) -> None:
    """Append one op."""
    parts[lay.OPS][sizes[lay.OPS]] = op
    sizes[lay.OPS] += 1


@kernel
def put_number(part: int, number: int, parts: lay.PartArrays, sizes: Ints) -> None:
    """Append a signed number to `part`."""
    sizes[part] = lay.put_varint(parts[part], sizes[part], number)


@kernel
def put_raw(buffer: Bytes, start: int, end: int, parts: lay.PartArrays, sizes: Ints) -> None:
    """Carry ``buffer[start:end]`` as it stands."""
    if end <= start:
        return
    put_op(lay.OP_RAW, parts, sizes)
    put_number(lay.NUMBERS, end - start, parts, sizes)
    at = sizes[lay.RAW]
    copy_bytes(parts[lay.RAW], at, buffer, start, end - start)
    sizes[lay.RAW] = at + end - start


@kernel
def put_jump(buffer: Bytes, at: int, due_page: int, parts: lay.PartArrays, sizes: Ints) -> tuple[int, int]:
    """Note the page that the record at `at` names, unless it is the one due; returns (op's flags, page due next)."""
    page_number = load_header(buffer, at) >> 12
    if page_number == due_page:
        return lay.WITH_HEADER, due_page + 1
    put_number(lay.JUMP_LIST, page_number - due_page, parts, sizes)
    return lay.WITH_HEADER | lay.JUMPS, page_number + 1


@kernel
def put_delta(base: Words, page: Words, parts: lay.PartArrays, sizes: Ints) -> bool:
    """Write which words of `page` differ from `base`, and those; False (nothing written) when they are too many."""
    masks = parts[lay.MASKS][sizes[lay.MASKS] : sizes[lay.MASKS] + lay.MASK_BYTES]
    words = parts[lay.WORDS].view(np.uint64)
    first = sizes[lay.WORDS] // 8
    at = first
    for group in range(lay.MASK_BYTES):
        mask = 0
        for bit in range(8):
            i = group * 8 + bit
            if page[i] != base[i]:
                if at - first == lay.DELTA_WORDS_MAX:
                    return False
                mask |= 1 << bit
                words[at] = page[i]
                at += 1
        masks[group] = mask
    sizes[lay.MASKS] += lay.MASK_BYTES
    sizes[lay.WORDS] = at * 8
    return True


@kernel
def keep(page: Words, hashed: np.uint64, key: np.uint64, ring: PageRing, index: PageIndex) -> None:
    """Append a page to the ring and note where it lies."""
    slot = append(ring, page)
    index.content[slot] = hashed
    index.owner[slot] = key
    note(index.by_content, hashed, slot)
    note(index.by_address, mix(key), slot)


@kernel
def code_page(
    page: Words,
    key: np.uint64,
    on: LayersOn,
    ring: PageRing,
    index: PageIndex,
    parts: lay.PartArrays,
    sizes: Ints,
) -> tuple[int, int]:
    """Find the cheapest op for a page that is not zero, and write a delta's words; returns (op, slot or -1)."""
    if not (on.dedupe or on.delta):
        return lay.OP_LITERAL, -1
    hashed = page_hash(page)
    place = mix(key)
    if on.dedupe:
        slot = look_up(index.by_content, hashed)
        if slot >= 0 and index.content[slot] == hashed and same(ring.pages[slot], page):
            if look_up(index.by_address, place) != slot:
                note(index.by_address, place, slot)
            ring.used[slot] = 1
            return lay.OP_REFERENCE, slot
    if on.delta:
        slot = look_up(index.by_address, place)
        if slot >= 0 and put_delta(ring.pages[slot], page, parts, sizes):
            if index.owner[slot] != key:
                # Other pages may still have the base's content: leave it and keep this one beside it.
                ring.used[slot] = 1
                keep(page, hashed, key, ring, index)
                return lay.OP_FORK, slot
            replace(ring, slot, page)
            index.content[slot] = hashed
            note(index.by_content, hashed, slot)
            return lay.OP_DELTA, slot
    keep(page, hashed, key, ring, index)
    return lay.OP_LITERAL, -1


@kernel
def condense(
    buffer: Bytes,
    start: int,
    end: int,
    offsets: Ints,
    kinds: Bytes,
    keys: Words,
    on: LayersOn,
    ring: PageRing,
    index: PageIndex,
    parts: lay.PartArrays,
    sizes: Ints,
    counts: Ints,
    blocks: Ints,
) -> None:
    """Code ``buffer[start:end]`` with the records found in it; those before `start` were sent already.

    `blocks` names, for each record, the far side's block that its page is, or `NO_BLOCK`; empty when it has none.
    """
    page = np.empty(PAGE_WORDS, np.uint64)
    page_bytes = page.view(np.uint8)
    for part in range(lay.PARTS):
        sizes[part] = 0
    for code in range(lay.OPS_KNOWN):
        counts[code] = 0
    at = start
    due_page = 0
    due_slot = 0
    due_block = 0
    for i in range(len(offsets)):
        kind = kinds[i]
        if offsets[i] < at or (kind == ZERO_RECORD and not on.zero):
            continue
        put_raw(buffer, at, offsets[i], parts, sizes)
        at = offsets[i]
        flags = 0
        if kind != PAGE_BODY:
            flags, due_page = put_jump(buffer, at, due_page, parts, sizes)
            at += HEADER_BYTES
        if kind == ZERO_RECORD:
            put_op(flags | lay.OP_ZERO_RECORD, parts, sizes)
            counts[lay.OP_ZERO_RECORD] += 1
            at += 1
            continue
        if len(blocks) > 0 and blocks[i] != NO_BLOCK:
            put_op(flags | lay.OP_STORE, parts, sizes)
            put_number(lay.BLOCKS, blocks[i] - due_block, parts, sizes)
            counts[lay.OP_STORE] += 1
            due_block = blocks[i] + 1
            at += PAGE_BYTES
            continue
        copy_bytes(page_bytes, 0, buffer, at, PAGE_BYTES)
        at += PAGE_BYTES
        if on.zero and is_zero(page):
            put_op(flags | lay.OP_ZERO_PAGE, parts, sizes)
            counts[lay.OP_ZERO_PAGE] += 1
            continue
        code, slot = code_page(page, keys[i], on, ring, index, parts, sizes)
        put_op(flags | code, parts, sizes)
        counts[code] += 1
        if code == lay.OP_LITERAL:
            out = sizes[lay.PAGES]
            copy_bytes(parts[lay.PAGES], out, page_bytes, 0, PAGE_BYTES)
            sizes[lay.PAGES] = out + PAGE_BYTES
        else:
            put_number(lay.NUMBERS, slot - due_slot, parts, sizes)
            due_slot = slot + 1
    put_raw(buffer, at, end, parts, sizes)
