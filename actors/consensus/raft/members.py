"""Who takes part, entry by entry: a change counts from where it stands in the log, committed or not."""

import msgspec

from actors.consensus.ready import Entry, Kind, Membership, Snapshot


def decode(payload: bytes) -> Membership | None:
    """The membership in an entry's payload; None if it is none that can be.

    Voters and learners are sorted, apart from each other, and there is at least one voter.
    """
    try:
        found = msgspec.msgpack.decode(payload, type=Membership)
    except msgspec.DecodeError:
        return None
    everybody = found.voters + found.learners
    if not found.voters or len(set(everybody)) < len(everybody) or min(everybody) < 1:
        return None
    if list(found.voters) != sorted(found.voters) or list(found.learners) != sorted(found.learners):
        return None
    return found


def encode(membership: Membership) -> bytes:
    """The payload of an entry that makes `membership` count."""
    return msgspec.msgpack.encode(membership)


class Members:
    """The memberships of a log, oldest first: the snapshot's and one for each change after it."""

    __slots__ = ("_changes",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._changes: list[tuple[int, Membership]] = [(snapshot.index, snapshot.membership)]

    @property
    def newest(self) -> Membership:
        """As of the log's end."""
        return self._changes[-1][1]

    @property
    def changed_at(self) -> int:
        """Index of the newest change; the snapshot's if there was none since."""
        return self._changes[-1][0]

    def at(self, index: int) -> Membership:
        """As of entry `index`."""
        for changed_at, membership in reversed(self._changes):
            if changed_at <= index:
                return membership
        raise AssertionError("older than the snapshot")

    def note(self, entry: Entry) -> None:
        """Take in an entry that was appended."""
        if entry.kind is Kind.MEMBERSHIP:
            membership = decode(entry.payload)
            assert membership is not None, "a change that can't be was let into the log"
            self._changes.append((entry.index, membership))

    def truncate(self, first: int) -> None:
        """Forget the changes from entry `first` on."""
        while len(self._changes) > 1 and self._changes[-1][0] >= first:
            self._changes.pop()

    def forget_before(self, index: int) -> None:
        """Entries up to `index` were compacted."""
        while len(self._changes) > 1 and self._changes[1][0] <= index:
            del self._changes[0]
