"""What members send each other, and its frames: length (u32, big endian), then `Parcel` in msgpack.

One way: a parcel may be lost, late, repeated or overtaken. Who sends one is known from the channel it came by, which
the transport gives to one peer only, the one with that name in its certificate.
"""

import struct

import msgspec

from actors.consensus.chain.choice import LinkMode
from actors.control.model import Result
from actors.errors import StreamCorrupt

FRAME_MAX_BYTES = 4 << 20
PIECE_BYTES = 256 << 10
_LENGTH = struct.Struct("!I")


class Carry(msgspec.Struct, frozen=True, tag="raft", array_like=True):
    """A message of the consensus core that has `part`, as `wire.py` packs it."""

    message: msgspec.Raw
    part: int = 0


class AskIndex(msgspec.Struct, frozen=True, tag="index?", array_like=True):
    """From which entry on does a read see all that is committed? Asked of the leader."""

    id: int


class IndexIs(msgspec.Struct, frozen=True, tag="index", array_like=True):
    """The answer; 0: the asked one can't tell."""

    id: int
    index: int


class AskEntry(msgspec.Struct, frozen=True, tag="entry?", array_like=True):
    """Have this entry agreed on. Asked of the leader."""

    id: int
    entry: bytes


class EntryIs(msgspec.Struct, frozen=True, tag="entry", array_like=True):
    """The answer; without a result the entry was not agreed on, or (`doubt`) that is not known."""

    id: int
    result: Result | None
    doubt: bool = False
    why: str = ""


class AskState(msgspec.Struct, frozen=True, tag="state?", array_like=True):
    """The bytes of the snapshot of entry `index`, from `offset` on."""

    index: int
    offset: int


class StateIs(msgspec.Struct, frozen=True, tag="state", array_like=True):
    """A piece of them; `total_bytes` -1: that snapshot is no longer there."""

    index: int
    offset: int
    total_bytes: int
    piece: bytes = b""


class ModesAre(msgspec.Struct, frozen=True, tag="modes", array_like=True):
    """The modes of the sender's links to other members, by their numbers."""

    modes: dict[int, LinkMode]


Parcel = ModesAre | Carry | AskIndex | IndexIs | AskEntry | EntryIs | AskState | StateIs


class Sheet(msgspec.Struct, frozen=True, array_like=True):
    """One parcel of the cluster that was founded as `founding`; what is of another is dropped.

    `sender` and `to` are numbers of members: a node may be a member anew under another one, and what the old one said
    or was told must not count for the new one. 0: from a program that did not say it yet.
    """

    founding: bytes
    parcel: Parcel
    sender: int = 0
    to: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Sheet)


def frame(founding: bytes, parcel: Parcel, sender: int = 0, to: int = 0) -> bytes:
    """The bytes of one parcel on a stream."""
    raw = _encoder.encode(Sheet(founding, parcel, sender, to))
    return _LENGTH.pack(len(raw)) + raw


class Frames:
    """Takes a stream apart."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Sheet]:
        """The parcels that are complete with `data`.

        Raises:
            StreamCorrupt: what comes is no parcel, or longer than one can be.
        """
        self._rest += data
        found, at = [], 0
        while len(self._rest) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, at)
            if not 0 < length <= FRAME_MAX_BYTES:
                raise StreamCorrupt(reason=f"a member's message of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._rest) < end:
                break
            try:
                # A copy, since a part of it is decoded only later.
                found.append(_decoder.decode(bytes(self._rest[at + _LENGTH.size : end])))
            except (ValueError, RecursionError, OverflowError) as error:
                raise StreamCorrupt(reason=f"a member's message: {error}") from error
            at = end
        del self._rest[:at]
        return found
