"""The cores' messages as parcels: each fits into a frame, and is decoded as its part's protocol has it."""

from collections.abc import Iterator
from typing import Any

import msgspec

from actors.consensus.bft.messages import BftMessage, Links, Submit
from actors.consensus.chain.parts import Protocol, Tagged
from actors.consensus.raft.messages import Message as RaftMessage
from actors.control.parcels import Carry

_PAYLOADS_MAX = 2 << 20
"""Payloads in one message, at most, unless it is a single one: frames have room for twice as much."""
_NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Protocol, msgspec.msgpack.Decoder[Any]] = {
    Protocol.RAFT: msgspec.msgpack.Decoder(RaftMessage),
    Protocol.BFT: msgspec.msgpack.Decoder(BftMessage),
}


def packed(tagged: Tagged) -> Iterator[Carry]:
    """The parcels that carry a message; what is too long for one goes in several, or in part: the rest is asked for."""
    if tagged.message is None:
        yield Carry(_NOTHING, tagged.part)
        return
    for message in _fitting(tagged.message):
        yield Carry(msgspec.Raw(_encoder.encode(message)), tagged.part)


def unpacked(carry: Carry, protocol: Protocol | None) -> Tagged | None:
    """The message in a parcel. `protocol`: its part's, None if that isn't kept here: then only its number counts.

    None: it is no message of that protocol, which nobody honest sends.
    """
    if protocol is None or bytes(carry.message) == bytes(_NOTHING):
        return Tagged(carry.part, None)
    try:
        return Tagged(carry.part, _decoders[protocol].decode(carry.message))
    except (ValueError, RecursionError, OverflowError):
        return None


def _fitting(message: Any) -> Iterator[Any]:
    match message:
        case Submit(requests=requests, asks=asks) if len(requests) > 1:
            for group in _groups([len(request.payload) for request in requests]):
                yield Submit(requests[group], asks)
        case Links(links=links) if len(links) > 1:
            first = next(_groups([sum(len(each.payload) for each in link.block.requests) for link in links]))
            cut = first.stop < len(links)
            yield Links(links[first], links[first.stop].justify) if cut else message
        case _:
            yield message


def _groups(sizes: list[int]) -> Iterator[slice]:
    begins, total = 0, 0
    for at, size in enumerate(sizes):
        if at > begins and total + size > _PAYLOADS_MAX:
            yield slice(begins, at)
            begins, total = at, 0
        total += size
    yield slice(begins, len(sizes))
