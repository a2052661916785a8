"""The registry of one kind of model: what was trained, what answers, what listens, what answered before."""

import getpass
import io
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

import models
from models.registry.card import Card, Change, Evaluation, Kind, State
from models.registry.errors import PromotionRefused, RegistryError, VersionInvalid, VersionUnknown
from models.registry.gates import objections
from models.registry.signing import Signer, default_key
from models.registry.store import Store

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

PACKAGE = Path(models.__file__).parent
Role = Literal["in use", "shadow", ""]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One version as a list shows it; `problem` instead of `card` when it must not be loaded."""

    version: str
    role: Role
    shipped: bool
    card: Card | None = None
    problem: str = ""


class Loaded:
    """A version in memory, every byte of it checked."""

    def __init__(self, card: Card, files: Mapping[str, bytes]) -> None:
        self.card = card
        self.version = card.version
        self.files = files

    def arrays(self, name: str) -> "dict[str, NDArray[Any]]":
        """The arrays that `numpy.savez` put into file `name`; nothing is unpickled.

        Raises:
            VersionInvalid: it holds something else, or there is no such file.
        """
        import numpy as np

        if name not in self.files:
            raise VersionInvalid(f"{self.card.kind} {self.version} has no file {name}")
        try:
            with np.load(io.BytesIO(self.files[name]), allow_pickle=False) as found:
                return {each: found[each] for each in found.files}
        except Exception as error:  # what zip, numpy's reader and their headers raise
            raise VersionInvalid(f"{self.card.kind} {self.version}: {name} holds no arrays: {error}") from error

    def tensors(self, name: str) -> "dict[str, torch.Tensor]":
        """The tensors that `torch.save` put into file `name`; nothing else is unpickled.

        Raises:
            VersionInvalid: it holds something else, or there is no such file.
        """
        import torch

        if name not in self.files:
            raise VersionInvalid(f"{self.card.kind} {self.version} has no file {name}")
        try:
            found: Any = torch.load(io.BytesIO(self.files[name]), weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises what its many readers raise
            raise VersionInvalid(f"{self.card.kind} {self.version}: {name} holds no tensors: {error}") from error
        if not isinstance(found, dict):
            raise VersionInvalid(f"{self.card.kind} {self.version}: {name} holds {type(found).__name__}, not tensors")
        return found


def shipped_folder(kind: Kind) -> Path:
    """Where the package keeps the versions of `kind` that come with it."""
    return PACKAGE / kind / "shipped"


class Registry:
    """Versions of one kind below `root`, and behind them, read-only, those that come with the package.

    Args:
        root: the registry's directory, or None for nothing but what comes with the package.
        kind: which models.
        key: file of the key that signs, made when missing; without: `models.registry.signing.default_key`.
        trusted: public keys to believe in place of those that `root` lists.
        shipped: where the package's own are; for tests.
    """

    def __init__(
        self,
        root: Path | None,
        kind: Kind,
        *,
        key: Path | None = None,
        trusted: frozenset[str] = frozenset(),
        shipped: Path | None = None,
    ) -> None:
        self.kind = kind
        self._store = None if root is None else Store(root / kind, kind, trusted)
        self._shipped = Store(shipped or shipped_folder(kind), kind)
        self._key = key

    # -- reading ------------------------------------------------------------------------------------------------

    def versions(self) -> list[Listed]:
        """Every version, oldest day first; one that must not be loaded says why."""
        state, found = self.state(), {}
        for store in (self._shipped, self._store):
            for name in store.names() if store else []:
                role: Role = "in use" if name == state.in_use else "shadow" if name == state.shadow else ""
                problem, card = "", None
                try:
                    card = store.card(name) if store else None
                except VersionInvalid as error:
                    problem = str(error)
                shipped = store is self._shipped
                found[name] = Listed(version=name, role=role, shipped=shipped, card=card, problem=problem)
        return [found[name] for name in sorted(found)]

    def state(self) -> State:
        """What is in use here; until something is, what the package ships as such."""
        state = self._store.state() if self._store else State()
        if state.in_use is None:
            state = msgspec.structs.replace(state, in_use=self._shipped.state().in_use)
        return state

    def card(self, version: str | None = None) -> Card:
        """The card of `version`, or of the one in use. Raises VersionUnknown, VersionInvalid."""
        name = self._named(version)
        return self._of(name).card(name)

    def load(self, version: str | None = None) -> Loaded:
        """`version`, or the one in use, with its files.

        Raises:
            VersionUnknown: there is no such version, or none is in use.
            VersionInvalid: it is damaged, or signed by nobody who is trusted.
        """
        name = self._named(version)
        return Loaded(*self._of(name).read(name))

    def evaluations(self, version: str | None = None) -> list[Evaluation]:
        """Of the card first, then what was recorded later."""
        name = self._named(version)
        return [self.card(name).evaluation, *(self._store.evaluations(name) if self._store else [])]

    def history(self) -> list[Change]:
        """Who changed what here, oldest first."""
        return self._store.history() if self._store else []

    # -- writing ------------------------------------------------------------------------------------------------

    def publish(self, files: Mapping[str, bytes], card: Card) -> Card:
        """Add a version; it is in nobody's use yet.

        Args:
            files: weights and whatever else it needs, by plain file name.
            card: without version, content hash and files, which the answer has.

        Raises:
            RegistryError: nothing can be written here, or a name or size can't be.
        """
        store, signer = self._writable(), self._signer()
        with store.writing():
            known = set(store.names())
            made = store.add(files, card, signer)
            if made.version not in known:
                store.note(self._change("publish", made.version))
        return made

    def record(self, version: str, evaluation: Evaluation) -> None:
        """Keep a further evaluation of `version`, so that others can be compared with it on that data."""
        store, signer = self._writable(), self._signer()
        self._of(version)
        with store.writing():
            store.record(version, evaluation, signer)
            store.note(self._change("evaluate", version, detail=evaluation.data))

    def objections(self, version: str) -> list[str]:
        """What speaks against promoting `version`."""
        in_use = self.state().in_use
        if in_use == version:
            return [f"{version} is in use already"]
        rivals = {one.data_hash: one for one in reversed(self.evaluations(in_use))} if in_use else {}
        mine = self.evaluations(version)
        both = next((one for one in reversed(mine) if one.data_hash in rivals), mine[0])
        return objections(both, rivals.get(both.data_hash), in_use)

    def promote(self, version: str, *, force: bool = False) -> list[str]:
        """Have `version` answer from now on; the objections that `force` overruled.

        Raises:
            PromotionRefused: a gate speaks against it.
            VersionUnknown, VersionInvalid: it can't be loaded.
        """
        store = self._writable()
        self.load(version)
        with store.writing():
            against = self.objections(version)
            if against and not force:
                raise PromotionRefused(version, against)
            state = store.state()
            shadow = None if state.shadow == version else state.shadow
            before = [*state.before, state.in_use][-100:]
            store.note(self._change("promote", version, forced=bool(against), detail="; ".join(against)))
            store.set_state(State(in_use=version, shadow=shadow, before=before))
        return against

    def rollback(self) -> str | None:
        """Go back to what answered before the last promotion, in the end to what the package ships; its name, if any.

        Raises:
            RegistryError: nothing was ever promoted.
            VersionUnknown, VersionInvalid: the one before can't be loaded any more.
        """
        store = self._writable()
        with store.writing():
            state = store.state()
            if not state.before:
                raise RegistryError(f"nothing to go back to: no {self.kind} model was ever promoted here")
            version = state.before[-1]
            if version is not None:
                self.load(version)
            store.note(self._change("rollback", version, detail=f"from {state.in_use}"))
            store.set_state(msgspec.structs.replace(state, in_use=version, before=state.before[:-1]))
        return self.state().in_use

    def shadow(self, version: str | None) -> None:
        """Have `version` forecast beside the one in use, scored and never heard; None: none.

        Raises:
            RegistryError: it is the one in use.
            VersionUnknown, VersionInvalid: it can't be loaded.
        """
        store = self._writable()
        if version is not None:
            self.load(version)
        with store.writing():
            if version is not None and version == self.state().in_use:
                raise RegistryError(f"{version} is in use: it can't be its own shadow")
            store.note(self._change("shadow", version))
            store.set_state(msgspec.structs.replace(store.state(), shadow=version))

    def export(self, version: str, folder: Path) -> None:
        """Copy `version`, as it was signed, to `folder`, and have it in use there: how one comes into the package.

        Raises:
            VersionUnknown, VersionInvalid: it can't be loaded.
        """
        target = Store(folder, self.kind)
        with target.writing():
            target.copy(version, self._of(version))
            target.note(self._change("promote", version, detail="exported"))
            target.set_state(State(in_use=version, before=[*target.state().before, target.state().in_use][-100:]))

    # -- within -------------------------------------------------------------------------------------------------

    def _named(self, version: str | None) -> str:
        name = version if version is not None else self.state().in_use
        if name is None:
            raise VersionUnknown(f"no {self.kind} model is in use; train one and promote it")
        return name

    def _of(self, version: str) -> Store:
        for store in (self._store, self._shipped):
            if store is not None and store.has(version):
                return store
        raise VersionUnknown(f"there is no {self.kind} model {version!r}; `novacron models list` shows those there are")

    def _writable(self) -> Store:
        if self._store is None:
            raise RegistryError("nothing can be written to what comes with the package: name a registry's directory")
        return self._store

    def _signer(self) -> Signer:
        return Signer(self._key or default_key())

    def _change(
        self,
        action: Literal["publish", "evaluate", "promote", "rollback", "shadow"],
        version: str | None,
        *,
        forced: bool = False,
        detail: str = "",
    ) -> Change:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Change(at=now, who=_user(), action=action, version=version, forced=forced, detail=detail)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        return str(os.getuid())
