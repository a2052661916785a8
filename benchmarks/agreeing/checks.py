"""What must hold whatever the protocol; looked at after every step."""

from actors.consensus.ready import Entry


class Broken(Exception):
    """A promise was broken: the name of it, then what was seen."""

    def __init__(self, promise: str, seen: str) -> None:
        self.promise = promise
        super().__init__(f"{promise}: {seen}")


class Ledger:
    """The entries that were committed, as the first member that said so had them.

    `top` is the last one that anybody knew to be committed, which a read that is asked for now must see.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.top = base
        self._entries: list[Entry] = []

    @property
    def last(self) -> int:
        """Index of the last entry that was handed out anywhere."""
        return self.base + len(self._entries)

    def entry(self, index: int) -> Entry:
        """A committed entry."""
        return self._entries[index - self.base - 1]

    def committed(self, member: int, entry: Entry) -> None:
        """A member was handed `entry` as committed."""
        at = entry.index - self.base - 1
        if at == len(self._entries):
            self._entries.append(entry)
            self.top = max(self.top, entry.index)
            return
        if at > len(self._entries):
            raise Broken("agreement", f"member {member} was handed {entry.index}, nobody the one before")
        ours = self._entries[at]
        if (ours.term, ours.kind, ours.payload) != (entry.term, entry.kind, entry.payload):
            raise Broken("agreement", f"member {member} has {entry} where another has {ours}")
