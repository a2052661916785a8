"""Pairs of a recorded link and a guest, each moved once with every system."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.replaying.guests import GUESTS, MIB, WORK_BYTES_PER_S, Guest
from benchmarks.replaying.move import Ended, Move
from benchmarks.replaying.systems import Make
from benchmarks.replaying.traces import Recorded

WARM_S = 20.0
"""The link has been watched so long before the move begins, at most a quarter of the recording."""
FIRST_PASS = (20.0, 0.2)
"""How long the first pass takes about: seconds, or this share of the recording if that is less."""
MEMORY_MIB = (64, 8192)


class Pair(NamedTuple):
    """One recorded link and one guest, with how the move went by system."""

    recorded: Recorded
    guest: Guest
    memory_bytes: float
    ended: dict[str, Ended]


def pairs(recorded: list[Recorded], systems: Mapping[str, Make], pause_ms: int) -> Iterator[Pair]:
    """Every link with every guest. The same link, begin, guest and budget for each of the systems."""
    for one in recorded:
        for guest in GUESTS:
            memory_bytes = memory_for(guest, one)
            yield Pair(
                one, guest, memory_bytes,
                {name: play(one, guest, memory_bytes, make, pause_ms) for name, make in systems.items()},
            )  # fmt: skip


def memory_for(guest: Guest, one: Recorded) -> float:
    """Bytes of the guest: the power of two whose first pass takes about `FIRST_PASS` on this link."""
    link = one.link
    pass_s = min(FIRST_PASS[0], FIRST_PASS[1] * (link.ends_s - link.begins_s))
    left = (1.0 - guest.zero - guest.known) * (1.0 - 0.7 * guest.saves)  # what zstd leaves, about
    by_link = link.mean(link.begins_s, link.ends_s) / left
    by_work = WORK_BYTES_PER_S / (1.0 - guest.zero)
    least, most = MEMORY_MIB
    return float(min(max(2 ** round(math.log2(min(by_link, by_work) * pass_s / MIB)), least), most) * MIB)


def play(one: Recorded, guest: Guest, memory_bytes: float, make: Make, pause_ms: int) -> Ended:
    """One move, after the system has watched the link for `WARM_S`."""
    link = one.link
    system = make(link)
    warm_s = int(min(WARM_S, (link.ends_s - link.begins_s) / 4))
    for second in range(1, warm_s + 1):
        until_s = link.begins_s + second
        system.observe(until_s, link.mean(until_s - 1, until_s))
    return Move(guest, memory_bytes, link, system, pause_ms, link.begins_s + warm_s).run()
