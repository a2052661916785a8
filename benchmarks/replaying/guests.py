"""The guests of the replay: what their memory holds and how they write, with where each number was measured.

What memory holds is of ``novacron bench encoding`` (docs/benchmarks.md, guests of 512 MiB). Of a snapshot, "zero" alone
leaves 1 / ratio that is not zero; "store" (image known) leaves what is neither zero nor in the target's store; what
zstd-1 leaves of the rest is its ratio over this, 0.29 to 0.32 for all of them, as `actors/encoding/plan.py` has
it too. How guests write is of ``novacron bench migration``: its loads are defined by numbers. A page that is sent again
after 64 bytes of it changed takes 100 bytes (the delta layer, heavy load); one of redis its new kilobyte as well.
"""

from typing import NamedTuple

PAGE_BYTES = 4096
MIB = 1 << 20


class Guest(NamedTuple):
    """`zero` and `known`: shares of memory that cost nothing, or a reference; the rest is compressed.

    `saves`: what zstd takes from it, as a factor on the plan's table. `region_mib` are written at `pages_per_s`, and
    each page of it takes `again_bytes` when it is sent again.
    """

    name: str
    zero: float
    known: float
    saves: float
    region_mib: float
    pages_per_s: float
    again_bytes: float


GUESTS = (
    # idle: zero 1.2, store 5.5; load 64,2000,64.
    Guest("light", 1 - 1 / 1.2, 1 / 1.2 - 1 / 5.5, 1.0, 64, 2_000, 100),
    # The same memory under load 256,20000,64.
    Guest("heavy", 1 - 1 / 1.2, 1 / 1.2 - 1 / 5.5, 1.0, 256, 20_000, 100),
    # redis: zero 1.7, store 2.3; load kv: 2,000 SETs of 1,024 bytes a second over 64 MiB of values.
    Guest("kv", 1 - 1 / 1.7, 1 / 1.7 - 1 / 2.3, 1.0, 64, 2_000, 100 + 1024),
    # random: half of it from the kernel's random generator, so nothing to save there; 500 whole pages a second.
    Guest("random", 0.17, 0.33, 0.0, 256, 500, PAGE_BYTES),
)
REFERENCE_BYTES = 8.0
"""On the wire for each page that the target has: a block's number and 48 bits of its digest, before they are packed."""
FIXED_MS = 177.0
"""What a pause takes beside its pages: the round trips (77 ms at 50 ms) and 100 ms of the hosts."""
WORK_BYTES_PER_S = 110e6
"""Guest memory that the far end takes in, references among it."""
ON_ITS_WAY_BYTES = 1.5e6
"""On the wire's side of the encoder at most: a batch and what the kernel has not sent."""
