"""One member's copy of the state: entries in, results out; with what is counted and kept beside it."""

from actors.consensus.ready import Entry, Kind
from actors.control import engine, snapshot
from actors.control.decision import UNTOLD, Electorate
from actors.control.leases import Book
from actors.control.model import Audit, ControlState, Result
from actors.control.watch import History


class Replica:
    """The applied state, the events of late, the members' notes about leases, and the audit trail since the snapshot.

    Times are milliseconds of this member's own clock (CLOCK_BOOTTIME).
    """

    def __init__(self, state: bytes, index: int, now_ms: float) -> None:
        """Begin with the snapshot of entry `index`; a founding one has no bytes.

        Raises:
            StateCorrupt, SetupMissing: see `snapshot.decode`.
        """
        self.trail: list[Audit] = []
        self.book = Book()
        self.restore(snapshot.decode(state) if state else ControlState(applied=index), now_ms)

    def restore(self, state: ControlState, now_ms: float) -> None:
        """Go on from a state that came from elsewhere."""
        self.state = state
        self.history = History(state.revision)
        self.book.begin(state, now_ms)
        self.trail = []

    def apply(self, entry: Entry, now_ms: float, among: Electorate = UNTOLD) -> Result | None:
        """Apply a committed entry, on which `among` agreed; None for one that changes nothing here.

        Raises:
            SetupMissing: see `engine.apply`.
        """
        if entry.kind not in (Kind.COMMAND, Kind.EVIDENCE):
            engine.skip(self.state, entry.index)
            return None
        if entry.kind is Kind.COMMAND:
            applied = engine.apply(self.state, entry.index, entry.payload, among)
        else:
            applied = engine.exclude(self.state, entry.index, entry.payload)
        self.history.add(applied.events)
        for event in applied.events:
            self.book.applied(event, now_ms)
        if applied.audit is not None:
            self.trail.append(applied.audit)
        return applied.result
