"""Ed25519 signatures over cards and evaluations: who published them can be told, and nobody else can change them.

The key that signs belongs to the person or machine that publishes, and lies outside every registry; a registry keeps
the public keys it believes.
"""

import os
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.registry.errors import RegistryError, VersionInvalid
from models.registry.files import write_new

KEY_ENV = "NOVACRON_MODEL_KEY"
_DOMAIN = b"novacron model registry 1\0"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Public key and signature, in hexadecimal."""

    key: str
    signature: str


def default_key() -> Path:
    """The key file that `NOVACRON_MODEL_KEY` names, else the user's own."""
    named = os.environ.get(KEY_ENV)
    return Path(named) if named else Path.home() / ".config" / "novacron" / "model.key"


class Signer:
    """Signs with the key in a file of 32 bytes, which is made (mode 0600) when it is missing.

    Raises:
        RegistryError: the file can't be made, or holds no key.
    """

    def __init__(self, file: Path) -> None:
        try:
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_new(file, Ed25519PrivateKey.generate().private_bytes_raw(), 0o600)
            self._key = Ed25519PrivateKey.from_private_bytes(file.read_bytes())
        except (OSError, ValueError) as error:
            raise RegistryError(f"no key to sign with: {file}: {error}; name another one in {KEY_ENV}") from error
        self.public = self._key.public_key().public_bytes_raw().hex()

    def sign(self, content: bytes) -> bytes:
        """The encoded `Signature` of `content`."""
        made = self._key.sign(_DOMAIN + content)
        return msgspec.json.encode(Signature(key=self.public, signature=made.hex())) + b"\n"


def verify(what: str, content: bytes, signature: bytes, trusted: frozenset[str]) -> None:
    """Accept `content` only with a signature by a trusted key.

    Raises:
        VersionInvalid: with what is wrong; `what` names the thing.
    """
    try:
        found = msgspec.json.decode(signature, type=Signature)
        key, raw = bytes.fromhex(found.key), bytes.fromhex(found.signature)
        public = Ed25519PublicKey.from_public_bytes(key)
    except ValueError as error:
        raise VersionInvalid(f"{what}: its signature can't be read: {error}") from error
    if key.hex() not in trusted:
        raise VersionInvalid(f"{what} is signed by key {key.hex()}, which is not trusted here")
    try:
        public.verify(raw, _DOMAIN + content)
    except InvalidSignature as error:
        raise VersionInvalid(f"{what} was changed after it was signed") from error
