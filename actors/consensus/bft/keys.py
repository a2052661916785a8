"""Signatures: what the core asks for, and Ed25519 (RFC 8032) as the library `cryptography` has it."""

from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from actors.consensus.ready import Member


class Keys(Protocol):
    """One member's secret key and everybody's public ones. A member's number has the same key for ever."""

    def sign(self, statement: bytes) -> bytes:
        """This member's signature; the same statement always gives the same one."""

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        """Whether `member` signed `statement`; False too when the member or the form of the signature is unknown."""


class Ed25519Keys:
    """Ed25519: 64 bytes a signature."""

    def __init__(self, secret: Ed25519PrivateKey, public: Mapping[Member, Ed25519PublicKey]) -> None:
        self._secret = secret
        self._public = dict(public)

    def sign(self, statement: bytes) -> bytes:
        """See `Keys`."""
        return self._secret.sign(statement)

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        """See `Keys`."""
        key = self._public.get(member)
        if key is None:
            return False
        try:
            key.verify(signature, statement)
        except InvalidSignature:
            return False
        return True
