"""Where a member's parts of the log lie: one store for each part that is kept, in one folder.

Part 0 is `state.db`, part n `state-n.db`. A part that was begun is there whole or not at all: its store is made in one
transaction, and a file without a table is one whose making was cut off.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from actors.consensus.chain.parts import Protocol
from actors.consensus.ready import HardState, Snapshot
from actors.consensus.storage import MemoryStorage
from actors.control.model import Audit
from actors.control.store import NOTHING, ControlStore, is_unmade
from actors.errors import StateCorrupt

STORE_FILE = "state.db"
_NAMED = re.compile(r"^state(?:-([1-9][0-9]*))?\.(db|guard)$")
_SUFFIXES = (".db", ".db-wal", ".db-shm", ".guard")


def path_of(folder: Path, part: int) -> Path:
    """The store of a part."""
    return folder / (STORE_FILE if not part else f"state-{part}.db")


def parts_in(folder: Path) -> list[int]:
    """The parts that have a store in `folder`, oldest first; whether it is whole only opening it tells."""
    return _numbers(folder, "db")


class Volume:
    """One part: its store, and the copy in memory that the core reads.

    The core reads only what was published there, on the shell's own thread, never what a write has half changed.
    """

    def __init__(self, number: int, store: ControlStore) -> None:
        self.number, self.store, self.protocol = number, store, store.protocol
        begins = store.snapshot()
        kept = store.entries(begins.index + 1, store.last()) if store.last() > begins.index else ()
        self.log = MemoryStorage.loaded(store.hard_state(), begins, kept)
        self.kept_bytes = sum(len(entry.payload) for entry in kept)


class Beginning(NamedTuple):
    """What a part begins with; `trail`: audit entries that are in no store yet."""

    snapshot: Snapshot
    state: bytes
    hard_state: HardState
    trail: tuple[Audit, ...]


class Shelf:
    """See `actors.consensus.chain.Shelf`; what is on the disks decides where a member goes on."""

    def __init__(self, folder: Path, begins: Snapshot = NOTHING, part: int = 0) -> None:
        """Open every part in `folder`; if there is none, `part` is made and begins with `begins`, in Raft.

        Raises:
            StateCorrupt, Failed, SetupMissing: see `ControlStore`; also when a newer part is missing.
        """
        self._folder = folder
        self._volumes: dict[int, Volume] = {}
        found = parts_in(folder) or [part]
        later = [number for number in _numbers(folder, "guard") if number > found[-1]]
        if len(found) > 1 and is_unmade(path_of(folder, found[-1])):
            _delete(folder, found.pop())
        elif later:
            raise StateCorrupt(where=str(path_of(folder, later[-1])), reason="it is missing, and its guard is there")
        try:
            for number in found:
                self._volumes[number] = Volume(number, ControlStore(path_of(folder, number), begins))
        except BaseException:
            self.close()
            raise
        if found != list(range(found[0], found[-1] + 1)):
            self.close()
            raise StateCorrupt(where=str(folder), reason=f"parts {found} of the log are there, and none may be missing")

    def parts(self) -> tuple[tuple[int, Protocol], ...]:
        """See `chain.Shelf`."""
        return tuple((number, self._volumes[number].protocol) for number in sorted(self._volumes))

    def storage_of(self, part: int) -> MemoryStorage:
        """See `chain.Shelf`."""
        return self._volumes[part].log

    def volume(self, part: int) -> Volume:
        """A part that is kept."""
        return self._volumes[part]

    @property
    def newest(self) -> Volume:
        """The newest part."""
        return self._volumes[max(self._volumes)]

    def state_at(self, index: int) -> bytes | None:
        """The bytes of the snapshot of entry `index`, if a part has it."""
        for volume in self._volumes.values():
            if volume.store.snapshot().index == index:
                return volume.store.state()
        return None

    def begin(self, part: int, protocol: Protocol, begins: Beginning) -> ControlStore:
        """Make the store of a new part durable, with the audit trail of the one before; `add` shows it. May block."""
        trail = itertools.chain(_trail(self.newest.store), begins.trail)
        path = path_of(self._folder, part)
        return ControlStore(path, begins.snapshot, begins.state, begins.hard_state, protocol, trail)

    def add(self, part: int, store: ControlStore) -> None:
        """Keep a part that was made."""
        self._volumes[part] = Volume(part, store)

    def forget(self, parts: tuple[int, ...]) -> None:
        """Delete parts."""
        for part in parts:
            self._volumes.pop(part).store.close()
            _delete(self._folder, part)

    def close(self) -> None:
        """Close all stores; harmless when they are closed."""
        for volume in self._volumes.values():
            volume.store.close()


def _trail(store: ControlStore) -> Iterator[Audit]:
    after = 0
    while found := store.audit(after):
        yield from found
        after = found[-1].number


def _numbers(folder: Path, kind: str) -> list[int]:
    found = (_NAMED.match(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1] or 0) for match in found if match is not None and match[2] == kind)


def _delete(folder: Path, part: int) -> None:
    stem = path_of(folder, part).with_suffix("")
    for suffix in _SUFFIXES:
        stem.with_suffix(suffix).unlink(missing_ok=True)
