"""Events from a revision on, out of a bounded memory of the newest ones."""

from collections import deque

from actors.control.decision import Event
from actors.control.model import Lease

KEPT = 4096


class Compacted(Exception):
    """Events after that revision are forgotten: read the state, then watch from its revision."""


class History:
    """The newest events of one member. Renewals of leases are left out: they would drown the rest."""

    def __init__(self, revision: int) -> None:
        """Begin after `revision`: that of the state which was loaded."""
        self.floor = revision
        self._events: deque[Event] = deque()

    def add(self, events: tuple[Event, ...]) -> None:
        """Add the events of one entry."""
        self._events.extend(event for event in events if not _is_renewal(event))
        while len(self._events) > KEPT:
            self.floor = self._events[0].revision
            # What one entry changed is told whole or not at all.
            while self._events and self._events[0].revision == self.floor:
                self._events.popleft()

    def after(self, revision: int) -> list[Event]:
        """The events with a higher revision, oldest first.

        Raises:
            Compacted: some of them are forgotten.
        """
        if revision < self.floor:
            raise Compacted(f"events after revision {revision} are forgotten; {self.floor} is the oldest to go on from")
        return [event for event in self._events if event.revision > revision]


def _is_renewal(event: Event) -> bool:
    return isinstance(event.record, Lease) and event.record.renewal > 0 and event.record.state == "active"
