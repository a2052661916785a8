"""Every node's part in who the members are: it keeps the list for its actors, and begins to be one when it is added."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from actors.config.schema import Config
from actors.control.follower import Follower, Watchable
from actors.control.members import (
    FOLDER,
    FOUNDERS_FILE,
    JOINED_FILE,
    KNOWN_FILE,
    Founder,
    Joined,
    Known,
    has_left,
    joined,
    members_of,
)
from actors.control.messages import MembersAnswer
from actors.control.shelf import parts_in
from actors.errors import Failed
from actors.files import write_atomically

log = structlog.get_logger()


class State(Watchable, Protocol):
    """The part of `actors.control.client.StateClient` that is used here."""

    async def members(self, *, deadline_s: float = 15.0) -> MembersAnswer: ...


class Joining(Follower):
    """Watches the members from one node.

    Args:
        stop: ends this node's member, if one runs.
        start: starts it.
    """

    def __init__(
        self, state: State, config: Config, stop: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(state, "members", ("seats", "members"))
        self._state, self._config, self._stop, self._start = state, config, stop, start
        self._starts = False

    async def renew(self) -> None:
        """Ask the members who they are, and go by it; see `take`."""
        await self.take(await self._state.members())

    async def take(self, told: MembersAnswer) -> None:
        """Keep what the members said, and be one if this node was added.

        Raises:
            Failed: this node's configuration names other founders than theirs.
        """
        path = self._config.node.state_dir / KNOWN_FILE
        found = Known(founders=tuple(told.founders), members=tuple(told.members))
        await asyncio.to_thread(_keep, path, msgspec.json.encode(found))
        mine = [each for each in told.members if each.node == self._config.node.name]
        if mine and _is_new(self._config, mine[0], told):
            await self._become(mine[0], told)
        if self._starts:
            # Again until it is up: that it is a member stands on the disk by now.
            await self._start()
            self._starts = False

    async def _become(self, me: Founder, told: MembersAnswer) -> None:
        founders = tuple(told.founders)
        if founders != members_of(self._config):
            raise Failed(
                detail=f"{me.node} was added as member {me.number}, and its configuration names other founders than"
                f" the members have: set consensus.members to [{', '.join(each.node for each in founders)}], as on"
                " every other node"
            )
        record = Joined(me=me, part=told.part, members=tuple(each for each in told.members if each.number != me.number))
        log.info("this node becomes a member", number=me.number, part=told.part)
        await self._stop()
        await asyncio.to_thread(begin, self._config.node.state_dir / FOLDER, founders, record)
        self._starts = True


def _keep(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content, 0o644)


def _is_new(config: Config, me: Founder, told: MembersAnswer) -> bool:
    """Whether this node is to begin as `me`: it is not that member yet, and no founder that never left."""
    folder = config.node.state_dir / FOLDER
    record = joined(folder)
    if record is not None:
        return record.me.number != me.number
    return me.number not in [each.number for each in told.founders]


def begin(folder: Path, founders: tuple[Founder, ...], record: Joined) -> None:
    """Lay out the folder of a member that begins with nothing; what an earlier member of this node had is put aside."""
    if parts_in(folder) or has_left(folder) or (folder / JOINED_FILE).exists():
        aside = folder.with_name(f"{folder.name}.left")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOUNDERS_FILE, msgspec.json.encode(founders), 0o600)
    write_atomically(folder / JOINED_FILE, msgspec.json.encode(record), 0o600)
