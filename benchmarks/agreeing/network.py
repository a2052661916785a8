"""A network that loses, repeats, delays and reorders messages, and is cut in any direction."""

from collections.abc import Callable, Collection
from random import Random
from typing import Any

import msgspec

from benchmarks.agreeing.schedule import Schedule

Member = int


class Weather(msgspec.Struct, frozen=True):
    """How a message fares. Delays are uniform up to `delay_us_max`; a share `late` of messages takes ten times that."""

    loss: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    delay_us_min: int = 200
    delay_us_max: int = 2_000


CALM = Weather()


class Network:
    """Carries messages between members: `deliver(to, sender, message)` is called when one arrives."""

    def __init__(self, schedule: Schedule, chance: Random, deliver: Callable[[Member, Member, Any], None]) -> None:
        self.weather = CALM
        self.sent = self.lost = 0
        self._schedule, self._chance, self._deliver = schedule, chance, deliver
        self._cut: set[tuple[Member, Member]] = set()

    def send(self, sender: Member, to: Member, message: Any) -> None:
        """Send a message, as well as the weather lets."""
        weather, draw = self.weather, self._chance.random
        self.sent += 1
        if (sender, to) in self._cut or (weather.loss and draw() < weather.loss):
            self.lost += 1
            return
        copies = 2 if weather.twice and draw() < weather.twice else 1
        for _ in range(copies):
            spread = weather.delay_us_max * 10 if weather.late and draw() < weather.late else weather.delay_us_max
            delay_us = weather.delay_us_min + int(draw() * spread)
            self._schedule.after(delay_us, self._arrive, to, sender, message)

    def _arrive(self, to: Member, sender: Member, message: Any) -> None:
        if (sender, to) in self._cut:
            self.lost += 1
            return
        self._deliver(to, sender, message)

    def cut(self, senders: Collection[Member], receivers: Collection[Member]) -> None:
        """Let nothing pass from one to the other; the other way is another cut."""
        self._cut |= {(sender, to) for sender in senders for to in receivers if sender != to}

    def mend(self) -> None:
        """Undo every cut."""
        self._cut.clear()
