"""What the clients asked for, when, and what they were told."""

import enum
from collections.abc import Callable

from benchmarks.agreeing.machine import Command, What


class Fate(enum.Enum):
    """What became of an operation, as its client knows it."""

    OPEN = "open"
    """No answer: it may take effect at any time, or never."""
    DONE = "done"
    LOST = "lost"
    """It certainly never takes effect."""


class Operation:
    """One operation on one register. `result`: the value read; for a swap, 1 if it took place, else 0."""

    __slots__ = (
        "asked_us",
        "client",
        "done_us",
        "expected",
        "fate",
        "floor",
        "key",
        "number",
        "result",
        "then",
        "value",
        "what",
    )

    def __init__(self, number: int, client: int, what: What, key: int, value: int, expected: int, now_us: int) -> None:
        self.number, self.client = number, client
        self.what, self.key, self.value, self.expected = what, key, value, expected
        self.asked_us = now_us
        self.done_us = 0
        self.result = 0
        self.fate = Fate.OPEN
        self.floor = 0
        self.then: Callable[[Operation], None] | None = None

    def command(self) -> Command:
        """What it asks for."""
        return Command(self.number, self.what, self.key, self.value, self.expected)

    def end(self, fate: Fate, result: int, now_us: int) -> None:
        """Tell the client."""
        assert self.fate is Fate.OPEN, "an operation ended twice"
        self.fate, self.result, self.done_us = fate, result, now_us
        if self.then is not None:
            self.then(self)

    def __repr__(self) -> str:
        call = f"{self.what.name.lower()} {self.key}"
        if self.what is What.SWAP:
            call += f" {self.expected}→{self.value}"
        elif self.what is What.PUT:
            call += f" {self.value}"
        return f"#{self.number} client {self.client}: {call}: {self.fate.value} {self.result}"
