"""A log in parts: each is agreed on by one protocol, and ends with the `SWITCH` entry after which the next begins.

Parts count from 0. Indices and terms go on from part to part.
"""

import enum
from typing import Any
from typing import Protocol as Interface

import msgspec

from actors.consensus.ready import Ready
from actors.consensus.storage import Storage


class Protocol(enum.IntEnum):
    """What a part is agreed on with."""

    RAFT = 1
    BFT = 2


class Tagged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of the core that has part `part`, in that part's protocol.

    None says only that its sender is in `part`. Whoever decodes it from a wire has the protocol from its own shelf; of
    a part that it doesn't have only the number counts.
    """

    part: int
    message: Any


class ChainReady(Ready[Tagged], frozen=True):
    """A `Ready` of the core that has part `part`: what is to be written goes to that part's storage.

    If `begins` isn't None the part is new: make a storage for it, in which `snapshot` is the state machine's state as
    it is now (all up to that index was applied), and remember the part's protocol with it, in the same transaction.
    The parts in `forgets` may be deleted, any time.
    """

    part: int = 0
    begins: Protocol | None = None
    forgets: tuple[int, ...] = ()


class Shelf(Interface):
    """Where a member's parts lie; the shell writes, as `ChainReady` says."""

    def parts(self) -> tuple[tuple[int, Protocol], ...]:
        """The parts that are kept, oldest first, without a gap; one at least.

        A founding member begins with part 0. One that joins later begins with a copy of the newest snapshot, with its
        state, of the newest part of a member that it trusts, and with that snapshot's term in its `HardState`.
        """

    def storage_of(self, part: int) -> Storage:
        """The log of a part that is kept. No snapshot may stand for the `SWITCH` entry: others may still need it."""


def switch_to(protocol: Protocol) -> bytes:
    """The payload of a `SWITCH` entry."""
    return bytes([protocol])


def switched_to(payload: bytes) -> Protocol | None:
    """What a `SWITCH` entry's payload asks for; None if that is nothing there is."""
    try:
        return Protocol(payload[0]) if len(payload) == 1 else None
    except ValueError:
        return None
