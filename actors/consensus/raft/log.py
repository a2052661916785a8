"""The log as the core sees it: what is in the storage, and behind it what is yet to be written."""

from collections.abc import Sequence

from actors.consensus.raft.members import Members
from actors.consensus.raft.rules import Rules
from actors.consensus.ready import Entry, Kind, Snapshot
from actors.consensus.storage import Compacted, Storage


class Log:
    """Entries `_first` and later are in `_tail` only (or differ from the storage's); all earlier ones are on disk.

    `commit` is the last entry known to be committed, `handed` the last one given out, `switch` the place of a `SWITCH`
    entry (0: none).
    """

    __slots__ = ("_first", "_rules", "_safe", "_storage", "_tail", "commit", "handed", "members", "pending", "switch")

    def __init__(self, storage: Storage, applied: int, rules: Rules) -> None:
        snapshot, last = storage.snapshot(), storage.last()
        self._storage, self._rules = storage, rules
        self._first = last + 1
        self._tail: list[Entry] = []
        self._safe = last
        self.pending: Snapshot | None = None
        self.handed = max(snapshot.index, applied)
        self.commit = max(self.handed, storage.hard_state().commit)
        assert self.commit <= last, "the storage lost what was committed"
        assert storage.term(last) <= storage.hard_state().term, "the storage kept half of what was written at once"
        self.members = Members(snapshot)
        self.switch = 0
        for entry in storage.entries(snapshot.index + 1, last) if last > snapshot.index else ():
            self._note(entry)

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self._first + len(self._tail) - 1

    @property
    def last_term(self) -> int:
        """Its term."""
        if self._tail:
            return self._tail[-1].term
        term = self.term(self.last)
        assert term is not None, "a log without an end"
        return term

    @property
    def persisted(self) -> int:
        """Index of the last entry that is on disk as the core has it; a snapshot to be written counts as not there."""
        return self._first - 1 if self.pending is None else 0

    @property
    def base(self) -> Snapshot:
        """What stands for the entries before the first."""
        return self.pending or self._storage.snapshot()

    def term(self, index: int) -> int | None:
        """Term of entry `index`; None if it is not there, or compacted away."""
        at = index - self._first
        if at >= 0:
            return self._tail[at].term if at < len(self._tail) else None
        if self.pending is not None:
            return self.pending.term if index == self.pending.index else None
        try:
            return self._storage.term(index)
        except Compacted:
            return None

    def slice(self, first: int, last: int, size_max: int) -> tuple[Entry, ...]:
        """Entries `first` to at most `last`, both included: one at least, more up to `size_max` bytes of payload."""
        assert self.base.index < first <= last <= self.last, "no such entries"
        found: Sequence[Entry] = ()
        if first < self._first:
            found = self._storage.entries(first, min(last, self._first - 1))
        if last >= self._first:
            found = (*found, *self._tail[max(first - self._first, 0) : last - self._first + 1])
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.payload)
            if count and size > size_max:
                return tuple(found[:count])
        return tuple(found)

    def append(self, entries: Sequence[Entry]) -> None:
        """Put `entries` where their indices say; what stands there and after it goes."""
        first = entries[0].index
        assert self.commit < first <= self.last + 1, "a committed entry would go, or a gap would come"
        if first <= self.last:
            self.members.truncate(first)
            if first <= self.switch:
                self.switch = 0
            self._safe = min(self._safe, first - 1)
        if first < self._first:
            self._first = first
            self._tail = list(entries)
        else:
            self._tail[first - self._first :] = entries
        for entry in entries:
            self._note(entry)

    def restore(self, snapshot: Snapshot) -> None:
        """Let `snapshot` take the place of everything."""
        assert snapshot.index > self.commit, "a snapshot would take back what is committed"
        self.pending = snapshot
        self._first = snapshot.index + 1
        self._tail = []
        self._safe = 0
        self.commit = self.handed = snapshot.index
        self.members = Members(snapshot)
        self.switch = 0

    def commit_to(self, index: int) -> bool:
        """Take note that entry `index` is committed; whether that is news."""
        if index <= self.commit:
            return False
        assert index <= self.last, "an entry was committed that is not there"
        self.commit = index
        return True

    @property
    def has_unwritten(self) -> bool:
        """Whether there is anything to be written."""
        return bool(self._tail) or self.pending is not None

    def unwritten(self) -> tuple[Entry, ...]:
        """What is to be written now; `written` says when that is done."""
        self._safe = self.last
        return tuple(self._tail)

    def written(self, snapshot: Snapshot | None) -> None:
        """What the last `unwritten` gave, and `snapshot` before it, are on disk."""
        if snapshot is not None and self.pending is snapshot:
            self.pending = None
        count = self._safe - self._first + 1
        if self.pending is None and count > 0:
            del self._tail[:count]
            self._first += count
        self.members.forget_before(self._storage.snapshot().index)

    @property
    def has_news(self) -> bool:
        """Whether `hand_out` would give anything."""
        return self.handed < self._rules.hands_out(self.commit, self.switch)

    def hand_out(self, count_max: int, size_max: int) -> tuple[Entry, ...]:
        """Committed entries that were not given out before, up to a committed `SWITCH`."""
        if not self.has_news:
            return ()
        upto = self._rules.hands_out(self.commit, self.switch)
        found = self.slice(self.handed + 1, min(upto, self.handed + count_max), size_max)
        self.handed = found[-1].index
        return found

    def _note(self, entry: Entry) -> None:
        if entry.kind is Kind.SWITCH and not self.switch:
            self.switch = entry.index
        self.members.note(entry)
