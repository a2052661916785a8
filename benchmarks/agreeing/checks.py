"""What must hold whatever the protocol; looked at after every step."""

from typing import TYPE_CHECKING

import msgspec

from actors.consensus.ready import Entry, Kind
from benchmarks.agreeing.machine import Command

if TYPE_CHECKING:
    from benchmarks.agreeing.world import World

_commands = msgspec.msgpack.Decoder(Command)


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


class Asked:
    """What is committed was asked for, and is there once."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def check(self, world: "World", entry: Entry) -> None:
        """Look at the next committed entry."""
        if entry.kind is not Kind.COMMAND:
            return
        command = _commands.decode(entry.payload)
        number = command.number
        if number == 0:
            return
        if number in self._numbers:
            raise Broken("once", f"operation {number} was committed twice")
        self._numbers.add(number)
        operation = world.operations[number - 1] if number <= len(world.operations) else None
        if operation is None or operation.command() != command:
            raise Broken("validity", f"nobody asked for {command}")
