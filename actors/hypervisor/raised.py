"""Whether what is sent for a move goes before other moves: told to a transport beside the move, never on its way."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from actors.errors import NovaCronError

log = structlog.get_logger()
Tell = Callable[[bool], Awaitable[None]]


class Raised:
    """What one transport is told of one job: one call at a time, the newest wish last.

    Args:
        tell: tells it; has a deadline of its own. That it fails is no harm: the move goes on with its fair share.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._wanted = False
        self._told = False
        self._task: asyncio.Task[None] | None = None

    def want(self, *, raised: bool) -> None:
        """Have it told so; returns at once."""
        self._wanted = raised
        if self._wanted != self._told and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._catch_up(), name="raise job")

    async def _catch_up(self) -> None:
        while self._told != self._wanted:
            self._told = self._wanted
            try:
                await self._tell(self._told)
            except NovaCronError as error:
                log.debug("a transport was not told what goes first", raised=self._told, error=str(error))
            except Exception:
                # Whatever it is, no guest's move may end of it.
                log.exception("a transport was not told what goes first", raised=self._told)
