"""What is forwarded and exposed on this node, by tag."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from actors.errors import BadRequest, Conflict, NovaCronError
from actors.transport.channel_stream import ChannelStream
from actors.transport.forward import Count, connect_unix, join, listen_unix
from actors.transport.messages import Carried, Expose, Forward
from actors.transport.peer_session import PeerSession
from actors.transport.schedule import PRIORITIES
from actors.transport.sockets import accept_all

log = structlog.get_logger()
OPEN_S = 10.0
SessionTo = Callable[[str, float], Awaitable[PeerSession]]
"""(peer, deadline in seconds) → a session that is up."""


class _Listening(msgspec.Struct):
    forward: Forward
    listener: socket.socket
    task: asyncio.Task[None]


class Forwards:
    """Listeners, exposures and the channels that came of them.

    Args:
        session_to: opens a session to a peer on demand.
    """

    def __init__(self, session_to: SessionTo) -> None:
        self._session_to = session_to
        self._listening: dict[str, _Listening] = {}
        self._exposed: dict[tuple[str, str], Expose] = {}
        self._joined: dict[asyncio.Task[None], str] = {}
        self._counts: dict[tuple[str, str], Count] = {}

    def forward(self, order: Forward) -> None:
        """Listen for `order`; the same order again changes nothing.

        Raises:
            BadRequest: nothing can listen there, or no such priority.
            Conflict: the path already leads elsewhere.
        """
        existing = self._listening.get(order.listen_path)
        if existing is not None:
            if existing.forward == order:
                return
            raise Conflict(detail=f"{order.listen_path} already leads to {existing.forward.service}")
        if not 0 <= order.priority < PRIORITIES:
            raise BadRequest(detail=f"priority {order.priority} is not in 0 to {PRIORITIES - 1}")
        listener = listen_unix(order.listen_path)

        def take(local: socket.socket, _: str) -> None:
            self._run(order.tag, self._open(order, local))

        task = asyncio.create_task(accept_all(listener, take))
        self._listening[order.listen_path] = _Listening(order, listener, task)

    def expose(self, order: Expose) -> None:
        """Let `order.peer` open channels to `order.service`; the same order again changes nothing.

        Raises:
            Conflict: that peer's service of this name already leads elsewhere.
        """
        existing = self._exposed.get((order.peer, order.service))
        if existing is not None and existing != order:
            raise Conflict(detail=f"{order.service} is already exposed at {existing.connect_path}")
        self._exposed[order.peer, order.service] = order

    def carried(self, tag: str, service: str) -> Carried:
        """What crossed the local sockets of `service`, of those that carry `tag`."""
        count = self._counts.get((tag, service))
        return count.carried if count is not None else Carried()

    def close(self, tag: str) -> None:
        """End everything that carries `tag`; nothing left of it is no error."""
        for path, entry in list(self._listening.items()):
            if entry.forward.tag == tag:
                del self._listening[path]
                self._stop(entry)
        self._exposed = {key: order for key, order in self._exposed.items() if order.tag != tag}
        self._counts = {key: count for key, count in self._counts.items() if key[0] != tag}
        for task, owner in list(self._joined.items()):
            if owner == tag:
                task.cancel()

    def close_all(self) -> None:
        """End everything."""
        tags = {entry.forward.tag for entry in self._listening.values()} | set(self._joined.values())
        for tag in tags | {order.tag for order in self._exposed.values()}:
            self.close(tag)

    def opened_by_peer(self, session: PeerSession, stream: ChannelStream, service: str) -> None:
        """A peer opened `stream` to `service`: join it to what is exposed, or refuse."""
        order = self._exposed.get((session.peer, service))
        if order is None:
            log.warning("channel refused", peer=session.peer, service=service[:100])
            stream.reset(f"no service {service[:100]} for {session.peer}")
            session.forget(stream)
            return
        session.assign(stream, order.tag)
        self._run(order.tag, self._connect(order, session, stream))

    def _run(self, tag: str, work: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._joined[task] = tag
        task.add_done_callback(self._joined.pop)

    @staticmethod
    def _stop(entry: _Listening) -> None:
        entry.task.cancel()
        entry.listener.close()
        with contextlib.suppress(OSError):
            Path(entry.forward.listen_path).unlink()

    async def _open(self, order: Forward, local: socket.socket) -> None:
        try:
            session = await self._session_to(order.peer, OPEN_S)
            stream = session.open(order.service, order.priority, order.tag)
        except NovaCronError as error:
            log.warning("forward failed", service=order.service, peer=order.peer, reason=str(error))
            local.close()
            return
        except asyncio.CancelledError:
            local.close()
            raise
        await self._join(local, session, stream, order)

    async def _connect(self, order: Expose, session: PeerSession, stream: ChannelStream) -> None:
        try:
            local = await connect_unix(order.connect_path)
        except (OSError, TimeoutError) as error:
            log.warning(
                "exposed socket is not there", service=order.service, path=order.connect_path, reason=str(error)
            )
            stream.reset(f"nothing answers at {order.service}")
            session.forget(stream)
            return
        except asyncio.CancelledError:
            stream.reset("closed")
            session.forget(stream)
            raise
        await self._join(local, session, stream, order)

    async def _join(
        self, local: socket.socket, session: PeerSession, stream: ChannelStream, order: Forward | Expose
    ) -> None:
        count = self._counts.setdefault((order.tag, order.service), Count())
        try:
            await join(local, stream, session.chunk_bytes, count)
        finally:
            session.forget(stream)
