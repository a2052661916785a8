"""The calling side: finds the actor, calls it, decodes its answer."""

import asyncio
from typing import Any, TypeVar

import msgspec
import ray

from actors.calls.messages import Address, Caller, Reply
from actors.config.schema import Topology
from actors.errors import ActorDown, BodyInvalid, DeadlineExceeded, NodeUnknown, error_from
from actors.transport.messages import PeerAnswer, PeerCall

NAMESPACE = "novacron"
_Response = TypeVar("_Response", bound=msgspec.Struct)


def actor_name(service: str, node: str) -> str:
    """Ray name of the actor that serves `service` on `node`."""
    return f"{service}@{node}"


class Directory:
    """Calls actors of every site by address.

    Args:
        node: the node this process runs on; its transport carries calls to other sites.
        topology: every site and node.
    """

    def __init__(self, node: str, topology: Topology) -> None:
        site = topology.site_of(node)
        assert site is not None, "configuration is validated before actors start"
        self.node = node
        self.site = site.name
        self.topology = topology
        self._caller = Caller(node=node, site=site.name, same_site=True)
        self._handles: dict[str, Any] = {}

    def on(self, service: str, node: str) -> Address:
        """The address of `service` on `node`.

        Raises:
            NodeUnknown: no site has such a node.
        """
        if self.topology.member(node) is None:
            raise NodeUnknown(node=node)
        return Address(service=service, node=node)

    def central(self, service: str, site: str = "") -> Address:
        """The address of the site-wide `service` (manager, predictor, placement) of `site`, our own by default."""
        lead = self.topology.lead_of(site or self.site)
        if lead is None:
            raise NodeUnknown(node=f"lead of site {site}")
        return Address(service=service, node=lead, site=site or self.site)

    async def call(
        self, to: Address, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response:
        """Call `method` of the actor at `to` and wait at most `deadline_s` seconds.

        Raises:
            ActorDown: the actor or its node's transport is not there (it may be restarting).
            DeadlineExceeded: no answer in time; whether the call took effect is unknown.
            NovaCronError: whatever the called method raised.
        """
        site = self.topology.site_of(to.node)
        body = msgspec.msgpack.encode(request)
        if site is not None and site.name == self.site:
            raw = await self._ray(to.service, to.node, method, body, deadline_s)
        else:
            onward = PeerCall(peer=to.node, service=to.service, method=method, body=body, deadline_s=deadline_s)
            # The transport keeps the deadline itself; the margin lets its own, more precise, error come back.
            answer = await self._ray(
                "transport", self.node, "peer_call", msgspec.msgpack.encode(onward), deadline_s + 2.0
            )
            raw = decode_reply(answer, PeerAnswer).reply
        return decode_reply(raw, response)

    async def _ray(self, service: str, node: str, method: str, body: bytes, deadline_s: float) -> bytes:
        name = actor_name(service, node)
        try:
            async with asyncio.timeout(deadline_s):
                handle: Any = self._handles.get(name)
                if handle is None:
                    # Asks the head. A handle outlives restarts of its actor, and serves while the head is away.
                    handle = await asyncio.to_thread(ray.get_actor, name, NAMESPACE)
                    self._handles[name] = handle
                reply: bytes = await handle.serve.remote(self._caller, method, body)
                return reply
        except TimeoutError as error:
            raise DeadlineExceeded(what=f"{name}.{method}", deadline_s=deadline_s) from error
        except ValueError as error:
            raise ActorDown(service=name, reason="no such actor is running") from error
        except ray.exceptions.RayActorError as error:
            # Ended for good and made anew, it would be another actor of the same name.
            self._handles.pop(name, None)
            raise ActorDown(service=name, reason=str(error).splitlines()[0]) from error


def decode_reply(raw: bytes, response: type[_Response]) -> _Response:
    """The answer in an encoded `Reply`.

    Raises:
        NovaCronError: the one that the reply names.
        BodyInvalid: it is no reply, or of another kind than `response`.
    """
    try:
        reply = msgspec.msgpack.decode(raw, type=Reply)
        if not reply.error:
            return msgspec.msgpack.decode(reply.body, type=response)
    except ValueError as error:  # msgspec's own, or a string that is not UTF-8
        raise BodyInvalid(detail=f"the answer is no {response.__name__}: {error}") from error
    raise error_from(reply.error, reply.fields)
