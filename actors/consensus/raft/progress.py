"""What a leader knows of one member's log, and how much it has on the way there."""

import enum
from collections import deque


class Mode(enum.Enum):
    """How entries are sent."""

    PROBE = "probe"
    """Where the logs part is not known: one message, then wait for its answer or the next heartbeat."""
    REPLICATE = "replicate"
    """One message after the other without waiting, as many as may be on the way."""
    SNAPSHOT = "snapshot"
    """A snapshot is on the way: no entries until it is confirmed."""


class Progress:
    """One member. `match`: last entry known to be on its disk; `next`: first entry to send.

    `heard`: the newest stamp that it repeated (0: none in this term).
    """

    __slots__ = ("commit_sent", "heard", "match", "mode", "next", "on_way", "snapshot_at", "snapshot_index", "waits")

    def __init__(self, following: int) -> None:
        self.match = 0
        self.next = following
        self.mode = Mode.PROBE
        self.waits = False
        self.on_way: deque[int] = deque()
        self.snapshot_index = 0
        self.snapshot_at = 0
        self.heard = 0
        self.commit_sent = 0

    def may_send(self, inflight: int) -> bool:
        """Whether a message with entries may go out, `inflight` being how many may be on the way."""
        if self.mode is Mode.REPLICATE:
            return len(self.on_way) < inflight
        return self.mode is Mode.PROBE and not self.waits

    def sent(self, last: int) -> None:
        """Entries up to `last` are on their way."""
        assert last >= self.next, "nothing was sent"
        if self.mode is Mode.REPLICATE:
            self.next = last + 1
            self.on_way.append(last)
        else:
            self.waits = True

    def confirmed(self, index: int) -> bool:
        """The member has the leader's log up to `index`; whether that is news."""
        news = index > self.match
        if news:
            self.match = index
        self.next = max(self.next, self.match + 1)
        while self.on_way and self.on_way[0] <= index:
            self.on_way.popleft()
        if self.mode is Mode.PROBE or (self.mode is Mode.SNAPSHOT and self.match >= self.snapshot_index):
            self.mode = Mode.REPLICATE
            self.waits = False
            self.on_way.clear()
            self.next = self.match + 1
        return news

    def refused(self, prev_index: int, follow: int) -> bool:
        """It has no entry `prev_index` of that term; `follow` is the next one to try. False: an old answer."""
        if self.mode is Mode.SNAPSHOT or prev_index <= self.match:
            return False
        if self.mode is Mode.PROBE and prev_index != self.next - 1:
            return False
        self.mode = Mode.PROBE
        self.waits = False
        self.on_way.clear()
        self.next = max(min(follow, prev_index), self.match + 1)
        return True

    def snapshot_sent(self, index: int, now: int) -> None:
        """A snapshot that ends at `index` is on its way since tick `now`."""
        self.mode = Mode.SNAPSHOT
        self.snapshot_index, self.snapshot_at = index, now
        self.waits = False
        self.on_way.clear()

    def snapshot_lost(self) -> None:
        """It was not confirmed in time."""
        self.mode = Mode.PROBE
        self.next = self.match + 1
