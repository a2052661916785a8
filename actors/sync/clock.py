"""Hybrid logical clock (Kulkarni et al., 2014): close to wall time, and later than whatever was seen."""

from typing import Annotated

import msgspec
from msgspec import Meta

COUNT_MAX = 2**16 - 1
AHEAD_MS_MAX = 300_000
"""A stamp further ahead of our own clock is not believed: it would win against everybody until then."""


class Stamp(msgspec.Struct, frozen=True, array_like=True, order=True):
    """When a write was made: Unix milliseconds, a count within the millisecond, and the writer, which breaks ties."""

    wall_ms: Annotated[int, Meta(ge=0, le=2**48)]
    count: Annotated[int, Meta(ge=0, le=COUNT_MAX)]
    writer: Annotated[str, Meta(min_length=1, max_length=80)]


class Clock:
    """One writer's. Each stamp is above all that it gave or saw."""

    def __init__(self, writer: str) -> None:
        """`writer`: a name that was never used by one that lost its state since."""
        self.writer = writer
        self._last = (0, 0)

    def stamp(self, now_ms: int) -> Stamp:
        """A new stamp at wall time `now_ms`."""
        wall, count = self._last
        if now_ms > wall:
            self._last = (now_ms, 0)
        elif count < COUNT_MAX:
            self._last = (wall, count + 1)
        else:
            self._last = (wall + 1, 0)
        return Stamp(*self._last, self.writer)

    def saw(self, stamp: Stamp) -> None:
        """Give only later stamps from now on."""
        self._last = max(self._last, (stamp.wall_ms, stamp.count))


def too_far_ahead(stamp: Stamp, now_ms: int) -> bool:
    """True when the stamp can't be believed at `now_ms`."""
    return stamp.wall_ms > now_ms + AHEAD_MS_MAX
