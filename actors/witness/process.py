"""A host that is only a member: its transport and its `ClusterState` in one process, beside no Ray and no libvirt.

The third voice of two sites, on any small machine. It stands alone in its site, since within a site nodes call each
other through Ray; and the topology says so, so that nobody looks for guests there.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from actors.calls.directory import Directory, decode_reply
from actors.calls.messages import Address, Caller, Empty
from actors.config.load import load
from actors.config.schema import Config
from actors.consensus.chain import LinkMode
from actors.control.actor import ClusterState
from actors.control.client import StateClient
from actors.control.joining import Joining
from actors.control.members import is_member
from actors.control.messages import SERVICE
from actors.errors import ActorDown, BadRequest, Failed
from actors.log import set_up
from actors.node.process import claimed
from actors.transport.calls import Dispatch
from actors.transport.credentials import Credentials
from actors.transport.hub import Hub
from actors.transport.messages import Expose, Forward, PeerCall

log = structlog.get_logger()
_Response = TypeVar("_Response", bound=msgspec.Struct)


async def run_witness(config_path: Path) -> None:
    """Be the witness that `config_path` describes until SIGTERM or SIGINT.

    Raises:
        ConfigInvalid: the file is wrong.
        BadRequest: the topology has guests at its site.
        Conflict: NovaCron already runs on this host.
        Failed: the port can't be had, or a folder can't be made.
    """
    config = load(config_path, os.environ)
    set_up(config.log)
    with claimed(config.node.run_dir):
        witness = Witness(config)
        await witness.start()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
        await witness.stop()


class Witness:
    """One such host. `member` is None until its node is a member: one that is not configured as one waits to be added.

    Raises:
        BadRequest: the topology has guests at its site.
    """

    def __init__(self, config: Config) -> None:
        if not config.site.witness:
            raise BadRequest(
                detail=f"site {config.site.name} is to run guests, by this topology: give {config.node.name} a site of"
                " its own with `witness: true` in topology.sites, on every node"
            )
        self._config = config
        self.member: ClusterState | None = None
        self._hub = Hub(config, Credentials.load(config.security), self._dispatch)
        self.directory = _HubDirectory(config, self._hub, self._dispatch)
        self.state = StateClient(self.directory, config)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve the port, and take part.

        Raises:
            Failed: the port can't be had, or a folder can't be made.
            Conflict, StateCorrupt: the member can't begin with what is on its disk.
        """
        node = self._config.node
        try:
            node.state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failed(detail=f"can't make {node.state_dir}: {error}") from error
        await self._hub.start()
        if is_member(self._config):
            await self._begin()
        joining = Joining(self.state, self._config, self._end, self._begin)
        self._watching = asyncio.create_task(joining.run())
        log.info("witness serves", node=node.name, member=self.member is not None)

    async def stop(self) -> None:
        """End it; what is agreed on is on the disk."""
        if self._watching is not None:
            self._watching.cancel()
        await self._end()
        await self._hub.stop()

    async def _end(self) -> None:
        if self.member is not None:
            await self.member.close()
            self.member = None

    async def _begin(self) -> None:
        self.member = self.member or ClusterState(self._config, self._register, self._modes, self._ask)
        here = Caller(node=self._config.node.name, site=self._config.site.name, same_site=True)
        await self.member.ping(here, Empty())

    async def _dispatch(self, caller: Caller, service: str, method: str, body: bytes) -> bytes:
        if service != SERVICE or self.member is None:
            raise ActorDown(service=f"{service}@{self._config.node.name}", reason="a witness has no such service")
        return await self.member.serve(caller, method, body)

    async def _register(self, peer: str, to_path: Path, from_path: Path) -> None:
        self._hub.expose(Expose(tag=SERVICE, service=SERVICE, connect_path=str(from_path), peer=peer))
        self._hub.forward(Forward(tag=SERVICE, listen_path=str(to_path), peer=peer, service=SERVICE, priority=0))

    async def _modes(self) -> dict[str, LinkMode]:
        return {link.peer: link.mode for link in self._hub.links(0.0) if link.state == "up"}

    async def _ask(
        self, node: str, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response:
        return await self.directory.call(self.directory.on(SERVICE, node), method, request, response, deadline_s)


class _HubDirectory(Directory):
    """Calls over this process's own transport."""

    def __init__(self, config: Config, hub: Hub, local: Dispatch) -> None:
        super().__init__(config.node.name, config.topology)
        self._hub, self._local = hub, local

    async def call(
        self, to: Address, method: str, request: msgspec.Struct, response: type[_Response], deadline_s: float
    ) -> _Response:
        """See `Directory`."""
        body = msgspec.msgpack.encode(request)
        if to.node == self.node:
            raw = await self._local(self._caller, to.service, method, body)
        else:
            order = PeerCall(peer=to.node, service=to.service, method=method, body=body, deadline_s=deadline_s)
            raw = await self._hub.call(order)
        return decode_reply(raw, response)
