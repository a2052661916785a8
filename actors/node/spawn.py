"""Creates this node's actors in the site's Ray cluster, pinned to this node and restarted by Ray when they die."""

import asyncio

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.calls.directory import NAMESPACE, Directory, actor_name
from actors.calls.messages import Empty
from actors.calls.service import Service
from actors.config.schema import Config
from actors.errors import ActorDown, DeadlineExceeded, NovaCronError

# One thread per native pool: two busy threads of a pool on two busy cores were 9 to 28 times slower than one.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


async def spawn(service: str, kind: type[Service], config: Config, directory: Directory, deadline_s: float) -> str:
    """Create the actor `service` of this node (or find it, if it outlived this process) and wait until it answers.

    Raises:
        ActorDown: it did not answer within `deadline_s`; the reason is the last error seen.
    """
    name = actor_name(service, config.node.name)
    await asyncio.to_thread(_create, name, kind, config)
    reason = "it never answered"
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    await directory.call(directory.on(service, config.node.name), "ping", Empty(), Empty, deadline_s)
                    return name
                except NovaCronError as error:
                    reason = str(error)
                    await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ActorDown(service=name, reason=reason) from error


def _create(name: str, kind: type[Service], config: Config) -> None:
    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    ray.remote(kind).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        num_cpus=0,
        scheduling_strategy=here,
        runtime_env={"env_vars": _ENVIRONMENT},
    ).remote(config)


def end(name: str) -> None:
    """End the actor `name` for good, if it is there."""
    try:
        actor = ray.get_actor(name, NAMESPACE)
    except ValueError:
        return
    ray.kill(actor, no_restart=True)


async def until_ended(name: str, deadline_s: float) -> None:
    """End the actor `name` for good and wait until its name is free: one made sooner could be the ending one.

    Raises:
        DeadlineExceeded: it is still there.
    """
    await asyncio.to_thread(end, name)
    until = asyncio.get_running_loop().time() + deadline_s
    while await asyncio.to_thread(_is_there, name):
        if asyncio.get_running_loop().time() > until:
            raise DeadlineExceeded(what=f"the end of {name}", deadline_s=deadline_s)
        await asyncio.sleep(0.1)


def _is_there(name: str) -> bool:
    try:
        ray.get_actor(name, NAMESPACE)
    except ValueError:
        return False
    return True
