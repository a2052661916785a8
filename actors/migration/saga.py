"""Performs the steps of one move by calling the actors of both nodes. Every step and its undoing may be repeated."""

import asyncio
from collections.abc import Awaitable

import msgspec
import structlog

from actors.encoding.messages import CodecStats, OpenEncoder
from actors.errors import NovaCronError
from actors.hypervisor.messages import (
    Aim,
    FinishMove,
    GuestXml,
    JobPaths,
    MoveJob,
    MoveStatus,
    PrepareOutgoing,
    StartMove,
    SteerMove,
)
from actors.migration.decisions import Outlook, aim_of, expected_rate
from actors.migration.events import Do, Reading
from actors.migration.messages import AwaitTarget, EndTarget, Receive, TargetJob
from actors.migration.owners import Owners
from actors.migration.paths import departed
from actors.migration.receiver import Target, disks_of
from actors.migration.remotes import Remotes, all_of, at_once
from actors.migration.states import Job, State, Step
from actors.transport.messages import Forward

log = structlog.get_logger()
# A reading that takes longer is a node that does not answer; it is asked again anyway.
READ_S = 5.0
# A target is asked so long at a time whether the guest executes there yet.
ARRIVAL_S = 20.0
_LIBVIRT, _MEMORY, _DISKS = 1, 2, 3


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the preflight found out, needed until libvirt has begun. 0: unknown. `plain`: see `paths.Choice`."""

    guest: GuestXml
    streams: int = 0
    outlook: Outlook = Outlook()
    rtt_ms: float = 0.0
    plain: bool = False


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at both nodes showed."""

    source: Reading
    target: Reading | None
    codec: CodecStats | None


