"""The components of one node, in the four phases of its start.

Every node has its hypervisor agent, transport, encoder and decoder; a member of the control state has that; the first
node of a site also has the site's manager, predictor, placement policy and facts, and whatever the caller adds (the
API).
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import ray
import structlog

from actors.boot.component import Component, Criticality, Phase
from actors.boot.host import Host, detect_host
from actors.boot.status import Unhealthy
from actors.calls.directory import NAMESPACE, Directory, actor_name
from actors.calls.messages import Empty
from actors.calls.service import Service
from actors.config.schema import Config
from actors.control.actor import ClusterState
from actors.control.client import StateClient
from actors.control.follower import Follower
from actors.control.joining import Joining
from actors.control.members import is_member
from actors.control.messages import SERVICE as STATE
from actors.encoding.actor import DeltaDecoder, DeltaEncoder
from actors.errors import Failed, NovaCronError, Unreachable
from actors.files import write_atomically
from actors.flags.watch import FlagWatch
from actors.hypervisor.actor import NodeAgent
from actors.keeper import start as keeper
from actors.log import set_up
from actors.migration.actor import MigrationManager
from actors.migration.journal import JOURNAL_FILE, Journal
from actors.node.spawn import end, spawn, until_ended
from actors.placement.actor import PlacementPolicy
from actors.prediction.actor import BandwidthPredictor
from actors.security.tls import client_context, server_context
from actors.sync.actor import FactsKeeper
from actors.transport.actor import TransportStreams

log = structlog.get_logger()
SPAWN_S = 120.0
HEALTH_LOOKS, HEALTH_LOOK_S = 10, 1.0
_RAY_S = 60.0
KEEPER_S = 30.0
_KEEPER_LOOK_S = 1.0
_FREE_BYTES = 256 << 20

Values = Mapping[str, Any]


def components(config: Config, check_health: Callable[[], Awaitable[list[Unhealthy]]]) -> list[Component]:
    """This node's components; the site-wide ones only where `config.leads`. `check_health` asks all that are up."""

    async def all_well(_: Values) -> None:
        # On a host that starts everything at once an answer may be late: only who stays silent is ill.
        for left in reversed(range(HEALTH_LOOKS)):
            ill = [f"{one.name}: {one.reason}" for one in await check_health() if one.criticality == "critical"]
            if not ill:
                return
            if not left:
                raise Failed(detail="; ".join(ill))
            await asyncio.sleep(HEALTH_LOOK_S)

    parts = [*_pre_init(config), *_core(config)]
    if config.leads:
        parts += _services(config)
    watched = tuple(part.name for part in parts if part.phase in ("core", "services"))
    health = Component(name="health", phase="post-init", after=watched, start=all_well, deadline_s=60.0)
    return [*parts, health]


def _pre_init(config: Config) -> list[Component]:
    async def detect(_: Values) -> Host:
        return await asyncio.to_thread(detect_host)

    async def publish(_: Values) -> Config:
        # What is in force, environment overrides included: the first thing asked for when a node misbehaves.
        text = config.model_dump_json(indent=2)
        await asyncio.to_thread(write_atomically, config.node.state_dir / "effective-config.json", text.encode(), 0o600)
        return config

    async def log_set_up(_: Values) -> None:
        set_up(config.log)

    async def claim(_: Values) -> None:
        await asyncio.to_thread(_claim_folders, config)

    return [
        Component(name="mode-detection", phase="pre-init", start=detect, criticality="warning"),
        Component(name="logging", phase="pre-init", start=log_set_up),
        Component(name="resources", phase="pre-init", start=claim, needs=("logging",)),
        Component(name="configuration", phase="pre-init", start=publish, needs=("resources",)),
    ]


def _core(config: Config) -> list[Component]:
    async def contexts(_: Values) -> None:
        await asyncio.to_thread(server_context, config.security)
        await asyncio.to_thread(client_context, config.security)

    async def check_store(_: Values) -> None:
        await asyncio.to_thread(_check_journal, config)

    parts = [
        Component(name="security", phase="core", start=contexts, needs=("configuration",)),
        Component(
            name="control-plane",
            phase="core",
            start=_join_ray,
            needs=("configuration",),
            stop=_leave,
            deadline_s=_RAY_S,
        ),
        _keeper(config),
        _flags(config),
        _members(config),
        _actor("transport", TransportStreams, config, ("security", "control-plane"), "critical"),
        _actor("agent", NodeAgent, config, ("control-plane",), "critical"),
        _actor("encoder", DeltaEncoder, config, ("control-plane",), "degraded"),
        _actor("decoder", DeltaDecoder, config, ("control-plane",), "degraded"),
    ]
    if is_member(config):
        parts.append(_actor(STATE, ClusterState, config, ("transport",), "degraded"))
    if config.leads:
        parts.append(Component(name="state-store", phase="core", start=check_store, needs=("configuration",)))
    return parts


