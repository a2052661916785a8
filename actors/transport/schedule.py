"""Which channel may send the next frame. Pure."""

from collections import deque
from collections.abc import Callable

PRIORITIES = 8
BULK_PRIORITY = 2
"""Guest memory and disks; below are peer calls and libvirt, which always go first."""
_TURN_OF_THE_LAST = 16


class Scheduler:
    """Lower priority number first, round-robin among equals.

    Every 16th bulk frame goes to the *least* urgent bulk channel that waits: the memory of a busy guest can fill a link
    for minutes, and its disk writes, mirrored meanwhile, would time out if they got nothing at all.
    """

    def __init__(self) -> None:
        self._rings: list[deque[int]] = [deque() for _ in range(PRIORITIES)]
        self._bulk_turns = 0

    def add(self, channel: int, priority: int) -> None:
        """Channel `channel` takes part with `priority` (0 to 7)."""
        self._rings[priority].append(channel)

    def remove(self, channel: int, priority: int) -> None:
        """Channel `channel` is over."""
        self._rings[priority].remove(channel)

    def pick(self, sendable: Callable[[int], bool], *, bulk: bool) -> int | None:
        """The channel whose frame goes next, or None; `bulk` false leaves out guest memory and disks."""
        for ring in self._rings[:BULK_PRIORITY]:
            channel = _turn(ring, sendable)
            if channel is not None:
                return channel
        if not bulk:
            return None
        rings = self._rings[BULK_PRIORITY:]
        if self._bulk_turns % _TURN_OF_THE_LAST == _TURN_OF_THE_LAST - 1:
            rings.reverse()
        for ring in rings:
            channel = _turn(ring, sendable)
            if channel is not None:
                self._bulk_turns += 1
                return channel
        return None


def _turn(ring: deque[int], sendable: Callable[[int], bool]) -> int | None:
    for _ in range(len(ring)):
        channel = ring[0]
        ring.rotate(-1)
        if sendable(channel):
            return channel
    return None
