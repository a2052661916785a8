"""Everything that can speak against a move, asked before anything is changed."""

import time

import msgspec

from actors.errors import GuestBusy, GuestNotRunning, NodeUnknown, SameNode
from actors.flags.file import Switches
from actors.hypervisor.messages import GuestInfo, MovePath
from actors.migration.decisions import UNKNOWN_S, horizon_s, streams_of
from actors.migration.messages import CheckTarget, MoveRequest
from actors.migration.paths import Choice, choose, offered
from actors.migration.receiver import Receiver
from actors.migration.remotes import Remotes
from actors.migration.saga import Plan
from actors.migration.survey import Survey
from actors.placement.messages import Place, Placed
from actors.transport.messages import LinkState

RTT_AGE_S = 60.0


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A move that nothing speaks against."""

    target: str
    plan: Plan
    path: Choice
    placement_reason: str = ""


class Preflight:
    """Asks the agents, the transport, the predictor and placement; `switches` tell which components are on."""

    def __init__(self, remotes: Remotes, survey: Survey, receiver: Receiver, switches: Switches) -> None:
        self._switches = switches
        self._remotes = remotes
        self._survey = survey
        self._receiver = receiver

    async def clear(self, request: MoveRequest, info: GuestInfo) -> Cleared:
        """The move of the guest `info`, with its target chosen.

        Raises:
            GuestBusy, GuestNotRunning, NodeUnknown, SameNode, NoPlacement, LinkDown, NoRoom, GuestExists,
            Incompatible: as they say; nothing was changed.
        """
        if info.job:
            raise GuestBusy(guest=info.name, job=info.job)
        if info.state != "running":
            raise GuestNotRunning(guest=info.name, state=info.state)
        reason = ""
        target = request.to
        if not target:
            placed = await self.choose(info, exclude=[info.node], everywhere=True)
            target, reason = placed.node, placed.reason
        elif self._remotes.calls.topology.member(target) is None:
            raise NodeUnknown(node=target)
        if target == info.node:
            raise SameNode(guest=info.name, node=target)
        guest = await self._remotes.agent(info.node).guest_xml(info.name)
        link = await self._remotes.transport(info.node).connect(target)
        welcome = await self._receiver.of(target).check(CheckTarget(target=target, guest=guest))
        codec = self._switches.on("hde", info.name, info.node)
        path = choose(link, welcome.paths, await self._offered(link, info.node, codec=codec), codec=codec)
        outlook = await self._remotes.outlook(info.node, target, horizon_s(UNKNOWN_S))
        rtt_ms = await self._rtt_ms(info.node, target)
        plan = Plan(guest=guest, streams=streams_of(outlook), outlook=outlook, rtt_ms=rtt_ms, plain=path.plain)
        return Cleared(target=target, plan=plan, path=path, placement_reason=reason)

    async def choose(self, info: GuestInfo, *, exclude: list[str], everywhere: bool, site: str = "") -> Placed:
        """Let placement choose a node for the guest.

        Raises:
            NoPlacement: no node may take it.
        """
        sites = (await self._survey.sites(everywhere=everywhere)).sites
        guests = (await self._survey.guests(everywhere=everywhere)).guests
        in_use: dict[str, int] = {}
        for guest in guests:
            if guest.state in {"running", "paused", "incoming"}:
                in_use[guest.node] = in_use.get(guest.node, 0) + guest.vcpus
        request = Place(
            guest=info.name,
            memory_mib=info.memory_mib,
            vcpus=info.vcpus,
            machine=info.machine,
            nodes=[facts for each in sites for facts in each.nodes],
            vcpus_in_use=in_use,
            exclude=exclude,
            site=site,
        )
        return await self._remotes.place(request)

    async def _offered(self, link: LinkState, source: str, *, codec: bool) -> tuple[MovePath, ...]:
        """The paths that the source's QEMU knows; only asked for where it matters."""
        if codec and link.mode != "datacenter":
            return ()
        return offered((await self._remotes.agent(source).facts()).qemu_version)

    async def _rtt_ms(self, source: str, target: str) -> float:
        """The round trip of the link alone: the least of the last minute, 0 where nothing was measured."""
        states = await self._remotes.transport(source).links(time.time() - RTT_AGE_S)
        samples = [sample for link in states.links if link.peer == target for sample in link.samples]
        return min((sample.rtt_ms for sample in samples if sample.rtt_ms > 0), default=0.0)
