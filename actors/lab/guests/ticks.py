"""Reads the lab guests' console: ticks, gaps, the pause by the guest's own account, and whether its memory is intact.

A move leaves the first part of the console in the source's file and the rest in the target's, cut anywhere, even
inside a line: join the two texts before parsing. Lines end in ``*XX``, the XOR of all bytes before it.
"""

import re
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import xor

import msgspec

_LINE = re.compile(rb"nova (?P<body>[\x20-\x7e]*?) \*(?P<check>[0-9a-f]{2})(?=[\r\n]|$)")
_NUMBERS = 7


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """One tick. `monotonic_ns` and `realtime_ns` are the guest's clocks, which stand still while it is stopped.

    `host_edge_s`/`host_edge_ns`: the newest second of the host-driven CMOS clock and the guest's monotonic time when
    it began (0: none seen yet). `writes` and `verified` count since the guest's start.
    """

    seq: int
    monotonic_ns: int
    realtime_ns: int
    host_edge_s: int
    host_edge_ns: int
    writes: int
    verified: int
    ok: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a console says about its guest.

    ok: ticks were seen, none missing between the first and the last, all `OK`, and no fatal or corrupt line.
    `missing`: sequence numbers absent. `gap_ms_max`: longest time between neighbouring ticks on the guest's
    monotonic clock. `stopped_ms`: time that passed for the host but not for the guest between the first and last
    tick, i.e. all its pauses together; -1 if too few clock edges were seen.
    """

    ok: bool
    ticks: int
    missing: int
    verified: int
    gap_ms_max: float
    stopped_ms: float
    problems: list[str]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Two neighbouring ticks more than a limit apart."""

    after_seq: int
    guest_ms: float


def lines(console: bytes) -> list[str]:
    """The workload's undamaged lines in order, without prefix and check."""
    found = []
    for match in _LINE.finditer(console):
        whole = b"nova " + match["body"]
        if reduce(xor, whole, 0) == int(match["check"], 16):
            found.append(match["body"].decode("ascii"))
    return found


def parse_ticks(console: bytes) -> list[Tick]:
    """Every undamaged tick in order; anything else on the console is skipped."""
    ticks = (_tick(line) for line in lines(console) if line.startswith("t "))
    return [tick for tick in ticks if tick is not None]


def _tick(line: str) -> Tick | None:
    words = line.split()[1:]
    if len(words) != _NUMBERS + 1 or not all(w.isdigit() for w in words[:-1]) or words[-1] not in ("OK", "CORRUPT"):
        return None
    seq, monotonic, realtime, edge_s, edge_ns, writes, verified = (int(word) for word in words[:-1])
    return Tick(
        seq=seq, monotonic_ns=monotonic, realtime_ns=realtime, host_edge_s=edge_s, host_edge_ns=edge_ns,
        writes=writes, verified=verified, ok=words[-1] == "OK",
    )  # fmt: skip


def gaps(ticks: Sequence[Tick], over_ms: float) -> list[Gap]:
    """Neighbouring ticks more than `over_ms` apart on the guest's monotonic clock."""
    found = [Gap(after_seq=a.seq, guest_ms=(b.monotonic_ns - a.monotonic_ns) / 1e6) for a, b in pairwise(ticks)]
    return [gap for gap in found if gap.guest_ms > over_ms]


def stopped_ms(ticks: Sequence[Tick], edges: int = 5) -> float:
    """Milliseconds in which the host's clock ran and the guest's stood still, between the first and last ticks.

    An edge is never seen early, only late (by the guest's own scheduling): of the first and the last `edges` edges
    the earliest-seen one counts. -1 when fewer than two edges were seen.
    """
    seen = {tick.host_edge_s: tick.host_edge_ns for tick in ticks if tick.host_edge_s}
    if len(seen) < 2:
        return -1.0
    offsets = [second * 1_000_000_000 - at for second, at in sorted(seen.items())]
    each = min(edges, len(offsets) // 2)
    return (max(offsets[-each:]) - max(offsets[:each])) / 1e6


def verdict(console: bytes) -> Verdict:
    """Judge a guest by its whole console (source's part first, then the target's)."""
    said = lines(console)
    ticks = parse_ticks(console)
    problems = [line for line in said if line.startswith(("corrupt ", "fatal "))]
    problems += [f"tick {tick.seq} says CORRUPT" for tick in ticks if not tick.ok][:1]
    numbers = [tick.seq for tick in ticks]
    if any(b <= a for a, b in pairwise(numbers)):
        problems.append("ticks go backwards: the guest ran twice, or restarted")
    missing = numbers[-1] - numbers[0] + 1 - len(set(numbers)) if numbers else 0
    if missing > 0:
        problems.append(f"{missing} ticks are missing")
    if not ticks:
        problems.append("no ticks")
    return Verdict(
        ok=not problems,
        ticks=len(ticks),
        missing=max(missing, 0),
        verified=ticks[-1].verified if ticks else 0,
        gap_ms_max=max((gap.guest_ms for gap in gaps(ticks, 0.0)), default=0.0),
        stopped_ms=stopped_ms(ticks),
        problems=problems,
    )
