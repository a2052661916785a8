"""Writes the node's link history in the background, so that no disk ever holds up the transport."""

import asyncio
import sqlite3
import time
from pathlib import Path

import structlog

from actors.errors import Failed
from actors.transport.history import SPAN_S, LinkHistory, Setting, summarise
from actors.transport.messages import LinkPeriod, LinkSample
from actors.transport.modes import Mode

log = structlog.get_logger()
FILE = "links.sqlite"


class Recorder:
    """Gathers samples into rows. Without a file that works it only says so: measuring goes on.

    Args:
        state_dir: where the file lies.
    """

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / FILE
        self._history: LinkHistory | None = None
        self._lock = asyncio.Lock()
        self._gathered: dict[str, list[LinkSample]] = {}
        self._due: list[LinkPeriod] = []

    def open(self) -> list[Setting]:
        """Open the file; gives what was set before."""
        try:
            self._history = self._history or LinkHistory(self._file)
            return self._history.settings()
        except (sqlite3.Error, OSError) as error:
            log.warning("no link history", file=str(self._file), reason=str(error))
            self._history = None
            return []

    def sample(self, peer: str, sample: LinkSample, capacity_bytes_per_s: float, mode: Mode) -> None:
        """Take one second of a link."""
        gathered = self._gathered.setdefault(peer, [])
        gathered.append(sample)
        if len(gathered) >= SPAN_S:
            self._due.append(summarise(peer, gathered, capacity_bytes_per_s, mode))
            gathered.clear()

    async def flush(self) -> None:
        """Write what is due."""
        rows, self._due = self._due, []
        history = self._history
        if history is None or not rows:
            return
        try:
            async with self._lock:
                await asyncio.to_thread(history.add, rows, time.time())
        except sqlite3.Error as error:
            log.warning("link history not written", reason=str(error), rows=len(rows))

    async def remember(self, setting: Setting) -> None:
        """Keep what an operator set over restarts.

        Raises:
            Failed: it can't be written; it holds until the restart.
        """
        try:
            if self._history is None:
                raise sqlite3.OperationalError("it could not be opened")
            async with self._lock:
                await asyncio.to_thread(self._history.remember, setting)
        except sqlite3.Error as error:
            raise Failed(detail=f"it holds now, but {self._file} can't keep it over a restart: {error}") from error

    async def rows(self, peer: str, after: float, span_s: int, most: int) -> list[LinkPeriod]:
        """See `LinkHistory.rows`.

        Raises:
            Failed: the file can't be read.
        """
        try:
            if self._history is None:
                raise sqlite3.OperationalError("it could not be opened")
            async with self._lock:
                return await asyncio.to_thread(self._history.rows, peer, after, span_s, most)
        except sqlite3.Error as error:
            raise Failed(detail=f"{self._file}: {error}") from error

    async def close(self) -> None:
        """Write what is due, and close the file."""
        await self.flush()
        if self._history is not None:
            async with self._lock:
                self._history.close()
            self._history = None
