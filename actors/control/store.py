"""A member's log, promises and newest snapshot in one SQLite file: the durable `Storage` of the consensus cores.

WAL and `synchronous=FULL`: when `write` or `compact` returns, all of it is on disk; if it does not return, all of it or
none is. Each row carries a checksum, and `guard.py` tells a torn end from a damaged middle. The format is in
docs/control.md.
"""

import contextlib
import os
import sqlite3
import struct
import threading
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from actors.consensus.chain.parts import Protocol
from actors.consensus.ready import Entry, HardState, Kind, Membership, Ready, Snapshot
from actors.consensus.storage import Compacted
from actors.control.audit import first_fault
from actors.control.guard import Guard
from actors.control.model import Audit
from actors.errors import Failed, SetupMissing, StateCorrupt

VERSION = 2
"""1 had no protocol: it was Raft."""
NOTHING = Snapshot(index=0, term=0, membership=Membership(()))
"""What a member begins with that joins later and gets all from the others."""
_SCHEMA = """
CREATE TABLE entries (
    at INTEGER PRIMARY KEY, term INTEGER NOT NULL, kind INTEGER NOT NULL, payload BLOB NOT NULL, proof BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
CREATE TABLE held (name TEXT PRIMARY KEY, body BLOB NOT NULL, sum BLOB NOT NULL) STRICT;
CREATE TABLE audit (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
"""
_ROW = struct.Struct("<qqqq")
_COUNT = struct.Struct("<q")


