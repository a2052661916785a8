"""What a member signs in its own name: that a node's lease has run out, and which key a node showed it.

Nobody else can say it, and each says it for itself: f + 1 of these words are needed, so that an honest one is among
them.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from actors.control.commands import AttestExpiry, ExpireLease, VouchNode
from actors.control.signing import is_by

_EXPIRY = "novacron: the lease has run out"
_VOUCH = "novacron: the node showed its certificate and this key"


def attested(expiry: ExpireLease, member: int, sign: Callable[[bytes], bytes]) -> AttestExpiry:
    """The word of `member` for an expiry that its own book says is due."""
    statement = _statement(expiry.node, expiry.number, expiry.renewal, member)
    return AttestExpiry(
        node=expiry.node, number=expiry.number, renewal=expiry.renewal, member=member, signature=sign(statement).hex()
    )


def is_signed(command: AttestExpiry, key: str) -> bool:
    """Whether the owner of `key` (Ed25519, in hexadecimal) signed it."""
    return is_by(key, command.signature, _statement(command.node, command.number, command.renewal, command.member))


def vouched(*, node: str, site: str, key: str, after: str, member: int, sign: Callable[[bytes], bytes]) -> VouchNode:
    """The word of `member` for the key that `node` has just shown it."""
    blank = VouchNode(node=node, site=site, key=key, after=after, member=member, signature="00" * 64)
    return replace(blank, signature=sign(_vouch(blank)).hex())


def is_vouched(command: VouchNode, key: str) -> bool:
    """Whether the owner of `key`, a member's, signed it."""
    return is_by(key, command.signature, _vouch(command))


def _statement(node: str, number: int, renewal: int, member: int) -> bytes:
    # A lease's number is the index of the entry that gave it, and a member has another key in every cluster.
    return msgspec.msgpack.encode((_EXPIRY, node, number, renewal, member))


def _vouch(of: VouchNode) -> bytes:
    return msgspec.msgpack.encode((_VOUCH, of.node, of.site, of.key, of.after, of.member))
