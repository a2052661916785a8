"""A member's disk: what was written is there after a crash, what was being written may be, may not, or in part."""

from random import Random
from typing import Any

from actors.consensus.chain import Protocol
from actors.consensus.ready import Ready, Snapshot
from actors.consensus.storage import MemoryStorage

State = dict[int, int]
"""The state machine's: key to value."""


class Volume:
    """One part of a log, with the state that its snapshot stands for."""

    def __init__(self, storage: MemoryStorage, protocol: Protocol, image: State) -> None:
        self.storage, self.protocol, self.image = storage, protocol, image


class Disk:
    """One transaction at a time: `begin`, then `finish` when it is durable, or `crash` at any moment.

    A crash leaves the transaction whole, absent, or torn: some of its records without the mark at its end. `recover`
    drops a torn one, as a log with checksums or SQLite's does; with `trusting` it wrongly keeps what is there.
    """

    def __init__(self, volume: Volume, part: int = 0, trusting: bool = False) -> None:
        self.volumes = {part: volume}
        """By part, oldest first."""
        self.torn = self.crashes = 0
        self.trusting = trusting
        self._writing: tuple[Ready[Any] | Snapshot, State | None, int] | None = None
        self._begins: Protocol | None = None
        self._half: Ready[Any] | None = None

    @property
    def part(self) -> int:
        """The newest part."""
        return max(self.volumes)

    @property
    def storage(self) -> MemoryStorage:
        """The newest part's log."""
        return self.volumes[self.part].storage

    @property
    def image(self) -> State:
        """The state that the newest part's snapshot stands for."""
        return self.volumes[self.part].image

    def image_of(self, snapshot: Snapshot) -> State:
        """The state to send with `snapshot`; another one, which its digest will tell, if it isn't here."""
        kept = (volume for volume in self.volumes.values() if volume.storage.snapshot().index == snapshot.index)
        return dict(next(kept, self.volumes[self.part]).image)

    def parts(self) -> tuple[tuple[int, Protocol], ...]:
        """See `Shelf`."""
        return tuple((part, volume.protocol) for part, volume in sorted(self.volumes.items()))

    def storage_of(self, part: int) -> MemoryStorage:
        """See `Shelf`."""
        return self.volumes[part].storage

    @property
    def busy(self) -> bool:
        """Whether a transaction is under way."""
        return self._writing is not None

    def begin(
        self, what: Ready[Any] | Snapshot, image: State | None, part: int, begins: Protocol | None = None
    ) -> None:
        """Start to write what a core wants persisted in `part`, or to compact its log.

        `image` is a snapshot's state; `begins`: the part is new.
        """
        assert self._writing is None, "a second transaction"
        self._writing, self._begins = (what, image, part), begins

    def finish(self) -> None:
        """It is durable."""
        assert self._writing is not None, "no transaction"
        (what, image, part), self._writing = self._writing, None
        if self._begins is not None:
            self.volumes[part] = Volume(MemoryStorage(), self._begins, {})
        volume = self.volumes[part]
        if isinstance(what, Snapshot):
            volume.storage.compact(what)
        else:
            volume.storage.write(what)
        if image is not None:
            volume.image = image

    def forget(self, parts: tuple[int, ...]) -> None:
        """Delete parts."""
        for part in parts:
            del self.volumes[part]

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
                self._half = Ready(entries=what.entries[: chance.randrange(len(what.entries)) + 1])
            else:
                self._half = Ready(hard_state=what.hard_state)
        self._writing = None

    def recover(self) -> None:
        """Open the disk after a crash."""
        half, self._half = self._half, None
        if half is not None and self.trusting:
            self.storage.write(half)
