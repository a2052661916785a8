"""What a member needs of its node's transport and of the other members, by calls."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from actors.calls.directory import Directory
from actors.calls.messages import Address, Empty
from actors.config.schema import Config
from actors.consensus.chain import LinkMode
from actors.control.links import Register
from actors.control.messages import SERVICE
from actors.transport.messages import Expose, Forward, LinksQuery, LinkStates

Modes = Callable[[], Awaitable[dict[str, LinkMode]]]
_Response = TypeVar("_Response", bound=msgspec.Struct)


class Ask(Protocol):
    """Asks the member on `node`; raises `NovaCronError` when it does not answer in time."""

    async def __call__(
        self, node: str, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response: ...


_CALL_S = 5.0


def modes_of(config: Config) -> Modes:
    """The modes of this node's links that are up, by the peer's name, as its transport has them."""
    directory = Directory(config.node.name, config.topology)
    transport = Address(service="transport", node=config.node.name)

    async def modes() -> dict[str, LinkMode]:
        found = await directory.call(transport, "links", LinksQuery(after=time.time()), LinkStates, _CALL_S)
        return {link.peer: link.mode for link in found.links if link.state == "up"}

    return modes


def ask_of(config: Config) -> Ask:
    """Asks members by calls."""
    directory = Directory(config.node.name, config.topology)

    async def ask(
        node: str, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response:
        return await directory.call(directory.on(SERVICE, node), method, request, response, deadline_s)

    return ask


def registers(config: Config) -> Register:
    """Has this node's transport join the sockets of the link to a peer."""
    directory = Directory(config.node.name, config.topology)
    transport = Address(service="transport", node=config.node.name)

    async def register(peer: str, to_path: Path, from_path: Path) -> None:
        expose = Expose(tag=SERVICE, service=SERVICE, connect_path=str(from_path), peer=peer)
        forward = Forward(tag=SERVICE, listen_path=str(to_path), peer=peer, service=SERVICE, priority=0)
        await directory.call(transport, "expose", expose, Empty, _CALL_S)
        await directory.call(transport, "forward", forward, Empty, _CALL_S)

    return register
