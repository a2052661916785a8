"""A member's disk: what was written is there after a crash, what was being written may be, may not, or in part."""

from random import Random
from typing import Any

from actors.consensus.ready import Ready, Snapshot
from actors.consensus.storage import MemoryStorage

State = dict[int, int]
"""The state machine's: key to value."""


class Disk:
    """One transaction at a time: `begin`, then `finish` when it is durable, or `crash` at any moment.

    A crash leaves the transaction whole, absent, or torn: some of its records without the mark at its end. `recover`
    drops a torn one, as a log with checksums or SQLite's does; with `trusting` it wrongly keeps what is there.
    """

    def __init__(self, storage: MemoryStorage, trusting: bool = False) -> None:
        self.storage = storage
        self.image: State = {}
        self.torn = self.crashes = 0
        self._trusting = trusting
        self._writing: tuple[Ready[Any] | Snapshot, State | None] | None = None
        self._part: Ready[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a transaction is under way."""
        return self._writing is not None

    def begin(self, what: Ready[Any] | Snapshot, image: State | None) -> None:
        """Start to write what a core wants persisted, or to compact the log; `image` is a snapshot's state."""
        assert self._writing is None, "a second transaction"
        self._writing = (what, image)

    def finish(self) -> None:
        """It is durable."""
        assert self._writing is not None, "no transaction"
        (what, image), self._writing = self._writing, None
        if isinstance(what, Snapshot):
            self.storage.compact(what)
        else:
            self.storage.write(what)
        if image is not None:
            self.image = image

    def crash(self, chance: Random) -> None:
        """Stop, whatever is being written."""
        self.crashes += 1
        if self._writing is None:
            return
        what, fate = self._writing[0], chance.random()
        if fate < 0.3:
            self.finish()
        elif fate < 0.7 and isinstance(what, Ready) and what.snapshot is None and len(what.entries) > 0:
            self.torn += 1
            if chance.random() < 0.5:
                self._part = Ready(entries=what.entries[: chance.randrange(len(what.entries)) + 1])
            else:
                self._part = Ready(hard_state=what.hard_state)
        self._writing = None

    def recover(self) -> None:
        """Open the disk after a crash."""
        part, self._part = self._part, None
        if part is not None and self._trusting:
            self.storage.write(part)
