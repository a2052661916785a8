"""The audit trail: every accepted command, each entry chained to all before it by a hash.

The state keeps the newest `KEPT` entries and the head of the chain. Whoever applies entries takes each `Applied.audit`
away (the store keeps them in a table of its own), so nothing is lost when the state forgets it.
"""

from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from actors.control.commands import Command
from actors.control.envelope import Envelope
from actors.control.model import Audit, ControlState

KEPT = 256
BODY_BYTES_MAX = 1024
GENESIS = bytes(32)
_SUBJECTS = ("guest", "node", "job", "component", "name")


def record(state: ControlState, index: int, envelope: Envelope, command: Command, detail: str) -> Audit:
    """Add an accepted command to the trail; the entry as it stands there."""
    entry = Audit(
        number=state.audit_count + 1,
        index=index,
        at_ms=envelope.at_ms,
        by=envelope.by,
        command=type(command).__name__.lower(),
        subject=next((str(getattr(command, name)) for name in _SUBJECTS if hasattr(command, name)), ""),
        detail=detail,
        body=envelope.body if len(envelope.body) <= BODY_BYTES_MAX else b"",
        body_digest=blake2b(envelope.body, digest_size=32).digest(),
        link=b"",
    )
    entry = replace(entry, link=_link(state.audit_link, entry))
    state.audit_count, state.audit_link = entry.number, entry.link
    state.audit.append(entry)
    del state.audit[:-KEPT]
    return entry


def first_fault(entries: list[Audit], before: bytes = GENESIS) -> int | None:
    """Number of the first entry that does not follow from the one before it, None when all do.

    `before`: link of the entry before the first, `GENESIS` if that is number 1.
    """
    number = entries[0].number if entries else 0
    for entry in entries:
        if entry.number != number or entry.link != _link(before, entry):
            return entry.number
        if entry.body and blake2b(entry.body, digest_size=32).digest() != entry.body_digest:
            return entry.number
        before, number = entry.link, number + 1
    return None


def _link(before: bytes, entry: Audit) -> bytes:
    return blake2b(before + msgspec.msgpack.encode(replace(entry, link=b"")), digest_size=32).digest()