class Saga:
    """The hands of one job.

    Args:
        remotes: the actors.
        plan: None for a job found in the journal: it is past the steps that need one, or rolled back.
        target: the site of the target node.
        owners: the control state.
    """

    def __init__(self, remotes: Remotes, plan: Plan | None, target: Target, owners: Owners) -> None:
        self._remotes = remotes
        self._owners = owners
        self._plan = plan
        self._target = target
        self._here: JobPaths | None = None
        self._committing: asyncio.Task[None] | None = None

    async def perform(self, job: Job, do: Do) -> None:
        """Perform one step.

        Raises:
            NovaCronError: it failed, or (DeadlineExceeded) may have happened.
        """
        match do.step:
            case Step.FREEZE:
                await self._freeze(job)
            case Step.RECEIVE:
                await self._receive(job)
            case Step.WIRE:
                await self._wire(job)
            case Step.START:
                await self._remotes.agent(job.source).start_move(self._start(job))
            case Step.COMMIT:
                await self._commit(job)
            case Step.ABORT:
                await self._remotes.agent(job.source).abort_move(MoveJob(job=job.id, guest=job.guest))
            case Step.UNDO_SOURCE:
                await self._end_source(job, roll_back=True, resume=do.resume)
            case Step.UNDO_TARGET:
                await self._end_target(job, roll_back=True)
            case Step.FINISH_SOURCE:
                await self._finish_source(job)
            case Step.FINISH_TARGET:
                await self._end_target(job, roll_back=False)
            case Step.UNDO_STATE:
                await self._owners.stayed(job)
            case Step.FINISH_STATE:
                await self._owners.arrived(job)

    async def steer(self, job: Job, outlook: Outlook) -> None:
        """Have the source aim at the job's pause with these forecasts; what does not arrive is told again later."""
        steering = SteerMove(job=job.id, guest=job.guest, aim=_aim(job, outlook))
        try:
            await self._remotes.agent(job.source, READ_S).steer_move(steering)
        except NovaCronError as error:
            log.debug("not steered", job=job.id, error=str(error))

    async def await_arrival(self, job: Job) -> bool:
        """Whether the target executes the guest, waited for some seconds.

        Raises:
            NovaCronError: nobody there says.
        """
        return await self._target.await_arrival(AwaitTarget(job=job.id, target=job.target, wait_s=ARRIVAL_S))

    async def read(self, job: Job) -> Sight:
        """Ask the source, and then, unless its answer leaves nothing to ask, the target (in this order: `verdict`)."""
        codec = asyncio.create_task(self._codec(job))
        try:
            agent = self._remotes.agent(job.source, READ_S)
            source = await _reading(agent.move_status(MoveJob(job=job.id, guest=job.guest)))
            here = source.status
            copying = here is not None and here.outcome == "running" and not here.stopped_at
            ask = not (job.state is State.PERFORM and copying)
            there = TargetJob(job=job.id, guest=job.guest, target=job.target, path=job.path)
            target = await _reading(self._target.status(there, READ_S)) if ask else None
            return Sight(source=source, target=target, codec=await codec)
        finally:
            codec.cancel()

    # -- the way there --------------------------------------------------------------------------------------------

    async def _freeze(self, job: Job) -> None:
        record = asyncio.create_task(self._owners.record(job))
        try:
            request = PrepareOutgoing(job=job.id, guest=job.guest, target=job.target)
            self._here = await self._remotes.agent(job.source).prepare_outgoing(request)
            await self._owners.begin(job, await record)
        finally:
            record.cancel()

    async def _receive(self, job: Job) -> None:
        """Have the target ready, the source's sockets listening, and the start agreed on, all at once."""
        guest = self._planned().guest
        receive = Receive(job=job.id, source=job.source, target=job.target, guest=guest, path=job.path)
        await at_once(self._target.receive(receive), self._listen(job), self._owners.perform(job))

    async def _listen(self, job: Job) -> None:
        plan, here = self._planned(), self._frozen()
        transport = self._remotes.transport(job.source)
        await transport.connect(job.target, plan.streams)
        memory, disks = (here.wire, here.nbd_wire) if job.path == "coded" else (here.ram, here.nbd)
        lines = (("ram", memory, _MEMORY), ("libvirt", here.libvirt, _LIBVIRT), ("nbd", disks, _DISKS))
        forwards = [
            Forward(
                tag=job.id,
                listen_path=path,
                peer=job.target,
                service=f"{service}:{job.id}",
                priority=priority,
                job_bytes_per_s=round(job.max_mbit * 125_000),
            )
            for service, path, priority in lines
        ]
        await at_once(*(transport.forward(each) for each in forwards))

    async def _wire(self, job: Job) -> None:
        plan, here = self._planned(), self._frozen()
        if job.path == "coded":
            opening = OpenEncoder(
                job=job.id,
                qemu_path=here.ram,
                wire_path=here.wire,
                link_bytes_per_s=expected_rate(plan.outlook),
                disks=disks_of(plan.guest.info, here),
                plain=plan.plain,
            )
            await self._remotes.encoder(job.source).encode(opening)

    def _start(self, job: Job) -> StartMove:
        disks = [disk.target for disk in self._planned().guest.info.disks if disk.moves]
        aim = _aim(job, self._planned().outlook)
        return StartMove(job=job.id, guest=job.guest, aim=aim, path=job.path, copy_disks=disks)

    def _planned(self) -> Plan:
        assert self._plan is not None, "only a job of this manager's own gets this far"
        return self._plan

    def _frozen(self) -> JobPaths:
        assert self._here is not None, "frozen before it is wired"
        return self._here

    # -- the end of it --------------------------------------------------------------------------------------------

    async def _commit(self, job: Job) -> None:
        """Asked for again while it is being agreed on, it is not proposed twice."""
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._owners.commit(job), name=f"commit {job.id}")
        try:
            await asyncio.shield(self._committing)
        except asyncio.CancelledError:
            self._committing.cancel()
            raise

    async def _end_source(self, job: Job, *, roll_back: bool, resume: bool) -> None:
        agent = self._remotes.agent(job.source)
        request = FinishMove(job=job.id, guest=job.guest, roll_back=roll_back, resume=resume)
        # A roll-back cuts the channels last: libvirt may still be using them.
        await (all_of if roll_back else at_once)(
            agent.finish_move(request),
            self._remotes.encoder(job.source).close(job.id),
            self._remotes.transport(job.source).close(job.id),
        )

    async def _finish_source(self, job: Job) -> None:
        await self._end_source(job, roll_back=False, resume=False)
        if job.state is State.CONFIRM and not job.source_gone:
            await self._remove_remains(job)

    async def _remove_remains(self, job: Job) -> None:
        """Remove what still stands at the source although the target has executed the guest (V2).

        Only libvirt's own last step going wrong leaves anything. Never done for a job that has ended: the guest may
        have come back since.
        """
        agent = self._remotes.agent(job.source)
        status = await agent.move_status(MoveJob(job=job.id, guest=job.guest))
        if status.guest_state in {"running", "paused"}:
            await agent.act("stop", job.guest, 0.0)
        if status.guest_state != "absent":
            await agent.act("delete", job.guest, 0.0)

    async def _end_target(self, job: Job, *, roll_back: bool) -> None:
        await self._target.end(EndTarget(job=job.id, guest=job.guest, target=job.target, roll_back=roll_back))

    # -- looking --------------------------------------------------------------------------------------------------

    async def _codec(self, job: Job) -> CodecStats | None:
        if job.state not in {State.PERFORM, State.SWITCHOVER, State.FINISH}:
            return None
        try:
            if job.path == "native":
                return departed(job.id, await self._remotes.transport(job.source).carried(job.id))
            return await self._remotes.encoder(job.source).stats(job.id)
        except NovaCronError:
            # Without its figures the bar stands still; if it is gone for good, libvirt says so.
            return None


def _aim(job: Job, outlook: Outlook) -> Aim:
    cap = job.max_mbit * 1e6 / 8
    return aim_of(outlook, pause_ms=job.pause_budget_ms, fixed_ms=job.fixed_ms, rtt_ms=job.rtt_ms, cap=cap)


async def _reading(asked: Awaitable[MoveStatus]) -> Reading:
    try:
        return Reading(status=await asked)
    except NovaCronError as error:
        return Reading(problem=str(error))
