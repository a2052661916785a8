"""The node agent: the one actor of a node that talks to its libvirtd."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from actors.calls.directory import Directory
from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.control.client import StateClient
from actors.errors import (
    Conflict,
    DeadlineExceeded,
    GuestBusy,
    GuestNotRunning,
    HypervisorDown,
    HypervisorFailed,
    NovaCronError,
)
from actors.hypervisor.arrivals import Arrivals
from actors.hypervisor.conductor import Conductors
from actors.hypervisor.custody import Custody
from actors.hypervisor.engine.ledger import Ledger
from actors.hypervisor.engine.states import version_text
from actors.hypervisor.facts import facts_of
from actors.hypervisor.guests import GuestDesk
from actors.hypervisor.host import Host, memory_mib
from actors.hypervisor.kvm import remembered
from actors.hypervisor.libvirt_driver import Connection
from actors.hypervisor.messages import (
    Aim,
    Arrival,
    AwaitArrival,
    CheckIncoming,
    CreateGuest,
    FinishMove,
    GuestInfo,
    GuestName,
    Guests,
    GuestXml,
    JobPaths,
    MoveJob,
    MoveStatus,
    NodeFacts,
    PrepareIncoming,
    PrepareOutgoing,
    SetAttributes,
    StartMove,
    SteerMove,
    StopGuest,
    TakenOver,
    TakeOver,
)
from actors.hypervisor.movedesk import MoveDesk
from actors.hypervisor.senders import Senders
from actors.hypervisor.store import LEDGER_FILE, LedgerStore
from actors.hypervisor.tenure import States
from actors.hypervisor.threads import Threads

log = structlog.get_logger()
_Result = TypeVar("_Result")
_CONF_DIR = Path("/etc/libvirt")
# Where Debian's libvirt keeps disks; beside images_dir the only place where a move may make missing ones.
_LIBVIRT_IMAGES = "/var/lib/libvirt/images"
_CALL_S = 14.0
_MAKE_S = 55.0
_POLL_S = 0.2
_GRANT_S = 12.0
_STOP_S_MAX = 600.0


class NodeAgent(Service):
    """Guests of one node, and its half of moves. The methods' doors are open to this site only.

    Args:
        config: the node's.
        conf_dir: libvirtd's configuration files.
        states: the agreed control state; its members when left out.
    """

    def __init__(self, config: Config, conf_dir: Path = _CONF_DIR, states: States | None = None) -> None:
        node = config.node
        self._config = config
        self._threads = Threads()
        self._store = LedgerStore(node.state_dir / LEDGER_FILE)
        self._connection = Connection(node.libvirt_uri, node.name, self._event)
        known = node.state_dir / "kvm.json"
        self._host = Host(self._connection, conf_dir, lambda emulator: remembered(emulator, known))
        self._guests = GuestDesk(
            self._connection, self._host, node.name, config.site.name, node.images_dir, node.run_dir / "consoles"
        )
        self._moves = MoveDesk(
            self._connection, self._host, self._guests, self._store,
            node=node.name, run_dir=node.run_dir, libvirtd=node.libvirtd_socket,
            disk_dirs=(str(node.images_dir), _LIBVIRT_IMAGES), reserve_mib=node.reserve_mib,
        )  # fmt: skip
        senders = Senders(Directory(node.name, config.topology))
        self._conductors = Conductors(self._connection, self._threads, senders)
        # Room and names are checked and then taken: one such step at a time, or two would take the same.
        self._one_at_a_time = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._arrivals = Arrivals()
        directory = Directory(node.name, config.topology)
        self._custody = Custody(config, states or StateClient(directory, config), self, self._alone)
        self._custody.begin()
        # Connect and look at the host now: QEMU's events of a move under way must not wait for the first question.
        threading.Thread(target=self._warm_up, name="agent warm-up", daemon=True).start()

    # -- the host -------------------------------------------------------------------------------------------------

    @exposed()
    async def facts(self, caller: Caller, request: Empty) -> NodeFacts:  # noqa: ARG002
        """The host; state 'degraded' with the reason in `warnings` while libvirtd is away."""
        try:
            return await self._do("facts", self._facts)
        except (HypervisorDown, HypervisorFailed, DeadlineExceeded) as error:
            total, _ = memory_mib()
            return facts_of(self._config, "degraded", total, 0, 0, [str(error)])

    @exposed()
    async def guests(self, caller: Caller, request: Empty) -> Guests:  # noqa: ARG002
        """Every guest of this node."""
        withheld = self._custody.steward.withheld
        found = [msgspec.structs.replace(guest, note=withheld.get(guest.name, "")) for guest in await self.all()]
        return Guests(guests=found)

    @exposed()
    async def guest_xml(self, caller: Caller, request: GuestName) -> GuestXml:  # noqa: ARG002
        """A guest's migratable definition."""
        return await self._do("guest_xml", lambda: self._guests.definition(request.name, self._store.now))

    # -- guests ---------------------------------------------------------------------------------------------------

    @exposed()
    async def create_guest(self, caller: Caller, request: CreateGuest) -> GuestInfo:  # noqa: ARG002
        """Define a guest and start it if asked."""

        def grant(definition: str) -> None:
            self._granted(request.spec.name, definition)

        return await self._change("create_guest", lambda: self._guests.create(request, self._store.now, grant), _MAKE_S)

    @exposed()
    async def start_guest(self, caller: Caller, request: GuestName) -> GuestInfo:  # noqa: ARG002
        """Start a guest that is shut off."""

        def start(name: str, ledger: Ledger) -> GuestInfo:
            return self._guests.start(name, ledger, lambda definition: self._granted(name, definition))

        return await self._on(request.name, start)

    @exposed()
    async def check_takeover(self, caller: Caller, request: TakeOver) -> Empty:  # noqa: ARG002
        """Raises the reason why this node can't boot the guest; changes nothing."""
        await self._custody.steward.lease_held()
        record = await self._custody.steward.record_of(request.guest)
        await self._do("check_takeover", lambda: self._bootable(record.definition, request))
        return Empty()

    @exposed()
    async def take_over(self, caller: Caller, request: TakeOver) -> TakenOver:  # noqa: ARG002
        """Own a guest whose node is lost, and boot it."""
        record = await self._custody.steward.record_of(request.guest)
        said: list[str] = []

        def grant(_: str) -> None:
            asked = self._custody.steward.take_over(record, request.by, request.reason)
            said.append(asyncio.run_coroutine_threadsafe(asked, self._loop).result(_GRANT_S))

        def boot() -> GuestInfo:
            self._bootable(record.definition, request)
            return self._guests.boot(record.definition, request.guest, self._store.now, grant)

        info = await self._change("take_over", boot, _MAKE_S)
        return TakenOver(guest=info, detail=said[0])

    def _bootable(self, definition: str, request: TakeOver) -> None:
        self._moves.check_boot(definition, disks_here=request.disks_here)

    @exposed()
    async def pause_guest(self, caller: Caller, request: GuestName) -> GuestInfo:  # noqa: ARG002
        """Stop a running guest's CPUs."""
        return await self._on(request.name, self._guests.pause)

    @exposed()
    async def resume_guest(self, caller: Caller, request: GuestName) -> GuestInfo:  # noqa: ARG002
        """Let a paused guest run on; refused where the control state says that it must not run here."""
        await self._custody.steward.may_resume(request.name)
        return await self._on(request.name, self._guests.resume)

    @exposed()
    async def set_attributes(self, caller: Caller, request: SetAttributes) -> GuestInfo:  # noqa: ARG002
        """Give a guest other attributes for placement; refused while a move has it."""

        def change(name: str, ledger: Ledger) -> GuestInfo:
            return self._guests.set_attributes(name, request.attributes, ledger)

        return await self._on(request.name, change)

    @exposed()
    async def delete_guest(self, caller: Caller, request: GuestName) -> GuestInfo:  # noqa: ARG002
        """Undefine a guest that is shut off (state 'absent' in the answer); its disks stay."""
        gone = await self._on(request.name, self._guests.delete)
        await self._custody.steward.removed(request.name)
        return gone

    @exposed()
    async def stop_guest(self, caller: Caller, request: StopGuest) -> GuestInfo:  # noqa: ARG002
        """Stop a guest: by its power button within `grace_s`, then by force."""
        stopped = await self._stop(request)
        await self._custody.steward.stopped(request.name)
        return stopped

    async def _stop(self, request: StopGuest) -> GuestInfo:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(max(request.grace_s, 0.0), _STOP_S_MAX)
        if request.grace_s > 0:
            info = await self._on(request.name, self._guests.press_power)
            while info.state != "shut-off" and loop.time() < until:
                await asyncio.sleep(_POLL_S)
                info = await self._do("stop_guest", lambda: self._guests.info(request.name, self._store.now))
            if info.state == "shut-off":
                return info
        try:
            return await self._on(request.name, self._guests.destroy)
        except GuestNotRunning:
            if request.grace_s <= 0:
                raise
            return await self._do("stop_guest", lambda: self._guests.info(request.name, self._store.now))

    # -- moves ----------------------------------------------------------------------------------------------------

    @exposed()
    async def check_incoming(self, caller: Caller, request: CheckIncoming) -> Empty:  # noqa: ARG002
        """Raises the reason why this guest can't come here."""
        await self._do("check_incoming", lambda: self._moves.check_incoming(request))
        return Empty()

    @exposed()
    async def prepare_incoming(self, caller: Caller, request: PrepareIncoming) -> JobPaths:  # noqa: ARG002
        """Reserve memory, make missing disks and the job's directory."""
        await self._custody.steward.lease_held()
        # Whatever was here under this name before: what comes is of another epoch.
        await asyncio.to_thread(self._custody.epochs.put, request.info.name, 0)
        return await self._change("prepare_incoming", lambda: self._moves.prepare_incoming(request), _MAKE_S)

    @exposed()
    async def prepare_outgoing(self, caller: Caller, request: PrepareOutgoing) -> JobPaths:  # noqa: ARG002
        """Freeze the guest and make the job's directory."""
        return await self._change("prepare_outgoing", lambda: self._moves.prepare_outgoing(request))

    @exposed()
    async def start_move(self, caller: Caller, request: StartMove) -> Empty:  # noqa: ARG002
        """Begin libvirt's migration through the job's sockets."""
        await self._change("start_move", lambda: self._moves.start_move(request))
        self._steer(request.job, request.guest, request.aim)
        return Empty()

    @exposed()
    async def steer_move(self, caller: Caller, request: SteerMove) -> Empty:  # noqa: ARG002
        """Aim anew with the end of a move under way."""
        self._steer(request.job, request.guest, request.aim)
        return Empty()

    @exposed()
    async def move_status(self, caller: Caller, request: MoveJob) -> MoveStatus:  # noqa: ARG002
        """The move as this node's hypervisor has it now."""
        status = await self._do("move_status", lambda: self._moves.status(request))
        return msgspec.structs.replace(status, switchover=self._conductors.seen(request.job))

    @exposed()
    async def await_arrival(self, caller: Caller, request: AwaitArrival) -> Arrival:  # noqa: ARG002
        """Wait until QEMU has told that a job's guest executes here. Neither libvirt nor QEMU is asked meanwhile."""

        def executes() -> bool:
            record = self._store.now.jobs.get(request.job)
            return record is not None and record.resumed_at > 0

        return Arrival(executes=await self._arrivals.wait(request.job, executes, request.wait_s))

    @exposed()
    async def abort_move(self, caller: Caller, request: MoveJob) -> Empty:  # noqa: ARG002
        """Ask libvirt to give up the move."""
        await self._do("abort_move", lambda: self._moves.abort_move(request))
        return Empty()

    @exposed()
    async def finish_move(self, caller: Caller, request: FinishMove) -> Empty:  # noqa: ARG002
        """End the job on this node."""
        self._conductors.end(request.job)
        if request.roll_back and request.resume and not self._custody.tenure.may_run():
            raise Conflict(detail=f"{self._config.node.name} holds no lease now: {request.guest} stays paused for now")
        record = self._store.now.jobs.get(request.job)
        await self._change("finish_move", lambda: self._moves.finish_move(request))
        if record is not None and record.role == "outgoing" and not request.roll_back:
            await asyncio.to_thread(self._custody.epochs.put, request.guest, 0)
        return Empty()

    @exposed()
    async def retire(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002
        """Give the lease back, where no guest has memory here and no move is under way; else leave all as it is.

        The node is being stopped: nothing is started here any more.
        """
        async with self._one_at_a_time:
            here = [guest.name for guest in await self.all() if guest.state not in ("shut-off", "crashed") or guest.job]
            if here or self._store.now.jobs:
                log.info("the lease is kept until it ends", guests=here)
                return Empty()
            self._custody.tenure.give_up()
        await self._custody.tenure.give_back()
        return Empty()

    # -- for the custody of guests ------------------------------------------------------------------------------------

    async def all(self) -> list[GuestInfo]:
        """The guests of this host."""
        return await self._do("guests", lambda: self._guests.all(self._store.now))

    async def definition(self, guest: str) -> str:
        """The migratable definition of a guest."""
        return (await self._do("definition", lambda: self._guests.definition(guest, self._store.now))).xml

    async def pause(self, guest: str) -> None:
        """Pause it."""
        await self._do("pause", lambda: self._guests.pause(guest, self._store.now))

    async def resume(self, guest: str) -> None:
        """Let it run on."""
        await self._do("resume", lambda: self._guests.resume(guest, self._store.now))

    def _granted(self, guest: str, definition: str) -> None:
        """In a thread: have an epoch for a guest before it is started."""
        asked = asyncio.run_coroutine_threadsafe(self._custody.steward.grant(guest, definition), self._loop)
        asked.result(_GRANT_S)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._one_at_a_time:
            yield

    # -- how ------------------------------------------------------------------------------------------------------

    def _steer(self, job: str, guest: str, aim: Aim) -> None:
        record = self._moves.outgoing(job, guest)
        if record.started:
            self._conductors.steer(record, aim)

    async def _do(self, what: str, work: Callable[[], _Result], deadline_s: float = _CALL_S) -> _Result:
        return await self._threads.run(f"agent@{self._config.node.name}.{what}", deadline_s, work)

    async def _change(self, what: str, work: Callable[[], _Result], deadline_s: float = _CALL_S) -> _Result:
        async with self._one_at_a_time:
            return await self._do(what, work, deadline_s)

    async def _on(self, guest: str, action: Callable[..., GuestInfo]) -> GuestInfo:
        def act() -> GuestInfo:
            ledger = self._store.now
            frozen = ledger.of_guest(guest)
            if frozen is not None:
                raise GuestBusy(guest=guest, job=frozen.job)
            return action(guest, ledger)

        return await self._change(action.__name__, act)

    def _warm_up(self) -> None:
        try:
            self._host.platform()
        except NovaCronError as error:
            log.warning("libvirt does not answer yet", error=str(error))

    def _event(self, guest: str, event: str, at: float) -> None:
        self._store.change(lambda ledger: ledger.seen(guest, event, at))
        record = self._store.now.of_guest(guest)
        if record is not None and record.resumed_at:
            self._loop.call_soon_threadsafe(self._arrivals.tell, record.job)

    def _facts(self) -> NodeFacts:
        platform = self._host.platform()
        guests = self._guests.all(self._store.now)
        total, _ = memory_mib()
        warnings = [*self._host.warnings(platform), *self._custody.tenure.warnings]
        facts = facts_of(self._config, "up", total, self._moves.room_mib(guests), len(guests), warnings)
        return msgspec.structs.replace(
            facts,
            cpu_model=platform.machines.cpu_model,
            machine_types=platform.machines.machine_types,
            qemu_version=version_text(platform.qemu_version),
            libvirt_version=version_text(platform.libvirt_version),
            accelerator=platform.accelerator,
        )
