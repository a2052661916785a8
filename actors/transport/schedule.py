"""Which channel may send the next frame. Pure."""

from collections import deque
from collections.abc import Callable, Collection

PRIORITIES = 8
BULK_PRIORITY = 2
"""Guest memory and disks; below are peer calls and libvirt, which always go first."""
_RAISED = BULK_PRIORITY
"""Level of what was raised: behind libvirt, before all other bulk."""
_TURN_OF_THE_LAST = 16


class _Job:
    """The channels of one job on one level; `served` is its virtual time, in bytes."""

    def __init__(self) -> None:
        self.channels: deque[int] = deque()
        self.served = 0.0


def _served(named: tuple[str, _Job]) -> float:
    return named[1].served


class _Level:
    """Jobs of one level share it fairly, by bytes: start-time fair queueing (Goyal and others, 1996), weights equal."""

    def __init__(self) -> None:
        self.jobs: dict[str, _Job] = {}
        self._now = 0.0

    def pick(self, sendable: Callable[[int], bool], held: Collection[str]) -> tuple[str, int] | None:
        """(job, channel) whose turn it is: of the jobs that have something, the one that had least."""
        if not self.jobs:
            return None
        for name, job in sorted(self.jobs.items(), key=_served):
            if name in held:
                continue
            for _ in range(len(job.channels)):
                channel = job.channels[0]
                job.channels.rotate(-1)
                if sendable(channel):
                    return name, channel
        return None

    def spent(self, job: _Job, count_bytes: int) -> None:
        """`job` sent so much. Having been idle earns no credit: its time begins where the others are."""
        self._now = max(self._now, job.served)
        job.served = self._now + count_bytes


class Scheduler:
    """Lower level first; on a level jobs share fairly by bytes, and the channels of a job take turns.

    Levels are priorities 0 and 1, then what was raised, then priorities 2 to 7. Every 16th bulk frame goes to the
    *least* urgent bulk channel that waits: the memory of a busy guest can fill a link for minutes, and its disk writes,
    mirrored meanwhile, would time out if they got nothing at all.
    """

    def __init__(self) -> None:
        self._levels = [_Level() for _ in range(PRIORITIES + 1)]
        self._placed: dict[int, tuple[_Level, str]] = {}
        self._priorities: dict[int, int] = {}
        self._raised: set[str] = set()
        self._bulk_turns = 0

    def add(self, channel: int, priority: int, job: str = "") -> None:
        """Channel `channel` takes part with `priority` (0 to 7), for `job`; one that takes part is moved."""
        self.remove(channel)
        raised = job in self._raised and priority >= BULK_PRIORITY
        level = self._levels[_RAISED if raised else priority + (priority >= BULK_PRIORITY)]
        level.jobs.setdefault(job, _Job()).channels.append(channel)
        self._placed[channel] = (level, job)
        self._priorities[channel] = priority

    def remove(self, channel: int) -> None:
        """Channel `channel` is over; one that never took part is ignored."""
        if channel not in self._placed:
            return
        level, job = self._placed.pop(channel)
        del self._priorities[channel]
        level.jobs[job].channels.remove(channel)
        if not level.jobs[job].channels:
            del level.jobs[job]

    def job_of(self, channel: int) -> str:
        """The job of `channel`, '' if it has none."""
        return self._placed[channel][1] if channel in self._placed else ""

    def assign(self, channel: int, job: str) -> None:
        """From now on `channel` belongs to `job`."""
        if channel in self._placed:
            self.add(channel, self._priorities[channel], job)

    def raise_job(self, job: str, *, raised: bool) -> None:
        """Let the bulk channels of `job` go before all other bulk, those to come too; or no longer."""
        if raised:
            self._raised.add(job)
        else:
            self._raised.discard(job)
        for channel in [each for each, (_, owner) in self._placed.items() if owner == job]:
            self.assign(channel, job)

    def spent(self, channel: int, count_bytes: int) -> None:
        """`channel`, just picked, sent so much."""
        level, name = self._placed[channel]
        level.spent(level.jobs[name], count_bytes)

    def pick(self, sendable: Callable[[int], bool], *, bulk: bool, held: Collection[str] = ()) -> int | None:
        """The channel whose frame goes next, or None.

        Args:
            bulk: false leaves out guest memory and disks.
            held: jobs whose guest memory and disks wait, because of a cap of theirs.
        """
        for level in self._levels[:BULK_PRIORITY]:
            found = level.pick(sendable, ())
            if found is not None:
                return found[1]
        if not bulk:
            return None
        levels = self._levels[BULK_PRIORITY:]
        if self._bulk_turns % _TURN_OF_THE_LAST == _TURN_OF_THE_LAST - 1:
            levels.reverse()
        for level in levels:
            found = level.pick(sendable, held)
            if found is not None:
                self._bulk_turns += 1
                return found[1]
        return None
