"""The HTTP server, run inside the node's process and event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

from actors.errors import Failed

_BACKLOG = 128


class _Server(uvicorn.Server):
    """Leaves signals to the node's process, which stops its components in order, and says when it is up."""

    def __init__(self, config: uvicorn.Config, started: "asyncio.Future[int] | None") -> None:
        super().__init__(config)
        self._up = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._up is not None and sockets and not self._up.done():
            self._up.set_result(sockets[0].getsockname()[1])

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    """Bound before uvicorn sees it: uvicorn answers a taken port with `sys.exit`."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        raise Failed(detail=f"the API can't listen on {host} port {port}: {error}") from error
    sock.setblocking(False)
    return sock


async def serve(
    app: FastAPI, host: str, port: int, *, started: "asyncio.Future[int] | None" = None, grace_s: float = 5.0
) -> None:
    """Serve `app` until this task is cancelled; then requests under way get `grace_s` seconds to end.

    Args:
        app: from `api.app.create_app`.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        started: gets the port as its result once requests are answered.
        grace_s: open event streams are closed after so many seconds.

    Raises:
        Failed: the address is taken or not ours.
    """
    sock = _listen(host, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=max(1, round(grace_s)), timeout_keep_alive=30, h11_max_incomplete_event_size=65536,
    )  # fmt: skip
    server = _Server(config, started)
    running = asyncio.create_task(server.serve(sockets=[sock]), name="api")
    try:
        await asyncio.shield(running)
    finally:
        server.should_exit = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + 5.0):
                await running
        sock.close()
