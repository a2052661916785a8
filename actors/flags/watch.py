"""Keeps the node's file of flags as the control state has them."""

import asyncio
from pathlib import Path
from typing import Protocol

import structlog

from actors.control.messages import Watched
from actors.control.model import Flag
from actors.errors import NovaCronError
from actors.flags.file import read_flags, write_flags

log = structlog.get_logger()
WAIT_S = 15.0
AGAIN_S = 2.0


class State(Protocol):
    """The part of `actors.control.client.StateClient` that is used here."""

    async def flags(self, *, deadline_s: float = 15.0) -> dict[str, Flag]: ...
    async def watch(self, after: int, wait_s: float = 0.0) -> Watched: ...


class FlagWatch:
    """Waits at the members for changes of flags.

    Args:
        state: the control state.
        state_dir: where the file lies.
    """

    def __init__(self, state: State, state_dir: Path) -> None:
        self._state = state
        self._state_dir = state_dir
        self.problem = ""

    async def run(self) -> None:
        """Watch for ever; while no member answers the file stays as it is."""
        after, read = 0, False
        while True:
            try:
                news = await self._state.watch(after, WAIT_S if read else 0.0)
                if not read or news.forgotten or any(event.table == "flags" for event in news.events):
                    await self._take(await self._state.flags())
                after, read, self.problem = news.revision, True, ""
            except NovaCronError as error:
                if not self.problem:
                    log.warning("flags may be old: no member of the control state answers", reason=str(error))
                self.problem = str(error)
                await asyncio.sleep(AGAIN_S)
            except OSError as error:
                log.error("flags can't be kept", reason=str(error))
                self.problem = str(error)
                await asyncio.sleep(AGAIN_S)

    async def _take(self, flags: dict[str, Flag]) -> None:
        if flags != await asyncio.to_thread(read_flags, self._state_dir):
            await asyncio.to_thread(write_flags, self._state_dir, flags)
            off = {name: flag.percent for name, flag in flags.items() if flag.killed or flag.percent < 100}
            log.info("rollout flags", not_everywhere=off)
