"""Committed blocks as entries of the log, and back.

One entry for each request, for a change, or for an empty block. The last entry of a block holds in its `proof` what the
entries don't say, so that a member can show others its blocks after a restart too.
"""

from collections.abc import Iterator

import msgspec

from actors.consensus.bft.messages import Block, Certificate, Link, encode
from actors.consensus.ready import Entry, Kind


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A committed block. `certificate` commits it or the last of `tail`; only a block that ends its era has a tail."""

    link: Link
    certificate: Certificate
    tail: tuple[Link, ...] = ()


_records = msgspec.msgpack.Decoder(Record)


def to_entries(link: Link, certificate: Certificate, tail: tuple[Link, ...]) -> list[Entry]:
    """The entries of a committed block."""
    block = link.block
    asked = block.requests or ((block.change,) if block.change else ())
    bodies = [(wish.kind, wish.payload) for wish in asked] or [(Kind.NOOP, b"")]
    entries = [Entry(block.first + at, block.view, kind, payload) for at, (kind, payload) in enumerate(bodies)]
    bare = Record(msgspec.structs.replace(link, block=_without_payloads(block)), certificate, tail)
    entries[-1] = msgspec.structs.replace(entries[-1], proof=encode(bare))
    return entries


def from_entries(entries: tuple[Entry, ...]) -> Iterator[Record]:
    """The blocks that `entries` are; the first one begins a block and the last one ends one.

    Raises:
        msgspec.MsgspecError: the entries were not written in BFT mode.
    """
    payloads: list[bytes] = []
    for entry in entries:
        payloads.append(entry.payload)
        if entry.proof:
            record = _records.decode(entry.proof)
            whole = msgspec.structs.replace(record.link, block=_with_payloads(record.link.block, payloads))
            yield msgspec.structs.replace(record, link=whole)
            payloads = []
    assert not payloads, "the log ends within a block"


def _without_payloads(block: Block) -> Block:
    return _with_payloads(block, [b""] * max(1, len(block.requests)))


def _with_payloads(block: Block, payloads: list[bytes]) -> Block:
    if block.change is not None:
        return msgspec.structs.replace(block, change=msgspec.structs.replace(block.change, payload=payloads[0]))
    requests = tuple(
        msgspec.structs.replace(request, payload=payload)
        for request, payload in zip(block.requests, payloads, strict=False)
    )
    return msgspec.structs.replace(block, requests=requests)
