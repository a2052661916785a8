"""What a target is, and the reader that turns fuzzed bytes into decisions."""

from collections.abc import Callable, Sequence

import msgspec


class Target(msgspec.Struct, frozen=True):
    """One thing to feed.

    `run` takes any bytes and returns; whatever it raises is a fault. `seeds` are inputs that get far; longer ones than
    `longest_bytes` are not tried.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    longest_bytes: int = 512


class Script:
    """Fuzzed bytes as a script: each question is answered by the next bytes, with zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def goes_on(self) -> bool:
        """True while there are bytes."""
        return self._at < len(self._data)

    def number(self, size: int = 1) -> int:
        """An integer of `size` bytes, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end."""
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
