"""Runs one node in the foreground: start, watch, stop."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import ray
import structlog

from actors.boot.component import Component
from actors.boot.runner import Runner
from actors.boot.status import BootStatus, Unhealthy
from actors.calls.directory import Directory
from actors.calls.messages import Empty
from actors.config.load import load
from actors.config.schema import Config
from actors.errors import BadRequest, NovaCronError, Unreachable
from actors.files import write_atomically
from actors.node.components import components
from actors.node.head import until_gone
from actors.node.process import STATUS_FILE, claimed

log = structlog.get_logger()
_WATCH_S = 5.0
_RETIRE_S = 8.0

# Builds a component that needs to know how far the start is (the API's /readyz).
Extra = Callable[[Config, Callable[[], BootStatus]], list[Component]]


async def run(config_path: Path, extra: Extra) -> None:
    """Start the node that `config_path` describes, keep it until SIGTERM or SIGINT, and stop it in reverse order.

    Raises:
        ConfigInvalid: the file is wrong; nothing was started.
        BadRequest: the topology makes this host a witness.
        Conflict: a node already runs on this host.
        BootFailed: a critical component did not start; everything was rolled back.
    """
    config = load(config_path, os.environ)
    if config.site.witness:
        raise BadRequest(
            detail=f"{config.node.name} is a witness, by topology.sites: run `novacron node witness` there"
        )
    with claimed(config.node.run_dir):
        await _run(config, extra)


async def _run(config: Config, extra: Extra) -> None:
    runner: Runner

    async def check_health() -> list[Unhealthy]:
        return await runner.check_health()

    def status() -> BootStatus:
        return runner.status()

    runner = Runner([*components(config, check_health), *extra(config, status)])
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, main.cancel)
    progress = asyncio.create_task(_publish(runner, config))
    try:
        await runner.boot()
        end = asyncio.create_task(_end_with_ray())
        with contextlib.suppress(asyncio.CancelledError):
            await _watch(runner)
        end.cancel()
        await _retire(config)
        await runner.stop()
    finally:
        progress.cancel()
        _write(runner, config)


async def _retire(config: Config) -> None:
    """Have the agent give its lease back, while all that it needs for that is still there."""
    directory = Directory(config.node.name, config.topology)
    try:
        await directory.call(directory.on("agent", config.node.name), "retire", Empty(), Empty, _RETIRE_S)
    except NovaCronError as error:
        log.info("the lease ends by itself, or by an operator's override", reason=str(error))


async def _end_with_ray() -> None:
    """End this process when the site's Ray cluster has ended, which takes the actors with it; guests are libvirt's."""
    await until_gone(ray.get_runtime_context().gcs_address)
    log.error("this site's Ray cluster has ended, and so does this node; guests keep running")
    # Threads are waiting for a cluster that answers nobody any more: a tidy end would wait for them, up to a minute.
    os._exit(Unreachable.exit_code)


async def _watch(runner: Runner) -> None:
    """Log what is up but not well, and when it is well again; Ray restarts actors, this only tells."""
    before: dict[str, str] = {}
    while True:
        await asyncio.sleep(_WATCH_S)
        now = {ill.name: ill.reason for ill in await runner.check_health()}
        for name in now.keys() - before.keys():
            log.warning("component is not well", component=name, reason=now[name])
        for name in before.keys() - now.keys():
            log.info("component is well again", component=name)
        before = now


async def _publish(runner: Runner, config: Config) -> None:
    """Keep the node's status file true: `novacron node start` waits for READY in it, `node status` shows it."""
    last = None
    while True:
        status = runner.status()
        seen = status.phase, [one.state for one in status.components]
        if seen != last:
            last = seen
            await asyncio.to_thread(_write, runner, config)
        await asyncio.sleep(0.1)


def _write(runner: Runner, config: Config) -> None:
    config.node.run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(config.node.run_dir / STATUS_FILE, msgspec.json.encode(runner.status()), 0o644)
