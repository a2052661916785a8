"""Keeps the predictor's record without its ever waiting for the disk; a record that can't be kept costs no forecast."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from actors.errors import Failed
from actors.prediction.engine import Counted
from actors.prediction.messages import Recorded, RecordedQuery, RecordedSamples
from actors.prediction.record import FILE, Key, Record
from actors.prediction.scores import Settled

log = structlog.get_logger()
FLUSH_S = 5.0
RECENT_S = 3600.0
WAITING_MAX = 50_000

_Found = TypeVar("_Found")


class Keeper:
    """The record in a thread of its own.

    Args:
        state_dir: where the file lies. One that is no database is moved aside, and a new one begun.
    """

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / FILE
        self._thread = ThreadPoolExecutor(1, "record")
        self._record: Record | None = None
        self._samples: list[tuple[Key, Counted]] = []
        self._settled: list[tuple[Key, Settled]] = []
        self._problem = ""

    async def recent(self) -> dict[Key, tuple[list[Recorded], list[Settled]]]:
        """What the last hour recorded; nothing when it can't be read."""
        since = time.time() - RECENT_S
        try:
            return await self._run(lambda record: record.recent(since))
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return {}

    def add(self, key: Key, samples: list[Counted], settled: list[Settled]) -> None:
        """Have it written with the next flush."""
        self._samples += [(key, one) for one in samples]
        self._settled += [(key, one) for one in settled]
        # A disk that stays full must not fill the memory as well.
        del self._samples[:-WAITING_MAX]
        del self._settled[:-WAITING_MAX]

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits; what can't be written waits on."""
        samples, settled = self._samples, self._settled
        if not samples and not settled:
            return
        self._samples, self._settled = [], []
        try:
            await self._run(lambda record: record.add(samples, settled, time.time()))
            self._problem = ""
        except (sqlite3.Error, OSError) as error:
            self._samples, self._settled = samples + self._samples, settled + self._settled
            self._failed(error)

    async def samples(self, query: RecordedQuery) -> RecordedSamples:
        """What was recorded, up to now.

        Raises:
            Failed: it can't be read.
        """
        await self.flush()
        try:
            return await self._run(lambda record: record.samples(query))
        except (sqlite3.Error, OSError) as error:
            raise Failed(detail=f"{self._file} can't be read: {error}") from error

    async def close(self) -> None:
        """Write what waits and close the file."""
        await self.flush()
        if self._record is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._record.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[Record], _Found]) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> Record:
        if self._record is None:
            try:
                self._record = Record(self._file)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # a full disk or a lock, not a damaged file
                    raise
                aside = self._file.with_suffix(".damaged")
                self._file.replace(aside)
                for ending in ("-wal", "-shm"):
                    self._file.with_name(FILE + ending).unlink(missing_ok=True)
                log.error("the record of forecasts is damaged: a new one is begun", moved_to=str(aside))
                self._record = Record(self._file)
        return self._record

    def _failed(self, error: Exception) -> None:
        if str(error) != self._problem:
            log.error("forecasts are not recorded", reason=str(error))
        self._problem = str(error)
