"""Who waits at a member for what: entries to be agreed on, reads to be confirmed, answers from another member."""

from collections.abc import Callable

import msgspec

from actors.consensus.ready import Accepted, Entry, Kind, Read
from actors.control.model import Result


class Undecided(msgspec.Struct, frozen=True):
    """An entry was not agreed on; `doubt`: or it is not known whether it was, or still will be."""

    why: str
    doubt: bool = False


Decided = Callable[[Result | Undecided], None]
Seen = Callable[[int], None]
"""Told once the state here has all that was committed when it was asked; with 0 when nobody could tell."""


class Waiting:
    """Those of one member; each is told once at most. `key`s are given by the caller and never again."""

    def __init__(self) -> None:
        self._placed: dict[int, list[tuple[int, Decided]]] = {}
        self._unplaced: dict[bytes, list[Decided]] = {}
        self._passed: dict[int, Decided] = {}
        self._asked: dict[int, Seen] = {}
        self._confirming: dict[bytes, Seen] = {}
        self._until_applied: list[tuple[int, Seen]] = []

    # -- entries ------------------------------------------------------------------------------------------------------

    def joins(self, entry: bytes, decided: Decided) -> bool:
        """Whether this entry is proposed already, without a place; then `decided` is told with the others."""
        if entry not in self._unplaced:
            return False
        self._unplaced[entry].append(decided)
        return True

    def proposed(self, entry: bytes, answer: Accepted, decided: Decided) -> None:
        """The core has taken `entry`: at a place in the log, or (index 0) wherever it will be committed."""
        if answer.index:
            self._placed.setdefault(answer.index, []).append((answer.term, decided))
        else:
            self._unplaced[entry] = [decided]

    def passed_on(self, key: int, decided: Decided) -> None:
        """Another member was asked to have an entry agreed on."""
        self._passed[key] = decided

    def told(self, key: int, answer: Result | Undecided) -> None:
        """What the other member said."""
        decided = self._passed.pop(key, None)
        if decided is not None:
            decided(answer)

    def applied(self, entry: Entry, result: Result | None) -> None:
        """A committed entry had this result."""
        for term, decided in self._placed.pop(entry.index, ()):
            if term == entry.term and result is not None:
                decided(result)
            else:
                decided(Undecided("another leader's entry took its place"))
        if entry.kind is Kind.COMMAND and result is not None:
            for decided in self._unplaced.pop(entry.payload, ()):
                decided(result)

    # -- reads --------------------------------------------------------------------------------------------------------

    def asks(self, key: int, seen: Seen) -> None:
        """Another member was asked from which entry on a read is fresh."""
        self._asked[key] = seen

    def index_told(self, key: int, index: int, applied: int) -> None:
        """What the other member said."""
        seen = self._asked.pop(key, None)
        if seen is not None:
            self.once_applied(index, applied, seen)

    def confirms(self, context: bytes, seen: Seen) -> None:
        """The core was asked for a read."""
        self._confirming[context] = seen

    def unconfirmed(self, context: bytes) -> None:
        """The core did not take that read."""
        del self._confirming[context]

    def confirmed(self, read: Read) -> None:
        """The core says that a read may be answered."""
        seen = self._confirming.pop(read.context, None)
        if seen is not None:
            seen(read.index)

    def once_applied(self, index: int, applied: int, seen: Seen) -> None:
        """Tell `seen` when entry `index` is applied; `applied` is the newest that is."""
        if index <= applied:
            seen(index)
        else:
            self._until_applied.append((index, seen))

    def has_applied(self, applied: int) -> None:
        """Answer the reads whose entries are applied."""
        due = [each for each in self._until_applied if each[0] <= applied]
        self._until_applied = [each for each in self._until_applied if each[0] > applied]
        for index, seen in due:
            seen(index)

    # -- neither ------------------------------------------------------------------------------------------------------

    def forget(self, key: int) -> None:
        """Whoever asked another member under `key` waits no longer."""
        self._passed.pop(key, None)
        self._asked.pop(key, None)

    def overtaken(self, applied: int) -> None:
        """A state that came from elsewhere holds all entries up to `applied`: what was asked for there is not known."""
        placed = [at for at in self._placed if at <= applied]
        waiting = [decided for at in placed for _, decided in self._placed.pop(at)]
        waiting += self._without_place()
        for decided in waiting:
            decided(Undecided("this member was overtaken", doubt=True))
        self._none_confirmed()

    def over(self) -> None:
        """The protocol has changed, and what was not committed before never will be."""
        placed, self._placed = self._placed, {}
        waiting = [decided for each in placed.values() for _, decided in each]
        waiting += self._without_place()
        for decided in waiting:
            decided(Undecided("the log goes on in another protocol"))
        self._none_confirmed()

    def _without_place(self) -> list[Decided]:
        unplaced, self._unplaced = self._unplaced, {}
        return [decided for each in unplaced.values() for decided in each]

    def _none_confirmed(self) -> None:
        confirming, self._confirming = self._confirming, {}
        for seen in confirming.values():
            seen(0)
