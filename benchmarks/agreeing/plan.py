"""What a seed makes of a run: how many members, which faults, how bad."""

from random import Random

import msgspec

from benchmarks.agreeing.network import Weather
from benchmarks.agreeing.node import TICK_US

FAULTS = (
    "isolate", "isolate-leader", "one-way", "pair", "split", "crash", "crash-leader", "crash-all", "coup", "members",
    "transfer",
)  # fmt: skip
"""What can be done to a group; `faults.py` says how."""


class Plan(msgspec.Struct, frozen=True):
    """One run. `fault_us`: a fault comes about that often; `write_us_max`: a transaction takes at most so long."""

    members: int
    faulty_us: int
    faults: tuple[str, ...]
    fault_us: int
    weather: Weather
    write_us_max: int
    compact_after: int
    clients: int
    keys: int
    pause_us: int
    drift: float

    def write_us(self, chance: Random) -> int:
        """How long the next transaction takes."""
        return 50 + int(chance.random() * self.write_us_max)


def draw_plan(seed: int) -> Plan:
    """The plan of `seed`."""
    chance = Random(seed)
    pick = chance.choice
    if chance.random() < 0.12:
        return _storm(chance)
    return Plan(
        members=pick((3, 3, 3, 3, 3, 5, 5, 4, 2, 1)),
        faulty_us=pick((80, 120, 160)) * TICK_US,
        faults=tuple(fault for fault in FAULTS if chance.random() < 0.5),
        fault_us=pick((6, 12, 25)) * TICK_US,
        weather=Weather(
            loss=pick((0.0, 0.0, 0.02, 0.1)),
            twice=pick((0.0, 0.02, 0.1)),
            late=pick((0.0, 0.02, 0.1)),
            delay_us_max=pick((1_000, 4_000, 15_000)),
        ),
        write_us_max=pick((200, 2_000, 15_000)),
        compact_after=pick((0, 4, 15)),
        clients=pick((2, 3, 4)),
        keys=pick((1, 2, 3)),
        pause_us=pick((1, 3, 6, 40)) * TICK_US,
        drift=pick((0.0, 0.1, 0.2)),
    )


def _storm(chance: Random) -> Plan:
    """One leader falls after the other as soon as it is elected: what is in one log alone is tried hard.

    In half of them each also takes a voter in or out at once, of four: two majorities that differ by one voter each
    from what they were need not meet.
    """
    weather = Weather(delay_us_max=chance.choice((4_000, 15_000)))
    changing = chance.random() < 0.5
    return Plan(
        members=4 if changing else 3,
        faulty_us=1200 * TICK_US,
        faults=("coup", "members") if changing else ("coup",),
        fault_us=8 * TICK_US,
        weather=weather,
        write_us_max=2_000,
        compact_after=0,
        clients=2,
        keys=1,
        pause_us=8 * TICK_US,
        drift=0.0,
    )
