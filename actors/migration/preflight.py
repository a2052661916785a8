"""Everything that can speak against a move, asked before anything is changed."""

import asyncio
import time

import msgspec

from actors.errors import (
    GuestBusy,
    GuestNotRunning,
    Incompatible,
    LinkDown,
    NodeUnknown,
    NoPlacement,
    NoRoom,
    RuleBroken,
    SameNode,
    Unreachable,
)
from actors.flags.file import Switches
from actors.hypervisor.messages import GuestInfo, MovePath
from actors.migration.decisions import UNKNOWN_S, horizon_s, streams_of
from actors.migration.messages import CheckTarget, MoveRequest
from actors.migration.owners import Owners
from actors.migration.paths import Choice, choose, offered
from actors.migration.receiver import Receiver
from actors.migration.remotes import Remotes
from actors.migration.saga import Plan
from actors.migration.survey import Survey
from actors.placement.messages import Place, Placed
from actors.placement.picture import drained, neighbours, objection
from actors.transport.messages import LinkState

RTT_AGE_S = 60.0
TRIES = 4
"""Nodes that are asked whether they take a guest, where placement may choose."""


class Cleared(msgspec.Struct, frozen=True, kw_only=True):
    """A move that nothing speaks against."""

    target: str
    plan: Plan
    path: Choice
    placement_reason: str = ""


class Preflight:
    """Asks the agents, the transport, the predictor and placement; `switches` tell which components are on, `owners`
    which nodes are drained."""

    def __init__(
        self, remotes: Remotes, survey: Survey, receiver: Receiver, owners: Owners, switches: Switches
    ) -> None:
        self._switches = switches
        self._owners = owners
        self._remotes = remotes
        self._survey = survey
        self._receiver = receiver

    async def clear(self, request: MoveRequest, info: GuestInfo) -> Cleared:
        """The move of the guest `info`, with its target chosen.

        Raises:
            GuestBusy, GuestNotRunning, NodeUnknown, SameNode, NoPlacement, RuleBroken, LinkDown, NoRoom, GuestExists,
            Incompatible: as they say; nothing was changed.
        """
        if info.job:
            raise GuestBusy(guest=info.name, job=info.job)
        if info.state != "running":
            raise GuestNotRunning(guest=info.name, state=info.state)
        if not request.to:
            return await self._anywhere(info)
        if self._remotes.calls.topology.member(request.to) is None:
            raise NodeUnknown(node=request.to)
        if request.to == info.node:
            raise SameNode(guest=info.name, node=request.to)
        # First the link: while it is down, what is asked of other sites takes its time.
        link = await self._remotes.transport(info.node).connect(request.to)
        await self.keep_rules(info, request.to, parted=request.parted)
        return await self._cleared(info, request.to, link)

    async def _anywhere(self, info: GuestInfo) -> Cleared:
        """The move to the best node that takes the guest: its disks and CPU are what only the chosen node knows.

        Raises:
            NoPlacement: none does; `TRIES` are asked at most.
        """
        refused: dict[str, str] = {}
        while True:
            try:
                placed = await self.choose(info, exclude=[info.node, *refused], everywhere=True)
            except NoPlacement as error:
                if not refused:
                    raise
                raise _nowhere(info.name, refused, str(error.fields["reasons"])) from error
            try:
                link = await self._remotes.transport(info.node).connect(placed.node)
                return await self._cleared(info, placed.node, link, placed.reason)
            except (Incompatible, NoRoom, LinkDown) as error:
                refused[placed.node] = str(error)
                if len(refused) == TRIES:
                    raise _nowhere(info.name, refused) from error

    async def _cleared(self, info: GuestInfo, target: str, link: LinkState, reason: str = "") -> Cleared:
        guest = await self._remotes.agent(info.node).guest_xml(info.name)
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
        sites, guests, draining = await asyncio.gather(
            self._survey.sites(everywhere=everywhere),
            self._survey.guests(everywhere=everywhere),
            self._owners.draining(),
        )
        request = Place(
            guest=info.name,
            memory_mib=info.memory_mib,
            vcpus=info.vcpus,
            machine=info.machine,
            nodes=drained((facts for each in sites.sites for facts in each.nodes), draining),
            guests=neighbours(guests.guests),
            exclude=exclude,
            site=site,
            attributes=info.attributes,
        )
        return await self._remotes.place(request)

    async def keep_rules(self, info: GuestInfo, node: str, *, parted: tuple[str, ...] = (), lost: bool = False) -> None:
        """See that a node which nobody chose by the rules keeps those of the guest's attributes, and takes guests.

        `lost`: the guest's node is, and with it maybe those it should be together with; they hold it up no longer.

        Raises:
            RuleBroken: it doesn't.
            Unreachable: guests that it must be together with may be where nobody answers.
        """
        site_of = {member.name: site.name for site in self._remotes.calls.topology.sites for member in site.nodes}
        draining = await self._owners.draining()
        wanted, others = info.attributes, []
        if wanted.together or wanted.apart:
            found = await self._survey.guests(everywhere=True)
            others = neighbours(found.guests)
            missing = set(wanted.together).difference(parted, *(one.groups for one in others if one.name != info.name))
            if found.silent and missing and not lost:
                raise Unreachable(what=f"{', '.join(found.silent)}, which may have guests of {', '.join(missing)}")
        if against := objection(info, node, site_of, others, draining=draining - {info.node}, parted=parted):
            rule, reason = against
            raise RuleBroken(guest=info.name, node=node, rule=rule, reason=reason)

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


def _nowhere(guest: str, refused: dict[str, str], others: str = "") -> NoPlacement:
    """`others`: why not the rest, which has the refused ones as excluded."""
    kept = [one for one in others.split("; ") if one and one.partition(":")[0] not in refused]
    return NoPlacement(guest=guest, reasons="; ".join([*(f"{node}: {why}" for node, why in refused.items()), *kept]))
