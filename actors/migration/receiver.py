"""The target's half of a move: done by the manager of the target's site, for whichever site leads the move.

So the site that leads names a job and a node, never a socket or a file of another site's host, and a step there costs
one call over the WAN.
"""

from typing import Protocol

import msgspec

from actors.calls.messages import Empty
from actors.encoding.messages import CodecStats, Disks, OpenDecoder
from actors.errors import NodeUnknown, NovaCronError
from actors.hypervisor.messages import Arrival, FinishMove, GuestInfo, JobPaths, MoveJob, MoveStatus, PrepareIncoming
from actors.migration.messages import AwaitTarget, CheckTarget, EndTarget, RaiseTarget, Receive, TargetJob, Welcome
from actors.migration.paths import arrived, offered
from actors.migration.remotes import Remotes, all_of, at_once
from actors.transport.messages import Expose

# The manager asking from the other side waits a little longer than this one does for its own agent.
TARGET_READ_S = 3.5
ARRIVAL_MARGIN_S = 1.0


class Target(Protocol):
    """What can be asked of the target's half; each method raises what went wrong there."""

    async def check(self, request: CheckTarget) -> Welcome: ...
    async def receive(self, request: Receive) -> None: ...
    async def status(self, request: TargetJob, deadline_s: float) -> MoveStatus: ...
    async def await_arrival(self, request: AwaitTarget) -> bool: ...
    async def end(self, request: EndTarget) -> None: ...


def disks_of(info: GuestInfo, paths: JobPaths) -> Disks | None:
    """The disks that move with the guest, if it has any."""
    count = sum(disk.moves for disk in info.disks)
    return Disks(count=count, qemu_path=paths.nbd, wire_path=paths.nbd_wire) if count else None


class Receiver:
    """Finds the half of a target node: our own actors in this site, else the manager of its site.

    Args:
        remotes: the actors.
        prepare_s: deadline of preparing a node, which may make disks.
    """

    def __init__(self, remotes: Remotes, prepare_s: float) -> None:
        self._remotes = remotes
        self._here = Here(remotes, prepare_s)
        self._prepare_s = prepare_s

    def of(self, node: str) -> Target:
        """The half of `node`, of whichever site."""
        site = self._remotes.calls.topology.site_of(node)
        if site is None:
            raise NodeUnknown(node=node)
        if site.name == self._remotes.calls.site:
            return self._here
        return Elsewhere(self._remotes, site.name, self._prepare_s)

    def ours(self, node: str) -> "Here":
        """The half of `node`, which must be of this site: nothing is passed on to a third one.

        Raises:
            NodeUnknown: it is not.
        """
        site = self._remotes.calls.topology.site_of(node)
        if site is None or site.name != self._remotes.calls.site:
            raise NodeUnknown(node=node)
        return self._here


class Here:
    """Target nodes of this site."""

    def __init__(self, remotes: Remotes, prepare_s: float) -> None:
        self._remotes = remotes
        self._prepare_s = prepare_s

    async def check(self, request: CheckTarget) -> Welcome:
        """Raises what speaks against the guest's coming."""
        agent = self._remotes.agent(request.target)
        await agent.check_incoming(request.guest)
        return Welcome(paths=offered((await agent.facts()).qemu_version))

    async def receive(self, request: Receive) -> None:
        """Prepare the agent, open the decoder if the path has one, and let the source reach the job's three sockets.

        Which files the decoder may use is read from the guest's own description: a disk that the guest would get to
        read here anyway.
        """
        node, guest = request.target, request.guest
        prepare = PrepareIncoming(job=request.job, source=request.source, info=guest.info, xml=guest.xml)
        paths = await self._remotes.agent(node).prepare_incoming(prepare, self._prepare_s)
        coded = request.path == "coded"
        memory, disks = (paths.wire, paths.nbd_wire) if coded else (paths.ram, paths.nbd)
        transport = self._remotes.transport(node)
        steps = [
            transport.expose(
                Expose(tag=request.job, service=f"{service}:{request.job}", connect_path=path, peer=request.source)
            )
            for service, path in (("ram", memory), ("libvirt", paths.libvirtd), ("nbd", disks))
        ]
        if coded:
            opening = OpenDecoder(
                job=request.job,
                wire_path=paths.wire,
                qemu_path=paths.ram,
                files=[disk.path for disk in guest.info.disks if disk.read_only],
                disks=disks_of(guest.info, paths),
            )
            steps.append(self._remotes.decoder(node).decode(opening))
        await at_once(*steps)

    async def status(self, request: TargetJob, deadline_s: float) -> MoveStatus:
        """The move as the target's hypervisor has it."""
        agent = self._remotes.agent(request.target, deadline_s)
        status = await agent.move_status(MoveJob(job=request.job, guest=request.guest))
        if not status.loaded_at:
            return status
        try:
            codec = await self.codec(request)
        except NovaCronError:
            return status  # a figure less in the account of the pause
        return msgspec.structs.replace(status, delivered_at=codec.last_at)

    async def await_arrival(self, request: AwaitTarget) -> bool:
        """Whether the guest executes there, waited for as long as is asked."""
        return await self._remotes.agent(request.target).await_arrival(request.job, request.wait_s)

    async def codec(self, request: TargetJob) -> CodecStats:
        """The decoder's account, or what stands for one."""
        if request.path == "native":
            return arrived(request.job, await self._remotes.transport(request.target).carried(request.job))
        return await self._remotes.decoder(request.target).stats(request.job)

    async def raise_job(self, request: RaiseTarget) -> None:
        """Let what the node sends for the job go first, or no longer."""
        await self._remotes.transport(request.target).raise_job(request.job, raised=request.raised)

    async def end(self, request: EndTarget) -> None:
        """End the job in the agent, the decoder and the transport."""
        node = request.target
        finish = FinishMove(job=request.job, guest=request.guest, roll_back=request.roll_back)
        await (all_of if request.roll_back else at_once)(
            self._remotes.agent(node).finish_move(finish),
            self._remotes.decoder(node).close(request.job),
            self._remotes.transport(node).close(request.job),
        )


class Elsewhere:
    """Target nodes of another site, through its manager."""

    def __init__(self, remotes: Remotes, site: str, prepare_s: float) -> None:
        self._remotes = remotes
        self._site = site
        self._prepare_s = prepare_s

    async def check(self, request: CheckTarget) -> Welcome:
        """See `Here`."""
        return await self._remotes.manager(self._site, "check_target", request, Welcome)

    async def receive(self, request: Receive) -> None:
        """See `Here`."""
        await self._remotes.manager(self._site, "receive", request, Empty, self._prepare_s)

    async def status(self, request: TargetJob, deadline_s: float) -> MoveStatus:
        """See `Here`."""
        return await self._remotes.manager(self._site, "target_status", request, MoveStatus, deadline_s)

    async def await_arrival(self, request: AwaitTarget) -> bool:
        """See `Here`."""
        deadline_s = self._remotes.deadline_s + request.wait_s + ARRIVAL_MARGIN_S
        return (await self._remotes.manager(self._site, "await_target", request, Arrival, deadline_s)).executes

    async def end(self, request: EndTarget) -> None:
        """See `Here`."""
        await self._remotes.manager(self._site, "end_target", request, Empty)
