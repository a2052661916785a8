"""Taking over a guest whose node is lost, at an operator's word."""

from typing import Protocol

import msgspec
import structlog

from actors.control.commands import Override
from actors.control.decision import Refusal
from actors.control.model import ControlState, Guest, Job, Lease, Run
from actors.control.ownership import held_by
from actors.errors import Conflict, GuestUnknown, NodeUnknown, SameNode, StateRefused, Unreachable
from actors.hypervisor.engine.domain import parse_domain
from actors.hypervisor.messages import GuestInfo, TakenOver, TakeOver
from actors.migration import owners
from actors.migration.desk import Desk
from actors.migration.messages import FailOverGuest
from actors.migration.preflight import Preflight
from actors.migration.remotes import Remotes
from actors.migration.survey import Survey

log = structlog.get_logger()
_ASK_S = 5.0
# The agent asks the control state and starts the guest.
TAKE_S = 60.0
ACROSS_S = 75.0


class States(owners.States, Protocol):
    """What a failover asks of the control state; `StateClient` has it."""

    async def job(self, name: str, *, deadline_s: float = ...) -> Job:
        """A move's record."""
        ...

    async def lease(self, node: str, *, deadline_s: float = ...) -> Lease | None:
        """The node's newest lease."""
        ...


class Failovers:
    """Failovers that this site's manager leads: those to its own nodes; others it hands on."""

    def __init__(self, remotes: Remotes, survey: Survey, preflight: Preflight, desk: Desk, states: States) -> None:
        self._remotes = remotes
        self._survey = survey
        self._preflight = preflight
        self._desk = desk
        self._states = states

    async def fail_over(self, request: FailOverGuest, *, from_here: bool) -> TakenOver:
        """Have a node own and boot the guest; all that may speak against it is asked before anything is decreed.

        Raises:
            GuestUnknown: it was never agreed on.
            StateRefused: `lease-held`, its node may still run it and no override was asked for; `risk-changed`, the
                override has to repeat what it risks.
            Conflict, SameNode: it is where it can be started or runs.
            NoTakeover, NoRoom, Incompatible, NoPlacement, NodeUnknown: the target can't boot it.
            RuleBroken: the node that was named breaks a rule of the guest's attributes, or is drained.
            NoMajority: nobody can say.
        """
        topology = self._remotes.calls.topology
        if request.to and topology.member(request.to) is None:
            raise NodeUnknown(node=request.to)
        async with self._desk.claim(request.guest):
            record = await self._states.guest(request.guest, deadline_s=_ASK_S)
            if record.run is Run.STOPPED:
                await self._nowhere(record, everywhere=from_here)
            elif request.to == record.node:
                raise SameNode(guest=record.name, node=record.node)
            held = await self._held(record)
            if held and not request.override:
                raise _still_held(record, held)
            wanted = _wanted(record)
            if request.to:
                await self._preflight.keep_rules(wanted, request.to, lost=True)
            target = request.to or await self._choose(record, wanted)
            site = topology.site_of(target)
            if site is None or (site.name != self._remotes.calls.site and not from_here):
                raise NodeUnknown(node=target)
            if site.name != self._remotes.calls.site:
                order = msgspec.structs.replace(request, to=target)
                return await self._remotes.manager(site.name, "fail_over", order, TakenOver, ACROSS_S)
            return await self._here(request, record, held, target)

    async def _here(self, request: FailOverGuest, record: Guest, held: list[str], target: str) -> TakenOver:
        agent = self._remotes.agent(target)
        order = TakeOver(guest=record.name, by=request.by, reason=request.reason, disks_here=request.disks_here)
        await agent.check_takeover(order)
        if held:
            # No state has this for its risk, so it asks for it.
            decree = Override(nodes=tuple(held), risk=request.risk or "-", reason=request.reason)
            done = await self._states.submit(decree, by=request.by, deadline_s=_ASK_S)
            log.warning("an operator decreed that nodes run nothing", nodes=held, risk=done.detail)
        taken = await agent.take_over(order, TAKE_S)
        log.warning("a guest was taken over", guest=record.name, node=target, detail=taken.detail)
        return taken

    async def _held(self, record: Guest) -> list[str]:
        """The nodes that may run it by a lease that has not ended."""
        jobs = {record.job: await self._states.job(record.job, deadline_s=_ASK_S)} if record.job else {}
        names = {record.node, *(name for job in jobs.values() for name in (job.source, job.target))} - {""}
        found = [await self._states.lease(name, deadline_s=_ASK_S) for name in sorted(names)]
        leases = {lease.node: lease for lease in found if lease is not None}
        return held_by(ControlState(jobs=jobs, leases=leases), record)

    async def _nowhere(self, record: Guest, *, everywhere: bool) -> None:
        """Nobody owns it: raises where it is, if whoever has it answers."""
        try:
            there = await self._survey.locate(record.name, everywhere=everywhere)
        except (GuestUnknown, Unreachable):
            return
        raise Conflict(detail=f"guest {record.name} is {there.state} on {there.node}: start it there")

    async def _choose(self, record: Guest, wanted: GuestInfo) -> str:
        exclude = [record.node] if record.node else []
        return (await self._preflight.choose(wanted, exclude=exclude, everywhere=True)).node


def _wanted(record: Guest) -> GuestInfo:
    """The guest as placement is asked about it, by the definition that was agreed on."""
    domain = parse_domain(record.definition)
    return GuestInfo(
        name=record.name, uuid=domain.uuid, node="", site="", state="shut-off", memory_mib=domain.memory_mib,
        vcpus=domain.vcpus, attributes=domain.attributes,
    )  # fmt: skip


def _still_held(record: Guest, held: list[str]) -> StateRefused:
    names = ", ".join(held)
    detail = (
        f"{names} may still run {record.name}: the lease has not ended. Where leases end by time, wait for that;"
        " if the node is gone for good, an override decrees that it runs nothing"
    )
    return StateRefused(refusal=str(Refusal.LEASE_HELD), detail=detail)
