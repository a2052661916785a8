"""The settings of a Raft core. Times are in ticks, which the caller gives at a fixed rate."""

import msgspec


class Config(msgspec.Struct, frozen=True):
    """Every field's relation to the others is checked: `ValueError` says which is wrong. All members need the same."""

    election_ticks: int = 10
    """A follower that heard of no leader for so long (up to twice that, by chance) asks for votes; nobody votes for
    another within so long of having heard from a leader; and a leader that hears of no majority for so long resigns."""
    heartbeat_ticks: int = 2
    """A leader lets hear of itself every so often."""
    drift_pct: int = 20
    """The clock of no member runs faster than another's by more than this; leases are shortened accordingly."""
    snapshot_ticks: int = 100
    """A snapshot that a member has not confirmed after so long is sent again."""
    append_bytes: int = 1 << 20
    """Payload in one message, unless a single entry is longer."""
    append_entries: int = 1024
    """Entries in one message, and in one `Ready.committed`."""
    inflight: int = 64
    """Messages with entries on their way to one member."""
    entry_bytes: int = 1 << 20
    """Longest payload of an entry."""
    uncommitted_bytes: int = 16 << 20
    """Payload that a leader takes before it is committed."""
    reads: int = 4096
    """Reads that wait to be confirmed."""

    def __post_init__(self) -> None:
        """Check the relations."""
        if self.heartbeat_ticks < 1 or self.election_ticks < 3 * self.heartbeat_ticks:
            raise ValueError("heartbeat_ticks must be at least 1, election_ticks at least 3 × heartbeat_ticks")
        if not 0 <= self.drift_pct <= 100:
            raise ValueError("drift_pct must be between 0 and 100")
        if self.snapshot_ticks < self.election_ticks:
            raise ValueError("snapshot_ticks must be at least election_ticks")
        limits = (self.append_bytes, self.append_entries, self.inflight, self.entry_bytes, self.uncommitted_bytes)
        if min(*limits, self.reads) < 1:
            raise ValueError("every limit must be at least 1")

    @property
    def lease_ticks(self) -> int:
        """How long, in its own ticks, a leader may answer reads by itself after it sent what a majority confirmed.

        A follower counts a tick too many at worst (the message came just before one), and its clock may be the faster
        one by `drift_pct`; the leader counts one too few, so it stops one short.
        """
        return (self.election_ticks - 1) * 100 // (100 + self.drift_pct)
