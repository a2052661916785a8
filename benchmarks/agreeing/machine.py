"""The state machine on top: a few registers, and the commands that the clients give."""

import enum

import msgspec

from actors.consensus.ready import Entry, Kind
from benchmarks.agreeing.disk import State


class What(enum.IntEnum):
    """What a command does to its register."""

    PUT = 1
    SWAP = 2
    """Put if the register holds what the client expects."""
    GET = 3
    """Not a command: a read."""


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A client's command; `number` is the operation's."""

    number: int
    what: What
    key: int
    value: int
    expected: int = 0


_decoder = msgspec.msgpack.Decoder(Command)
encode = msgspec.msgpack.Encoder().encode


class Machine:
    """Registers by key; one that was never put holds 0. `applied` is the index of the last entry applied."""

    def __init__(self, state: State, applied: int) -> None:
        self.state = dict(state)
        self.applied = applied

    def apply(self, entry: Entry) -> bool:
        """Apply an entry; whether it did what its client wanted."""
        assert entry.index == self.applied + 1, "an entry was skipped or repeated"
        self.applied = entry.index
        if entry.kind is not Kind.COMMAND:
            return True
        command = _decoder.decode(entry.payload)
        if command.what is What.SWAP and self.state.get(command.key, 0) != command.expected:
            return False
        self.state[command.key] = command.value
        return True
