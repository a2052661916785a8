"""The signing keys on a node's disk, its member's and its own, and the members' public ones as the control state has
them."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from actors.consensus.ready import Member
from actors.errors import StateCorrupt
from actors.files import write_atomically

KEY_FILE = "member.key"
AUTHOR_FILE = "author.key"
"""What a node signs its commands with; in its `state_dir`, as all its processes use it."""


def secret_in(folder: Path, name: str = KEY_FILE) -> Ed25519PrivateKey:
    """The key in `folder`, made when it is missing (mode 0600); of several processes that make it all get the same.

    Raises:
        StateCorrupt: the file holds no such key.
    """
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(path)
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise StateCorrupt(where=str(path), reason="it is no Ed25519 key")
    return found


def _make(path: Path) -> None:
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_atomically(aside, made, 0o600)
    try:
        # Unlike a rename it leaves what another process has put there meanwhile, and may use already.
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)


def public_of(secret: Ed25519PrivateKey) -> str:
    """The public key in hexadecimal, as the control state has it."""
    return secret.public_key().public_bytes_raw().hex()


class MemberKeys:
    """See `actors.consensus.bft.Keys`.

    Args:
        secret: this member's.
        key_of: the public key of a member in hexadecimal as the state has it now; '' if it has none.
    """

    def __init__(self, secret: Ed25519PrivateKey, key_of: Callable[[Member], str]) -> None:
        self._secret, self._key_of = secret, key_of
        self._read: dict[str, Ed25519PublicKey] = {}

    def sign(self, statement: bytes) -> bytes:
        """See `Keys`."""
        return self._secret.sign(statement)

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        """See `Keys`."""
        named = self._key_of(member)
        if not named:
            return False
        key = self._read.get(named)
        if key is None:
            key = self._read[named] = Ed25519PublicKey.from_public_bytes(bytes.fromhex(named))
        try:
            key.verify(signature, statement)
        except InvalidSignature:
            return False
        return True