def _keeper(config: Config) -> Component:
    async def guard() -> None:
        """Start it again whenever it is gone: guests must not depend on one process that nobody looks after."""
        while True:
            await asyncio.sleep(_KEEPER_LOOK_S)
            try:
                await asyncio.to_thread(keeper.ensure, config, KEEPER_S)
            except (NovaCronError, OSError) as error:
                log.error("the keeper does not start", error=str(error))

    async def start(_: Values) -> asyncio.Task[None]:
        await asyncio.to_thread(keeper.ensure, config, KEEPER_S)
        return asyncio.create_task(guard(), name="keeper's guard")

    async def health(_: asyncio.Task[None]) -> None:
        if not keeper.alive(config):
            raise Failed(detail=f"it does not run; {config.node.state_dir / 'log' / 'keeper.log'} says why")

    async def stop(guard: asyncio.Task[None]) -> None:
        # Without a node it ends by itself, once there is no lease whose end it has to wait for.
        guard.cancel()

    return Component(
        name="keeper",
        phase="core",
        start=start,
        needs=("configuration",),
        criticality="critical",
        health=health,
        stop=stop,
        deadline_s=KEEPER_S + 5.0,
    )


def _flags(config: Config) -> Component:
    """Keeps the file of flags that the node's actors read; without it the last known ones hold."""
    directory = Directory(config.node.name, config.topology)
    return _watching("flags", FlagWatch(StateClient(directory, config), config.node.state_dir))


def _members(config: Config) -> Component:
    """Keeps the file of members that the node's actors read, and makes this node one when it is added."""
    directory = Directory(config.node.name, config.topology)

    async def stop() -> None:
        await until_ended(actor_name(STATE, config.node.name), SPAWN_S)

    async def start() -> None:
        await spawn(STATE, ClusterState, config, directory, SPAWN_S)

    return _watching("members", Joining(StateClient(directory, config), config, stop, start))


def _watching(name: str, watch: Follower) -> Component:
    """A component that watches the control state for ever."""

    async def start(_: Values) -> asyncio.Task[None]:
        return asyncio.create_task(watch.run(), name=name)

    async def health(task: asyncio.Task[None]) -> None:
        if task.done():
            task.result()
        if watch.problem:
            raise Failed(detail=f"the last known {name} hold: {watch.problem}")

    async def stop(task: asyncio.Task[None]) -> None:
        task.cancel()

    return Component(
        name=name,
        phase="core",
        start=start,
        needs=("control-plane",),
        criticality="degraded",
        health=health,
        stop=stop,
    )


def _services(config: Config) -> list[Component]:
    core = ("transport", "agent", "state-store")
    return [
        _actor("predictor", BandwidthPredictor, config, ("control-plane",), "degraded", "services"),
        _actor("placement", PlacementPolicy, config, ("control-plane",), "degraded", "services"),
        _actor("facts", FactsKeeper, config, ("transport",), "degraded", "services"),
        _actor("manager", MigrationManager, config, core, "critical", "services"),
    ]


def _actor(
    service: str,
    kind: type[Service],
    config: Config,
    needs: tuple[str, ...],
    criticality: Criticality,
    phase: Phase = "core",
) -> Component:
    directory = Directory(config.node.name, config.topology)

    async def start(_: Values) -> str:
        return await spawn(service, kind, config, directory, SPAWN_S)

    async def health(_: str) -> None:
        to = directory.on(service, config.node.name)
        await directory.call(to, "ping", Empty(), Empty, config.migration.call_s)

    async def stop(_: str) -> None:
        await asyncio.to_thread(end, actor_name(service, config.node.name))

    return Component(
        name=service,
        phase=phase,
        start=start,
        needs=needs,
        criticality=criticality,
        health=health,
        stop=stop,
        deadline_s=SPAWN_S + 5.0,
    )


async def _join_ray(_: Values) -> None:
    def join() -> None:
        try:
            ray.init(address="auto", namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError) as error:
            raise Unreachable(what=f"this site's Ray cluster from here ({error}); run `ray start` first") from error

    await asyncio.to_thread(join)


async def _leave(_: Any) -> None:
    await asyncio.to_thread(ray.shutdown)


def _claim_folders(config: Config) -> None:
    for folder in (config.node.state_dir, config.node.run_dir, config.node.images_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(detail=f"can't make {folder}: {error}") from error
        if not os.access(folder, os.W_OK):
            raise Failed(detail=f"{folder} is not writable for this user")
    free_bytes = shutil.disk_usage(config.node.state_dir).free
    if free_bytes < _FREE_BYTES:
        raise Failed(detail=f"{config.node.state_dir} has {free_bytes >> 20} MiB free, {_FREE_BYTES >> 20} are needed")


def _check_journal(config: Config) -> None:
    journal = Journal(config.node.state_dir / JOURNAL_FILE)
    try:
        journal.check()
    finally:
        journal.close()
