"""Where a member's log lies: the protocol that cores read through, and the one in memory.

Only the shell writes, when a `Ready` says so; cores read. A storage holds what is durable and nothing else.
"""

from typing import Protocol

from actors.consensus.ready import Entry, HardState, Membership, Ready, Snapshot


class Compacted(Exception):
    """The log no longer holds this entry: a snapshot stands for it."""


class Storage(Protocol):
    """What a core reads. Indices run from `first` to `last` without a gap; `first` is `snapshot().index + 1`."""

    def hard_state(self) -> HardState:
        """The last one written; `HardState()` if there never was one."""

    def snapshot(self) -> Snapshot:
        """The newest snapshot.

        A founding member begins with one of index 1, term 0 and the members to begin with, so that who they are is part
        of the log; one that joins later begins with index 0, term 0 and no members, and gets all that from the others.
        """

    def last(self) -> int:
        """Index of the last entry; that of the snapshot if there is none after it."""

    def term(self, index: int) -> int:
        """Term of entry `index`, which is at least the snapshot's and at most `last`.

        Raises:
            Compacted: it is older than the snapshot.
        """

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries `first` to `last`, both included; `last` is at most `last()`.

        Raises:
            Compacted: `first` is not after the snapshot.
        """


class MemoryStorage:
    """A log in memory; also what a durable one is compared with in tests."""

    def __init__(self, founders: Membership | None = None) -> None:
        """A founding member's when `founders` are given, else that of a member that joins later."""
        self._hard_state = HardState()
        self._snapshot = Snapshot(index=1 if founders else 0, term=0, membership=founders or Membership(()))
        self._entries: list[Entry] = []

    @classmethod
    def loaded(cls, hard_state: HardState, snapshot: Snapshot, entries: tuple[Entry, ...]) -> "MemoryStorage":
        """A copy of what another storage holds; `entries` follow `snapshot` without a gap."""
        copy = cls()
        copy._hard_state, copy._snapshot, copy._entries = hard_state, snapshot, list(entries)
        return copy

    def hard_state(self) -> HardState:
        """See `Storage`."""
        return self._hard_state

    def snapshot(self) -> Snapshot:
        """See `Storage`."""
        return self._snapshot

    def last(self) -> int:
        """See `Storage`."""
        return self._snapshot.index + len(self._entries)

    def term(self, index: int) -> int:
        """See `Storage`."""
        at = index - self._snapshot.index
        if at == 0:
            return self._snapshot.term
        if at < 0:
            raise Compacted
        return self._entries[at - 1].term

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """See `Storage`."""
        base = self._snapshot.index
        if first <= base:
            raise Compacted
        assert last <= self.last(), "asked for entries that were never written"
        return tuple(self._entries[first - base - 1 : last - base])

    def write(self, ready: Ready) -> None:  # type: ignore[type-arg]  # messages are of no concern here
        """Make durable what `ready` names (its step 2)."""
        if ready.snapshot is not None:
            assert ready.snapshot.index > self._snapshot.index, "a snapshot goes back"
            self._snapshot = ready.snapshot
            self._entries = []
        if ready.entries:
            at = ready.entries[0].index - self._snapshot.index - 1
            assert 0 <= at <= len(self._entries), "a gap in the log"
            self._entries[at:] = ready.entries
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state

    def compact(self, snapshot: Snapshot) -> None:
        """Let `snapshot`, made by the state machine here, stand for the entries up to its index."""
        assert self._snapshot.index < snapshot.index <= self.last(), "nothing to compact"
        assert self.term(snapshot.index) == snapshot.term, "a snapshot of another log"
        del self._entries[: snapshot.index - self._snapshot.index]
        self._snapshot = snapshot
