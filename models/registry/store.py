"""One registry directory on disk: versions that never change, a state, a history, and the keys that are believed.

::

    ROOT/KIND/versions/VERSION/     card.json, card.sig and the weights
             /evaluations/          VERSION-DATA.json and .sig: figures on further data
             /state.json            what is in use, in the shadow, and was in use before
             /history.jsonl         who changed what, when
             /trusted               one public key a line
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path

import msgspec

from models.registry.card import (
    Card,
    Change,
    Evaluation,
    FileEntry,
    Kind,
    State,
    content_hash,
    valid_file,
    valid_version,
)
from models.registry.errors import RegistryError, VersionInvalid, VersionUnknown
from models.registry.files import locked, read_within, sync_folder, write_new, write_synced
from models.registry.signing import Signature, Signer, verify

CARD_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 256 << 20
FILES_MAX = 64
_KEYS_BYTES_MAX = 1 << 16


class Store:
    """The versions of one kind in `folder`. Reading needs no lock: versions never change, the rest is replaced whole.

    Args:
        folder: ``ROOT/KIND`` above; it need not exist yet.
        kind: which models.
        trusted: public keys (hexadecimal) to believe, in place of those that the directory itself lists.
    """

    def __init__(self, folder: Path, kind: Kind, trusted: frozenset[str] = frozenset()) -> None:
        self.folder = folder
        self._kind = kind
        self._trusted = trusted

    def writing(self) -> AbstractContextManager[None]:
        """Be its only writer. Raises RegistryBusy."""
        return locked(self.folder)

    def trusted(self) -> frozenset[str]:
        """The public keys that are believed here."""
        if self._trusted:
            return self._trusted
        try:
            lines = read_within(self.folder / "trusted", _KEYS_BYTES_MAX).decode("ascii", "replace").split("\n")
        except FileNotFoundError:
            return frozenset()
        return frozenset(line.strip() for line in lines if line.strip())

    def names(self) -> list[str]:
        """Every version there is, oldest day first; none of them is checked."""
        try:
            found = [entry.name for entry in os.scandir(self.folder / "versions") if entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if valid_version(name))

    def has(self, version: str) -> bool:
        """True when there is such a version."""
        return valid_version(version) and (self.folder / "versions" / version).is_dir()

    def card(self, version: str) -> Card:
        """The card of a version, its signature checked, its files not.

        Raises:
            VersionUnknown: there is no such version.
            VersionInvalid: it is damaged, or signed by nobody who is trusted.
        """
        folder = self.folder / "versions" / version
        if not self.has(version):
            raise VersionUnknown(f"no version {version!r} of {self._kind} in {self.folder}")
        content = self._signed(folder / "card.json", folder / "card.sig", f"{self._kind} {version}")
        try:
            card = msgspec.json.decode(content, type=Card)
        except ValueError as error:
            raise VersionInvalid(f"{self._kind} {version}: its card can't be read: {error}") from error
        if (card.kind, card.version) != (self._kind, version):
            raise VersionInvalid(f"{self._kind} {version} holds the card of {card.kind} {card.version}")
        if card.content_hash != content_hash(card.files) or len(card.files) > FILES_MAX:
            raise VersionInvalid(f"{self._kind} {version}: its card does not fit its own list of files")
        return card

    def read(self, version: str) -> tuple[Card, dict[str, bytes]]:
        """Card and files of a version, every byte checked before any is used.

        Raises:
            VersionUnknown, VersionInvalid: as from `card`.
        """
        card = self.card(version)
        files = {}
        for name, entry in card.files.items():
            if not valid_file(name) or entry.bytes > FILE_BYTES_MAX:
                raise VersionInvalid(f"{self._kind} {version}: file {name!r} is not one of ours")
            try:
                content = read_within(self.folder / "versions" / version / name, entry.bytes)
            except FileNotFoundError as error:
                raise VersionInvalid(f"{self._kind} {version}: file {name} is missing") from error
            if sha256(content).hexdigest() != entry.sha256:
                raise VersionInvalid(f"{self._kind} {version}: file {name} is damaged")
            files[name] = content
        return card, files

    def add(self, files: Mapping[str, bytes], card: Card, signer: Signer) -> Card:
        """Write a new version aside and move it to its place; the caller is writing. One that is there stays.

        Raises:
            RegistryError: a name or size that can't be, or another kind's card.
        """
        if card.kind != self._kind:
            raise RegistryError(f"this registry keeps {self._kind}, the card is of {card.kind}")
        if not files or len(files) > FILES_MAX:
            raise RegistryError(f"a version has 1 to {FILES_MAX} files, not {len(files)}")
        for name, content in files.items():
            if not valid_file(name) or len(content) > FILE_BYTES_MAX:
                raise RegistryError(f"a version can't have file {name!r} of {len(content)} bytes")
        entries = {
            name: FileEntry(bytes=len(content), sha256=sha256(content).hexdigest()) for name, content in files.items()
        }
        whole = content_hash(entries)
        version = f"{card.created_at[:10].replace('-', '')}-{whole[:8]}"
        if not valid_version(version):
            raise RegistryError(f"created_at must be a time in ISO 8601, not {card.created_at!r}")
        card = msgspec.structs.replace(card, version=version, content_hash=whole, files=entries)
        if self.has(version):
            return self.card(version)
        self._trust(signer.public)
        text = msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"
        self._lay(version, {**files, "card.json": text, "card.sig": signer.sign(text)})
        return card

    def copy(self, version: str, other: "Store") -> None:
        """Take `version` over from `other` as it was signed there, and believe its key; the caller is writing.

        Raises:
            VersionUnknown, VersionInvalid: as from `read`.
        """
        if self.has(version):
            return
        _, files = other.read(version)
        folder = other.folder / "versions" / version
        signed = {name: read_within(folder / name, CARD_BYTES_MAX) for name in ("card.json", "card.sig")}
        self._trust(msgspec.json.decode(signed["card.sig"], type=Signature).key)
        self._lay(version, {**files, **signed})

    def evaluations(self, version: str) -> list[Evaluation]:
        """What was recorded of a version beside its card; what is not signed by a trusted key is left out."""
        found = []
        for path in sorted((self.folder / "evaluations").glob(f"{version}-*.json")):
            try:
                content = self._signed(path, path.with_suffix(".sig"), path.name)
                found.append(msgspec.json.decode(content, type=Evaluation))
            except (VersionInvalid, ValueError):
                continue
        return found

    def record(self, version: str, evaluation: Evaluation, signer: Signer) -> None:
        """Keep a further evaluation of a version, in place of one on the same data; the caller is writing."""
        folder = self.folder / "evaluations"
        folder.mkdir(parents=True, exist_ok=True)
        self._trust(signer.public)
        data = sha256(evaluation.data_hash.encode()).hexdigest()[:12]
        text = msgspec.json.format(msgspec.json.encode(evaluation), indent=2) + b"\n"
        write_new(folder / f"{version}-{data}.sig", signer.sign(text))
        write_new(folder / f"{version}-{data}.json", text)

    def state(self) -> State:
        """What is in use; nothing where nothing ever was.

        Raises:
            RegistryError: the file can't be read.
        """
        try:
            return msgspec.json.decode(read_within(self.folder / "state.json", CARD_BYTES_MAX), type=State)
        except FileNotFoundError:
            return State()
        except ValueError as error:
            raise RegistryError(f"{self.folder / 'state.json'} can't be read: {error}") from error

    def set_state(self, state: State) -> None:
        """Replace it; the caller is writing."""
        write_new(self.folder / "state.json", msgspec.json.encode(state) + b"\n")

    def history(self) -> list[Change]:
        """Who changed what, oldest first; a last line that a power cut tore is left out."""
        try:
            lines = (self.folder / "history.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Change))
            except ValueError:
                continue
        return found

    def note(self, change: Change) -> None:
        """Add to the history; the caller is writing."""
        with (self.folder / "history.jsonl").open("ab") as file:
            # After a torn line the next one must not hang on to it.
            file.write((b"\n" if file.tell() else b"") + msgspec.json.encode(change))
            file.flush()
            os.fsync(file.fileno())

    def _signed(self, file: Path, signature: Path, what: str) -> bytes:
        try:
            content, made = read_within(file, CARD_BYTES_MAX), read_within(signature, CARD_BYTES_MAX)
        except FileNotFoundError as error:
            raise VersionInvalid(f"{what} is not whole: {error.filename} is missing") from error
        verify(what, content, made, self.trusted())
        return content

    def _trust(self, public: str) -> None:
        if public in self.trusted():
            return
        if self._trusted:
            raise RegistryError(f"key {public} is not among those that this registry is told to believe")
        write_new(self.folder / "trusted", "".join(f"{key}\n" for key in sorted({*self.trusted(), public})).encode())

    def _lay(self, version: str, files: Mapping[str, bytes]) -> None:
        versions = self.folder / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        aside = versions / f".{version}.{secrets.token_hex(8)}"
        try:
            aside.mkdir()
            for name, content in files.items():
                write_synced(aside / name, content)
            sync_folder(aside)
            aside.rename(versions / version)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(versions)
