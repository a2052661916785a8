"""The journal: every job and what happened to it, on disk before anything is done about it (V3)."""

import sqlite3
import threading
from pathlib import Path

import msgspec

from actors.errors import Failed, SetupMissing
from actors.migration.messages import JobEvent, Progress
from actors.migration.states import Job

VERSION = 1
KEY_S = 86400.0
KEEP_JOBS = 1000
# Progress comes twice a second for hours; a watcher needs the newest of it.
KEEP_PROGRESS = 50
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, created_at REAL NOT NULL, settled INTEGER NOT NULL,
    body BLOB NOT NULL, progress BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_by_key ON jobs (key, created_at);
CREATE INDEX jobs_by_age ON jobs (created_at);
CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, seq INTEGER NOT NULL, kind TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
"""

JOURNAL_FILE = "migrations.sqlite"
"""Its name in the node's state directory."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One job with its newest progress."""

    job: Job
    progress: Progress


class Journal:
    """SQLite in one file; callable from any thread, one at a time.

    Raises:
        SetupMissing: the file was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
        elif found != VERSION:
            self._db.close()
            raise SetupMissing(what=f"a NovaCron that reads version {found} of the journal {path}")

    def check(self) -> None:
        """Have SQLite walk its structure.

        Raises:
            Failed: the file is damaged; what SQLite says is in the message.
        """
        with self._lock:
            (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Failed(detail=f"the journal is damaged: {verdict}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def save(self, job: Job, progress: Progress, events: list[JobEvent]) -> None:
        """Write the job and its new events, durably and together."""
        values = (job.id, job.key, job.created_at, job.settled, _pack(job), _pack(progress))
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET settled = excluded.settled, body = excluded.body, progress = excluded.progress",
                values,
            )
            rows = [(job.id, event.seq, event.kind, _pack(event)) for event in events]
            self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
            if any(event.kind == "progress" for event in events):
                oldest = "SELECT seq FROM events WHERE job = ? AND kind = 'progress' ORDER BY seq DESC LIMIT 1 OFFSET ?"
                self._db.execute(
                    f"DELETE FROM events WHERE job = ? AND kind = 'progress' AND seq <= ({oldest})",  # noqa: S608
                    (job.id, job.id, KEEP_PROGRESS),
                )

    def unsettled(self) -> list[Record]:
        """The jobs that a manager still has to do something about, oldest first."""
        return self._records("WHERE settled = 0 ORDER BY created_at", ())

    def newest(self, limit: int = KEEP_JOBS) -> list[Record]:
        """The newest jobs first."""
        return self._records("ORDER BY created_at DESC, id LIMIT ?", (limit,))

    def get(self, job: str) -> Record | None:
        """One job."""
        return next(iter(self._records("WHERE id = ?", (job,))), None)

    def by_key(self, key: str, now: float) -> Record | None:
        """The job that was submitted with `key` within the last day."""
        found = self._records("WHERE key = ? AND created_at > ? ORDER BY created_at DESC LIMIT 1", (key, now - KEY_S))
        return next(iter(found), None)

    def events(self, job: str, after: int, limit: int = 500) -> list[JobEvent]:
        """Events with seq > `after`, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT body FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?", (job, after, limit)
            ).fetchall()
        return [msgspec.msgpack.decode(body, type=JobEvent) for (body,) in rows]

    def last_seq(self, job: str) -> int:
        """Number of the newest event, 0 without one."""
        with self._lock:
            (seq,) = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM events WHERE job = ?", (job,)).fetchone()
        return int(seq)

    def prune(self) -> None:
        """Forget settled jobs beyond the newest `KEEP_JOBS`."""
        with self._lock, self._db:
            self._db.execute(
                "DELETE FROM jobs WHERE settled = 1 AND id NOT IN"
                " (SELECT id FROM jobs ORDER BY created_at DESC LIMIT ?)",
                (KEEP_JOBS,),
            )

    def _records(self, where: str, values: tuple[str | float | int, ...]) -> list[Record]:
        with self._lock:
            rows = self._db.execute(f"SELECT body, progress FROM jobs {where}", values).fetchall()  # noqa: S608
        return [
            Record(job=msgspec.msgpack.decode(body, type=Job), progress=msgspec.msgpack.decode(last, type=Progress))
            for body, last in rows
        ]


def _pack(value: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(value)
