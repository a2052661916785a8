"""Reads blocks of a file to where a batch wants them: in machine code, as scattered blocks are a system call each."""

from typing import Any

from numba.core import types

from actors.encoding.kernel import PAGE_BYTES, Bytes, Ints, kernel

# pread(2) by its name, not by its address: so the kernel can be kept on disk.
_pread: Any = types.ExternalFunction("pread", types.intp(types.intc, types.uintp, types.uintp, types.int64))


@kernel
def fetch_blocks(descriptor: int, blocks: Ints, places: Ints, pages: Bytes) -> None:
    """Read the `blocks` (by number) of a file to their `places` in `pages`, neighbours at once.

    A block that can't be read whole is filled with zeros.
    """
    first = 0
    while first < len(blocks):
        end = first + 1
        while end < len(blocks) and blocks[end] - blocks[first] == places[end] - places[first] == end - first:
            end += 1
        room = pages[places[first] * PAGE_BYTES : (places[first] + end - first) * PAGE_BYTES]
        got = _pread(descriptor, room.ctypes.data, len(room), blocks[first] * PAGE_BYTES)
        if got != len(room):
            room[max(0, got) // PAGE_BYTES * PAGE_BYTES :] = 0
        first = end
