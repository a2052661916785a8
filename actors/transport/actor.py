"""`TransportStreams`: the transport of one node as an actor, named ``transport@NODE``."""

import asyncio
import re
from typing import Any

import ray
import structlog

from actors.calls.directory import NAMESPACE, actor_name
from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import ActorDown, BadRequest
from actors.keeper.carriers import TRANSPORT, carry
from actors.transport.calls import Dispatch
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.messages import (
    Carried,
    Connect,
    Expose,
    Forward,
    HistoryQuery,
    LinkPeriods,
    LinksQuery,
    LinkState,
    LinkStates,
    PeerAnswer,
    PeerCall,
    RaiseJob,
    ServiceQuery,
    SteerLink,
    Tag,
)

log = structlog.get_logger()
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")


def ray_dispatch(node: str) -> Dispatch:
    """Runs peers' calls on the named actors of `node`, and on no others."""
    handles: dict[str, Any] = {}

    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        if not _SERVICE.fullmatch(service):
            raise BadRequest(detail=f"{service[:100]!r} is no name of a service")
        name = actor_name(service, node)
        try:
            handle: Any = handles.get(name)
            if handle is None:
                # Asks Ray's head; a handle outlives restarts of its actor, and serves while the head is away.
                handle = await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
                handles[name] = handle
            reply: bytes = await handle.serve.remote(caller, method, body)
        except ValueError as error:
            raise ActorDown(service=name, reason="no such actor is running") from error
        except ray.exceptions.RayActorError as error:
            handles.pop(name, None)
            raise ActorDown(service=name, reason=str(error).splitlines()[0]) from error
        return reply

    return dispatch


class TransportStreams(Service):
    """AMST of one node. Made by the node as a named actor; after a crash Ray makes it anew and it serves by itself.

    Args:
        config: this node's configuration.
        credentials: TLS; read from ``config.security`` when left out.
        dispatch: runs peers' calls; this node's Ray actors when left out.
    """

    def __init__(
        self, config: Config, credentials: Credentials | None = None, dispatch: Dispatch | None = None
    ) -> None:
        carry(config.node.run_dir, TRANSPORT)
        self._hub = Hub(
            config,
            credentials or Credentials.load(config.security),
            dispatch or ray_dispatch(config.node.name),
        )
        # Ray runs __init__ of an asynchronous actor inside its loop, so a restarted one serves before anybody calls it.
        self._starting = asyncio.get_running_loop().create_task(self._hub.start())
        self._starting.add_done_callback(_log_failure)

    @exposed()
    async def start(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002
        """Answer once the port is served; tries again if that had failed."""
        await self._started()
        return Empty()

    @exposed()
    async def stop(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002
        """End every session and free the port."""
        await self._hub.stop()
        return Empty()

    @exposed()
    async def connect(self, caller: Caller, request: Connect) -> LinkState:  # noqa: ARG002
        """Have a live session; the answer tells how it stands."""
        await self._started()
        return await self._hub.connect(request.peer, request.streams)

    @exposed()
    async def forward(self, caller: Caller, request: Forward) -> Empty:  # noqa: ARG002
        """Lead a UNIX socket here to a service of a peer."""
        await self._started()
        self._hub.forward(request)
        return Empty()

    @exposed()
    async def expose(self, caller: Caller, request: Expose) -> Empty:  # noqa: ARG002
        """Lead a service, for one peer only, to a UNIX socket here."""
        await self._started()
        self._hub.expose(request)
        return Empty()

    @exposed()
    async def close(self, caller: Caller, request: Tag) -> Empty:  # noqa: ARG002
        """End what carries the tag; repeating it is harmless."""
        self._hub.close(request.tag)
        return Empty()

    @exposed()
    async def carried(self, caller: Caller, request: ServiceQuery) -> Carried:  # noqa: ARG002
        """How much crossed this node's sockets for a service; nothing for one that is not known."""
        return self._hub.forwards.carried(request.tag, request.service)

    @exposed()
    async def links(self, caller: Caller, request: LinksQuery) -> LinkStates:  # noqa: ARG002
        """How every link stands, with its samples."""
        return LinkStates(links=self._hub.links(request.after))

    @exposed()
    async def steer(self, caller: Caller, request: SteerLink) -> LinkState:  # noqa: ARG002
        """Force the mode of a link or cap it, or take either back."""
        await self._started()
        return await self._hub.steer(request)

    @exposed()
    async def history(self, caller: Caller, request: HistoryQuery) -> LinkPeriods:  # noqa: ARG002
        """What a link measured, over restarts."""
        await self._started()
        return LinkPeriods(periods=await self._hub.history(request))

    @exposed()
    async def raise_job(self, caller: Caller, request: RaiseJob) -> Empty:  # noqa: ARG002
        """Let what is sent for a job go before other jobs, while its guest stands still."""
        await self._started()
        self._hub.raise_job(request.tag, raised=request.raised)
        return Empty()

    @exposed()
    async def peer_call(self, caller: Caller, request: PeerCall) -> PeerAnswer:  # noqa: ARG002
        """Call a service of a peer over the control stream."""
        await self._started()
        return PeerAnswer(reply=await self._hub.call(request))

    async def _started(self) -> None:
        if self._starting.done() and self._starting.exception() is not None:
            self._starting = asyncio.get_running_loop().create_task(self._hub.start())
        await asyncio.shield(self._starting)


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("transport did not start", reason=str(task.exception()))