class ControlStore:
    """See `actors.consensus.storage.Storage`; callable from any thread, one at a time.

    `write` and `compact` raise `Failed` when the disk refuses: the store then takes no more writes, since what is on
    disk is only known once it is opened again. Reading raises `StateCorrupt` on a wrong checksum.
    """

    def __init__(
        self,
        path: Path,
        begins: Snapshot = NOTHING,
        state: bytes = b"",
        hard_state: HardState | None = None,
        protocol: Protocol = Protocol.RAFT,
        audit: Iterable[Audit] = (),
    ) -> None:
        """Open the store, or make a new one that begins with `begins`, for which the bytes `state` stand.

        `protocol`: what the entries of a new one are agreed on with; `self.protocol` says it of one that was there.
        `audit`: the trail that a new one begins with.

        Raises:
            StateCorrupt: it is damaged, or lacks what was acknowledged.
            Failed: another process has it open.
            SetupMissing: it was written by a newer version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock, self._broken = path, threading.Lock(), ""
        self._snapshot = begins
        self._hard_state = hard_state or HardState()
        self.protocol = protocol
        self._terms: list[int] = []
        self._guard: Guard | None = None
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._guard = self._open_guard(empty=not tables)
            if not tables and not self._guard.count:
                self._begin(state, audit)
            self._check()
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            self.close()
            raise self._corrupt(str(error)) from error
        except BaseException:
            self.close()
            raise

    # -- reading ----------------------------------------------------------------------------------------------------

    def hard_state(self) -> HardState:
        """See `Storage`."""
        return self._hard_state

    def snapshot(self) -> Snapshot:
        """See `Storage`."""
        return self._snapshot

    def last(self) -> int:
        """See `Storage`."""
        return self._snapshot.index + len(self._terms)

    def term(self, index: int) -> int:
        """See `Storage`."""
        at = index - self._snapshot.index
        if at == 0:
            return self._snapshot.term
        if at < 0:
            raise Compacted
        return self._terms[at - 1]

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """See `Storage`."""
        if first <= self._snapshot.index:
            raise Compacted
        assert last <= self.last(), "asked for entries that were never written"
        with self._lock:
            found = tuple(self._rows(first, last))
        if len(found) != max(0, last - first + 1):
            raise self._corrupt(f"entries {first} to {last} are not all there")
        return found

    def state(self) -> bytes:
        """The bytes that belong to `snapshot()`; empty for that of a new member."""
        with self._lock:
            return self._held("state")

    def audit(self, after: int, limit: int = 500) -> list[Audit]:
        """Audit entries with number > `after`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT body FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            ).fetchall()
        return [msgspec.msgpack.decode(body, type=Audit) for (body,) in rows]

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, ready: Ready[Any], state: bytes = b"") -> None:
        """Make durable what `ready` names (its step 2); `state` are the bytes that its snapshot stands for."""
        snapshot, terms = self._snapshot, self._terms
        if ready.snapshot is not None:
            assert ready.snapshot.index > snapshot.index, "a snapshot goes back"
            snapshot, terms = ready.snapshot, []
        hard_state = ready.hard_state or self._hard_state
        at = ready.entries[0].index - snapshot.index - 1 if ready.entries else len(terms)
        assert 0 <= at <= len(terms), "a gap in the log"
        with self._writing():
            if ready.snapshot is not None:
                self._db.execute("DELETE FROM entries")
                hard_state = self._hold_snapshot(snapshot, state, hard_state)
            if ready.entries:
                self._db.execute("DELETE FROM entries WHERE at >= ?", (ready.entries[0].index,))
                self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", map(_row, ready.entries))
            if hard_state != self._hard_state:
                self._hold("hard-state", msgspec.msgpack.encode(hard_state))
        terms[at:] = [entry.term for entry in ready.entries]
        self._snapshot, self._hard_state, self._terms = snapshot, hard_state, terms

    def compact(self, snapshot: Snapshot, state: bytes, audit: tuple[Audit, ...] = ()) -> None:
        """Let `snapshot`, made by the state machine here, stand for the entries up to its index.

        `audit`: what applying these entries added to the trail; entries that are already kept are passed over.
        """
        assert self._snapshot.index < snapshot.index <= self.last(), "nothing to compact"
        assert self.term(snapshot.index) == snapshot.term, "a snapshot of another log"
        hard_state = self._hard_state
        with self._writing():
            self._db.execute("DELETE FROM entries WHERE at <= ?", (snapshot.index,))
            hard_state = self._hold_snapshot(snapshot, state, hard_state)
            self._add_audit(audit)
        self._terms = self._terms[snapshot.index - self._snapshot.index :]
        self._snapshot, self._hard_state = snapshot, hard_state

    def close(self) -> None:
        """Close the files; harmless when they are closed."""
        with self._lock:
            if self._guard is not None:
                self._guard.close()
                self._guard = None
            self._db.close()
            self._broken = self._broken or "it is closed"

    # -- within -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, counted; on disk when the block is left."""
        with self._lock:
            if self._broken or self._guard is None:
                raise Failed(detail=f"the control state's store {self._path} takes no more: {self._broken}")
            count = self._guard.count + 1
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._hold("writes", _COUNT.pack(count))
                self._db.execute("COMMIT")
                self._guard.raise_to(count)
            except (sqlite3.Error, OSError) as error:
                # After a failed sync nobody knows what is on disk: only opening it again can tell.
                self._broken = str(error)
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise Failed(detail=f"the control state's store {self._path}: {error}") from error
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _hold(self, name: str, body: bytes) -> None:
        self._db.execute(
            "INSERT INTO held VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET body = excluded.body, sum = excluded.sum",
            (name, body, _sum(name.encode(), body)),
        )

    def _hold_snapshot(self, snapshot: Snapshot, state: bytes, hard_state: HardState) -> HardState:
        """A snapshot is of committed entries, so the promise is raised to it."""
        self._hold("snapshot", msgspec.msgpack.encode(snapshot))
        self._hold("state", state)
        hard_state = replace(hard_state, commit=max(hard_state.commit, snapshot.index))
        self._hold("hard-state", msgspec.msgpack.encode(hard_state))
        return hard_state

    def _add_audit(self, audit: Iterable[Audit]) -> None:
        rows = ((entry.number, msgspec.msgpack.encode(entry)) for entry in audit)
        self._db.executemany("INSERT INTO audit VALUES (?, ?) ON CONFLICT (number) DO NOTHING", rows)

    def _held(self, name: str) -> bytes:
        row = self._db.execute("SELECT body, sum FROM held WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise self._corrupt(f"its {name} is missing")
        body, told = row
        if told != _sum(name.encode(), body):
            raise self._corrupt(f"the checksum of its {name} is wrong")
        return bytes(body)

    def _rows(self, first: int, last: int) -> Iterator[Entry]:
        """Entries with their checksums checked."""
        rows = self._db.execute("SELECT * FROM entries WHERE at BETWEEN ? AND ? ORDER BY at", (first, last))
        for at, term, kind, payload, proof, told in rows:
            if told != _sum(_ROW.pack(at, term, kind, len(payload)), payload, proof):
                raise self._corrupt(f"the checksum of entry {at} is wrong")
            yield Entry(index=at, term=term, kind=Kind(kind), payload=payload, proof=proof)

    # -- opening ----------------------------------------------------------------------------------------------------

    def _open_guard(self, *, empty: bool) -> Guard:
        path = self._path.with_suffix(".guard")
        try:
            # An empty file is one whose making was cut off.
            guard = Guard(path, new=empty and (not path.exists() or not path.stat().st_size))
        except BlockingIOError:
            # Two members with one disk would vote twice.
            raise Failed(detail=f"the control state's store {self._path} is open in another process") from None
        except FileNotFoundError:
            raise self._corrupt(f"{path.name} is missing, which belongs to it") from None
        if not guard.readable:
            guard.close()
            raise self._corrupt(f"{path.name} is damaged")
        return guard

    def _begin(self, state: bytes, audit: Iterable[Audit]) -> None:
        with self._writing():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={VERSION}")
            self._hold("snapshot", msgspec.msgpack.encode(self._snapshot))
            self._hold("state", state)
            self._hold("hard-state", msgspec.msgpack.encode(self._hard_state))
            self._hold("protocol", bytes([self.protocol]))
            self._add_audit(audit)
        # The names of the new files must last as well.
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _check(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise SetupMissing(what=f"a NovaCron that reads version {version} of the store {self._path}")
        if not version:
            raise self._corrupt("it is empty, and was not always")
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise self._corrupt(verdict)
        assert self._guard is not None, "opened before"
        (writes,) = _COUNT.unpack(self._held("writes"))
        if writes < self._guard.count:
            raise self._corrupt(f"{self._guard.count - writes} acknowledged writes are not in it")
        self._guard.raise_to(writes)
        self._snapshot = msgspec.msgpack.decode(self._held("snapshot"), type=Snapshot)
        self._hard_state = msgspec.msgpack.decode(self._held("hard-state"), type=HardState)
        self._held("state")
        self.protocol = self._protocol() if version > 1 else Protocol.RAFT
        self._check_log()

    def _protocol(self) -> Protocol:
        try:
            return Protocol(int.from_bytes(self._held("protocol")))
        except ValueError as error:
            raise self._corrupt(str(error)) from None

    def _check_log(self) -> None:
        base = self._snapshot.index
        for expected, entry in enumerate(self._rows(-(2**63), 2**63 - 1), base + 1):
            if entry.index != expected:
                raise self._corrupt(f"entry {entry.index} stands where {expected} should")
            self._terms.append(entry.term)
        if self._hard_state.commit > self.last():
            raise self._corrupt(f"entry {self._hard_state.commit} is committed, and the log ends at {self.last()}")
        if base > 1 and self._hard_state.commit < base:
            raise self._corrupt(f"its snapshot is of entry {base}, which is not committed")
        self._check_trail()

    def _check_trail(self) -> None:
        """Every kept entry follows from the one before; where a snapshot came from another member there are gaps."""
        before: Audit | None = None
        for (body,) in self._db.execute("SELECT body FROM audit ORDER BY number"):
            entry = msgspec.msgpack.decode(body, type=Audit)
            joined = before is not None and entry.number == before.number + 1
            if joined and before is not None and first_fault([entry], before=before.link) is not None:
                raise self._corrupt(f"audit entry {entry.number} does not follow from the one before it")
            before = entry

    def _corrupt(self, reason: str) -> StateCorrupt:
        return StateCorrupt(where=str(self._path), reason=reason)


def is_unmade(path: Path) -> bool:
    """Whether a store's making was cut off before anything was in it."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            return False
        guard = Guard(path.with_suffix(".guard"), new=False)
    except FileNotFoundError:
        return True
    except (sqlite3.DatabaseError, BlockingIOError):
        return False
    guard.close()
    return guard.count <= 0


def _row(entry: Entry) -> tuple[int, int, int, bytes, bytes, bytes]:
    head = _ROW.pack(entry.index, entry.term, entry.kind, len(entry.payload))
    checksum = _sum(head, entry.payload, entry.proof)
    return entry.index, entry.term, entry.kind, entry.payload, entry.proof, checksum


def _sum(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=8).digest()
