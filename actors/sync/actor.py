"""The facts actor: one per site, on its lead node. Named ``facts@NODE``."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Literal

import msgspec
import structlog

from actors.calls.directory import Directory
from actors.calls.messages import Caller, Empty
from actors.calls.protocol import Calls
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import BadRequest, NovaCronError
from actors.flags.file import Switches
from actors.sync.facts import Facts
from actors.sync.feed import Feed
from actors.sync.hints import HintFile
from actors.sync.messages import (
    AddSample,
    Fact,
    FactList,
    FactsQuery,
    PutFact,
    ReplicaState,
    Step,
    Steps,
)
from actors.sync.peering import Peering
from actors.sync.records import HINT
from actors.sync.values import Register, Series, Value

log = structlog.get_logger()
_AGAIN_S = 5.0
_FORGET_S = 600.0
_HINTS_S = 5.0


class FactsKeeper(Service):
    """What this site and the others know and nobody has to agree on (ASS).

    A restarted one begins empty, under a new writer's name, with the hints that its file has; the site's own facts are
    written again within seconds, the other sites send theirs.

    Args:
        config: of the node.
        calls: the way to other actors; the node's `Directory` unless a test brings its own.
    """

    def __init__(self, config: Config, calls: Calls | None = None) -> None:
        self._calls = calls or Directory(config.node.name, config.topology)
        self._facts = Facts(f"{config.node.name}.{secrets.token_hex(6)}")
        self._switches = Switches(config.node.name, config.node.state_dir)
        self._hints = HintFile(config.node.state_dir)
        self._facts.merge(self._hints.read(), _now_ms())
        self._kept = self._known_hints()
        self._keeping = asyncio.Lock()
        site = self._calls.site
        leads = {one.name: one.nodes[0].name for one in config.topology.hosting if one.name != site}
        self._peering = Peering(self._facts, leads, self._say, self._exchanging, SystemRandom())
        self._feed = Feed(self._calls, self._put, self._sample)
        # Ray runs __init__ of an asynchronous actor inside its loop: a restarted one goes on by itself.
        loop = asyncio.get_running_loop()
        works = (self._peering.run, self._feed.run, self._tidy, self._keep_on)
        self._tasks = [loop.create_task(_for_ever(work)) for work in works]

    async def close(self) -> None:
        """Stop the background work where it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- this site ----------------------------------------------------------------------------------------------

    @exposed()
    async def put(self, caller: Caller, request: PutFact) -> Empty:  # noqa: ARG002
        """Write or remove a fact; a hint is on disk when this returns.

        Raises:
            BadRequest: the value is no JSON, or there are too many facts.
            Failed: a hint holds, but only until a restart.
        """
        if request.value is not None:
            _check_json(request.key, request.value)
        self._put(request.key, request.value)
        if request.key.startswith(HINT):
            await self._keep_hints()
        return Empty()

    @exposed()
    async def sample(self, caller: Caller, request: AddSample) -> Empty:  # noqa: ARG002
        """Add to a series; raises as `put`."""
        _check_json(request.key, request.value)
        self._sample(request.key, request.value)
        return Empty()

    @exposed()
    async def find(self, caller: Caller, request: FactsQuery) -> FactList:  # noqa: ARG002
        """The facts under a prefix that have not been removed."""
        now = time.time()
        found = [fact for key in self._facts.keys(request.prefix) if (fact := self._shown(key, now)) is not None]
        later = [fact for fact in found if fact.key > request.after]
        return FactList(facts=later[: request.most], more=len(later) > request.most)

    @exposed()
    async def state(self, caller: Caller, request: Empty) -> ReplicaState:  # noqa: ARG002
        """How the replica and its exchanges stand."""
        return ReplicaState(
            site=self._calls.site,
            writer=self._facts.clock.writer,
            facts=len(self._facts),
            refused=self._facts.refused,
            exchanging=self._exchanging(),
            peers=self._peering.states(),
        )

    # -- other sites --------------------------------------------------------------------------------------------

    @exposed(to_peers=True)
    async def exchange(self, caller: Caller, request: Step) -> Steps:
        """Take another site's message."""
        return await self._peering.receive(caller.site, caller.node, request)

    async def _say(self, site: str, step: Step, deadline_s: float) -> Steps:
        return await self._calls.call(self._calls.central("facts", site), "exchange", step, Steps, deadline_s)

    def _exchanging(self) -> bool:
        return self._switches.on("ass", self._calls.site)

    # -- inside -------------------------------------------------------------------------------------------------

    def _put(self, key: str, value: bytes | None) -> None:
        self._peering.tell(self._facts.put(key, value, _now_ms()))

    def _sample(self, key: str, value: bytes) -> None:
        self._peering.tell(self._facts.sample(key, value, _now_ms()))

    def _shown(self, key: str, now: float) -> Fact | None:
        kind: Literal["fact", "series"] = "fact"
        match self._facts.get(key):
            case Register(stamp, payload) if payload is not None:
                newest, shown = stamp, _json(payload)
            case Series(samples):
                kind, newest = "series", samples[-1].stamp
                shown = [[sample.stamp.wall_ms / 1000, _json(sample.value)] for sample in samples]
            case _:
                return None
        at = newest.wall_ms / 1000
        return Fact(key=key, kind=kind, value=shown, at=at, age_s=max(0.0, round(now - at, 3)), writer=newest.writer)

    def _known_hints(self) -> dict[str, Value]:
        return {key: value for key in self._facts.keys(HINT) if (value := self._facts.get(key)) is not None}

    async def _keep_hints(self) -> None:
        async with self._keeping:
            hints = self._known_hints()
            if hints != self._kept:
                await asyncio.to_thread(self._hints.write, hints)
                self._kept = hints

    async def _keep_on(self) -> None:
        """Keep the hints that came from other sites too."""
        while True:
            await asyncio.sleep(_HINTS_S)
            await self._keep_hints()

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_S)
            self._facts.forget(_now_ms())


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """A fault of ours must not end the exchange for good while the actor still answers."""
    while True:
        try:
            await work()
        except NovaCronError as error:
            log.warning("facts", work=work.__qualname__, reason=str(error))
        except Exception:
            log.exception("facts", work=work.__qualname__)
        await asyncio.sleep(_AGAIN_S)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _check_json(key: str, value: bytes) -> None:
    try:
        msgspec.json.decode(value)
    except ValueError as error:
        raise BadRequest(detail=f"{key}: the value is no JSON: {error}") from error


def _json(value: bytes) -> object:
    """What a site wrote; one of another version may write something else."""
    try:
        return msgspec.json.decode(value)
    except ValueError:
        return value.decode(errors="replace")
