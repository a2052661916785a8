"""What links measured second by second and what was forecast beside the truth, over restarts.

The size is bounded: the newest half a million rows of each, and none older than a month (about 80 MB).
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from actors.prediction.engine import Counted
from actors.prediction.messages import Recorded, RecordedQuery, RecordedSamples, Role
from actors.prediction.scores import Band, Settled

FILE = "prediction.sqlite"
ROWS_MAX = 500_000
KEPT_S = 31 * 86_400.0
_PRUNE_EVERY = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sample (
    number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT, peer TEXT, at REAL, bytes_per_s REAL, rtt_ms REAL,
    jitter_ms REAL, loss REAL, retransmits INTEGER
);
CREATE INDEX IF NOT EXISTS sample_at ON sample (at);
CREATE TABLE IF NOT EXISTS forecast (
    number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT, peer TEXT, at REAL, horizon_s REAL, role TEXT, method TEXT,
    version TEXT, mean REAL, low REAL, high REAL, truth REAL
);
CREATE INDEX IF NOT EXISTS forecast_at ON forecast (at);
"""

Key = tuple[str, str]


class Record:
    """The file of one site's predictor. Calls block; one thread at a time.

    Raises:
        sqlite3.Error: from every method, when the disk is full or the file is no database.
        OSError: the directory can't be made.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, check_same_thread=False, timeout=5.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine may cost the last rows, no more
        self._db.executescript(_SCHEMA)
        self._added = 0

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, samples: Iterable[tuple[Key, Counted]], settled: Iterable[tuple[Key, Settled]], now: float) -> None:
        """Keep what is new, and now and then forget what is too much."""
        taken = [
            (node, peer, one.at, one.bytes_per_s, one.rtt_ms, one.jitter_ms, one.loss, one.retransmits)
            for (node, peer), one in samples
        ]
        told = [
            (
                node,
                peer,
                one.at,
                one.horizon_s,
                role,
                band.method,
                band.version,
                band.mean,
                band.low,
                band.high,
                one.truth,
            )
            for (node, peer), one in settled
            for role, band in one.said.items()
        ]
        with self._db:
            self._db.executemany("INSERT INTO sample VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", taken)
            self._db.executemany("INSERT INTO forecast VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", told)
            if self._added % _PRUNE_EVERY == 0:
                for table in ("sample", "forecast"):
                    self._db.execute(
                        f"DELETE FROM {table} WHERE at < ? OR number <= (SELECT max(number) FROM {table}) - ?",  # noqa: S608
                        (now - KEPT_S, ROWS_MAX),
                    )
        self._added += 1

    def samples(self, query: RecordedQuery) -> RecordedSamples:
        """The next samples that fit, in the order in which they were recorded."""
        found = self._db.execute(
            "SELECT number, node, peer, at, bytes_per_s, rtt_ms, jitter_ms, loss, retransmits FROM sample"
            " WHERE number > ? AND at > ? AND (? = '' OR node = ?) AND (? = '' OR peer = ?) ORDER BY number LIMIT ?",
            (query.after, query.since, query.node, query.node, query.peer, query.peer, query.most + 1),
        ).fetchall()
        return RecordedSamples(samples=[Recorded(*row) for row in found[: query.most]], more=len(found) > query.most)

    def recent(self, since: float) -> dict[Key, tuple[list[Recorded], list[Settled]]]:
        """By link, samples and settled forecasts since Unix time `since`, oldest first."""
        samples: dict[Key, list[Recorded]] = defaultdict(list)
        for one in self.samples(RecordedQuery(since=since, most=ROWS_MAX)).samples:
            samples[one.node, one.peer].append(one)
        told: dict[Key, dict[tuple[float, float], tuple[dict[Role, Band], float]]] = defaultdict(dict)
        for node, peer, at, horizon_s, role, method, version, mean, low, high, truth in self._db.execute(
            "SELECT node, peer, at, horizon_s, role, method, version, mean, low, high, truth FROM forecast"
            " WHERE at > ? ORDER BY at, number",
            (since,),
        ):
            said, _ = told[node, peer].setdefault((at, horizon_s), ({}, truth))
            said[role] = Band(method, version, mean, low, high)
        return {
            key: (
                samples.get(key, []),
                [Settled(at, horizon_s, said, truth) for (at, horizon_s), (said, truth) in told.get(key, {}).items()],
            )
            for key in samples.keys() | told.keys()
        }
