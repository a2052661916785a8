"""Hubs of several nodes on the loopback, with certificates of a throw-away authority."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from actors.calls.messages import Caller, Reply
from actors.config.schema import Config, Member, Node, Security, Site, Topology, Transport
from actors.security.authority import create_authority, issue
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.peer_session import PeerSession

FAST = Transport(heartbeat_s=0.1, dead_after_s=0.5, resume_s=3.0)
"""Like the defaults, only sooner."""


def free_port() -> int:
    """A port that nobody listens on now; below those that the kernel hands out itself, so that it stays free."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


async def until(condition: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Wait until `condition` holds; fails after `deadline_s`."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  any state at all, nothing announces it
            await asyncio.sleep(0.005)


async def echo(caller: Caller, service: str, method: str, body: bytes) -> bytes:
    """Answers with who called what."""
    said = f"{caller.node}/{caller.site}/{caller.same_site}:{service}.{method}:".encode() + body
    return msgspec.msgpack.encode(Reply(body=said))


class Lab:
    """Nodes ``a`` (site rome) and ``b`` (site paris), ``c`` (rome), each reachable at its own port."""

    def __init__(self, folder: Path, transport: Transport = FAST) -> None:
        self.folder = folder
        self.transport = transport
        self.ports = {name: free_port() for name in "abc"}
        self.sites = {"a": "rome", "b": "paris", "c": "rome"}
        self.reach = dict(self.ports)
        """Port at which the others reach a node: its own, or a relay's."""
        create_authority(folder / "ca")

    def config(self, node: str) -> Config:
        """The configuration of `node`: itself at its own port, the others where they are reached."""

        def member(name: str) -> Member:
            return Member(name=name, address="127.0.0.1", port=self.ports[name] if name == node else self.reach[name])

        sites = [Site(name=s, nodes=[member(n) for n in "abc" if self.sites[n] == s]) for s in ("rome", "paris")]
        identity = issue(self.folder / "ca", node, self.sites[node])
        return Config(
            node=Node(name=node, state_dir=self.folder / node),
            topology=Topology(sites=sites),
            transport=self.transport,
            security=Security(ca=identity.ca, certificate=identity.certificate, key=identity.key),
        )

    def hub(self, node: str, dispatch: Callable[..., object] = echo) -> Hub:
        """A hub for `node`, not started."""
        config = self.config(node)
        return Hub(config, Credentials.load(config.security), dispatch)  # type: ignore[arg-type]


@asynccontextmanager
async def running(*hubs: Hub) -> AsyncIterator[None]:
    """Started hubs, stopped at the end."""
    async with AsyncExitStack() as stack:
        for hub in hubs:
            await hub.start()
            stack.push_async_callback(hub.stop)
        yield


def session_of(hub: Hub, peer: str) -> PeerSession:
    """The one session of `hub` with `peer`."""
    (session,) = hub._peers[peer].sessions
    return session
