"""What a member signs when it says that a node's lease has run out: nobody else can say it in its name."""

from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.control.commands import AttestExpiry, ExpireLease

_PURPOSE = "novacron: the lease has run out"


def attested(expiry: ExpireLease, member: int, sign: Callable[[bytes], bytes]) -> AttestExpiry:
    """The word of `member` for an expiry that its own book says is due."""
    statement = _statement(expiry.node, expiry.number, expiry.renewal, member)
    return AttestExpiry(
        node=expiry.node, number=expiry.number, renewal=expiry.renewal, member=member, signature=sign(statement).hex()
    )


def is_signed(command: AttestExpiry, key: str) -> bool:
    """Whether the owner of `key` (Ed25519, in hexadecimal) signed it."""
    statement = _statement(command.node, command.number, command.renewal, command.member)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(command.signature), statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def _statement(node: str, number: int, renewal: int, member: int) -> bytes:
    # A lease's number is the index of the entry that gave it, and a member has another key in every cluster.
    return msgspec.msgpack.encode((_PURPOSE, node, number, renewal, member))
