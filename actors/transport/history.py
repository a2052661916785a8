"""What links measured, over restarts: ten-second means for a day, hourly ones for a year. Also what operators set.

The size is bounded: at most 8640 + 8760 rows for each peer, about 2 MiB.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from actors.transport.messages import LinkPeriod, LinkSample
from actors.transport.modes import Mode

SPAN_S, HOUR_S = 10, 3600
KEPT_S = {SPAN_S: 86_400, HOUR_S: 365 * 86_400}
_COLUMNS = ", ".join(LinkPeriod.__struct_fields__)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS period (
    peer TEXT, at REAL, span_s INTEGER, rtt_ms REAL, jitter_ms REAL, loss REAL, sent_bytes INTEGER, acked_bytes INTEGER,
    busy_share REAL, capacity_bytes_per_s REAL, mode TEXT, PRIMARY KEY (peer, span_s, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (peer TEXT PRIMARY KEY, mode TEXT, cap_mbit REAL);
CREATE VIEW IF NOT EXISTS hourly AS
SELECT peer, CAST(at / {HOUR_S} AS INTEGER) * {HOUR_S} AS hour, {HOUR_S} AS span_s,
    coalesce(avg(nullif(rtt_ms, 0)), 0) AS rtt_ms, avg(jitter_ms) AS jitter_ms, avg(loss) AS loss,
    sum(sent_bytes) AS sent_bytes, sum(acked_bytes) AS acked_bytes, avg(busy_share) AS busy_share,
    max(capacity_bytes_per_s) AS capacity_bytes_per_s, max(mode) AS mode
FROM period WHERE span_s = {SPAN_S} GROUP BY peer, hour;
"""  # noqa: S608  nothing but this file's own numbers


class Setting(msgspec.Struct, frozen=True):
    """What an operator set for the link to `peer`; None: nothing."""

    peer: str
    mode: Mode | None
    cap_mbit: float | None


def summarise(peer: str, samples: list[LinkSample], capacity_bytes_per_s: float, mode: Mode) -> LinkPeriod:
    """One row of up to `SPAN_S` one-second samples; there must be at least one."""
    trips = [each.rtt_ms for each in samples if each.rtt_ms > 0]
    count = len(samples)
    return LinkPeriod(
        peer=peer,
        at=round(samples[0].at, 3),
        span_s=SPAN_S,
        rtt_ms=round(sum(trips) / len(trips), 3) if trips else 0.0,
        jitter_ms=round(sum(each.jitter_ms for each in samples) / count, 3),
        loss=round(sum(each.loss for each in samples) / count, 6),
        sent_bytes=sum(each.sent_bytes for each in samples),
        acked_bytes=sum(each.acked_bytes for each in samples),
        busy_share=round(sum(each.busy_share for each in samples) / count, 4),
        capacity_bytes_per_s=capacity_bytes_per_s,
        mode=mode,
    )


class LinkHistory:
    """The file of one node. Calls block; one thread at a time.

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
        self._rolled_up = 0

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, rows: Iterable[LinkPeriod], now: float) -> None:
        """Keep `rows`; roll hours up that have ended, and forget what is too old."""
        values = [msgspec.structs.astuple(row) for row in rows]
        with self._db:
            marks = ", ".join("?" * len(LinkPeriod.__struct_fields__))
            self._db.executemany(f"INSERT OR REPLACE INTO period ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608
            if int(now / HOUR_S) != self._rolled_up:
                self._roll_up(now)

    def _roll_up(self, now: float) -> None:
        """Once an hour, and at the first rows after a start: hours that were missed meanwhile are still there."""
        self._db.execute(
            f"INSERT OR REPLACE INTO period ({_COLUMNS}) SELECT peer, hour, span_s, rtt_ms, jitter_ms, loss,"  # noqa: S608
            " sent_bytes, acked_bytes, busy_share, capacity_bytes_per_s, mode FROM hourly WHERE hour <= ?",
            (now - HOUR_S,),
        )
        for span_s, kept_s in KEPT_S.items():
            self._db.execute("DELETE FROM period WHERE span_s = ? AND at < ?", (span_s, now - kept_s))
        self._rolled_up = int(now / HOUR_S)

    def rows(self, peer: str, after: float, span_s: int, most: int) -> list[LinkPeriod]:
        """The latest rows of one link after Unix time `after`, oldest first, at most `most`."""
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM period WHERE peer = ? AND span_s = ? AND at > ? ORDER BY at DESC LIMIT ?",  # noqa: S608
            (peer, span_s, after, most),
        ).fetchall()
        return [LinkPeriod(*row) for row in reversed(found)]

    def remember(self, setting: Setting) -> None:
        """Keep what was set, in place of what was."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?, ?)", msgspec.structs.astuple(setting))

    def settings(self) -> list[Setting]:
        """What was set, of every link."""
        return [Setting(*row) for row in self._db.execute("SELECT peer, mode, cap_mbit FROM setting")]
