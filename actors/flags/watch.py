"""Keeps the node's file of flags as the control state has them."""

import asyncio
from pathlib import Path
from typing import Protocol

import structlog

from actors.control.follower import Follower, Watchable
from actors.control.model import Flag
from actors.flags.file import read_flags, write_flags

log = structlog.get_logger()


class State(Watchable, Protocol):
    """The part of `actors.control.client.StateClient` that is used here."""

    async def flags(self, *, deadline_s: float = 15.0) -> dict[str, Flag]: ...


class FlagWatch(Follower):
    """Waits at the members for changes of flags.

    Args:
        state: the control state.
        state_dir: where the file lies.
    """

    def __init__(self, state: State, state_dir: Path) -> None:
        super().__init__(state, "flags", ("flags",))
        self._state = state
        self._state_dir = state_dir

    async def renew(self) -> None:
        """Write the flags down if they have changed."""
        flags = await self._state.flags()
        if flags != await asyncio.to_thread(read_flags, self._state_dir):
            await asyncio.to_thread(write_flags, self._state_dir, flags)
            off = {name: flag.percent for name, flag in flags.items() if flag.killed or flag.percent < 100}
            log.info("rollout flags", not_everywhere=off)
