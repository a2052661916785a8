"""A member's own signing key on its disk, and everybody's public ones as the control state has them."""

from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from actors.consensus.ready import Member
from actors.errors import StateCorrupt
from actors.files import write_atomically

KEY_FILE = "member.key"


def secret_in(folder: Path) -> Ed25519PrivateKey:
    """This member's key, made when it is missing (mode 0600).

    Raises:
        StateCorrupt: the file holds no such key.
    """
    path = folder / KEY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        write_atomically(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        return made
    try:
        found = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise StateCorrupt(where=str(path), reason=str(error)) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise StateCorrupt(where=str(path), reason="it is no Ed25519 key")
    return found


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
