"""The node's process with the API in it: what `novacron node run` starts."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from actors.boot.component import Component
from actors.boot.status import BootStatus
from actors.calls.directory import Directory
from actors.config.schema import Config
from actors.control.client import StateClient
from actors.errors import SetupMissing
from actors.node.run import run
from api.app import create_app
from api.backend import SiteBackend
from api.server import serve

_UP_S = 20.0


async def run_node(config_path: Path) -> None:
    """Run the node of `config_path` until it is told to stop; the lead node of a site also serves the API.

    Raises:
        ConfigInvalid, BootFailed: as `actors.node.run.run`.
    """
    await run(config_path, _api)


def _api(config: Config, status: Callable[[], BootStatus]) -> list[Component]:
    if not config.leads:
        return []

    async def start(_: Mapping[str, Any]) -> "asyncio.Task[None]":
        directory = Directory(config.node.name, config.topology)
        backend = SiteBackend(directory, StateClient(directory, config), config.node.state_dir)
        app = create_app(backend, _token(config.api.token_file), status)
        up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(app, config.api.host, config.api.port, started=up))
        async with asyncio.timeout(_UP_S):
            both: set[asyncio.Future[Any]] = {server, up}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            server.result()
        return server

    async def stop(server: "asyncio.Task[None]") -> None:
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server

    async def health(server: "asyncio.Task[None]") -> None:
        if server.done():
            server.result()

    # It starts before the actors, so that /readyz can tell how far they are; requests meanwhile get a 503.
    return [Component(name="api", phase="services", needs=("configuration",), start=start, health=health, stop=stop)]


def _token(path: Path) -> str:
    try:
        token = path.read_text().split("\n", 1)[0].strip()
    except OSError as error:
        raise SetupMissing(what=f"a bearer token in the first line of {path} ({error.strerror})") from error
    if not token:
        raise SetupMissing(what=f"a bearer token in the first line of {path}, which is empty")
    return token
