"""Something on a node that is kept as the control state has it."""

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol

import structlog

from actors.control.messages import Watched
from actors.errors import NovaCronError

log = structlog.get_logger()
WAIT_S = 15.0
AGAIN_S = 2.0


class Watchable(Protocol):
    """The part of `actors.control.client.StateClient` that is used here."""

    async def watch(self, after: int, wait_s: float = 0.0) -> Watched: ...


class Follower(ABC):
    """Waits at the members for changes of some tables of the state.

    Args:
        source: the control state.
        what: what is kept, for the log.
        tables: those that it depends on.
    """

    def __init__(self, source: Watchable, what: str, tables: tuple[str, ...]) -> None:
        self._source, self._what, self._tables = source, what, tables
        self.problem = ""
        """Why the last known ones hold; '' while they are as the members have them."""

    @abstractmethod
    async def renew(self) -> None:
        """Ask for all of it and keep it; what it raises (`NovaCronError`, `OSError`) is tried again."""

    async def run(self) -> None:
        """Watch for ever; while no member answers, or nothing can be kept, the last known ones hold."""
        after, read = 0, False
        while True:
            try:
                news = await self._source.watch(after, WAIT_S if read else 0.0)
                if not read or news.forgotten or any(event.table in self._tables for event in news.events):
                    await self.renew()
                after, read, self.problem = news.revision, True, ""
            except (NovaCronError, OSError) as error:
                if not self.problem:
                    log.warning("the last known ones hold", what=self._what, reason=str(error))
                self.problem = str(error)
                await asyncio.sleep(AGAIN_S)
