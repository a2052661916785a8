"""This node's half of moves: freeze, prepare, start, read, abort, end. Blocking; every step may be repeated.

The ledger is written before anything is done about it, so that an agent that restarts knows what it owes.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt
import msgspec
import structlog

from actors.errors import (
    BodyInvalid,
    Conflict,
    GuestBusy,
    GuestNotRunning,
    GuestRunning,
    Incompatible,
    JobUnknown,
    NoTakeover,
    NovaCronError,
)
from actors.hypervisor import disks, jobdirs, qmp
from actors.hypervisor.engine import outcome
from actors.hypervisor.engine.domain import Domain, parse_domain
from actors.hypervisor.engine.fit import (
    DiskHere,
    HostView,
    check_boots,
    check_disk,
    check_disk_for_boot,
    check_guest,
    free_mib,
)
from actors.hypervisor.engine.ledger import JobRecord, Ledger
from actors.hypervisor.engine.names import job_id
from actors.hypervisor.engine.states import ERR_NO_DOMAIN, ERR_OPERATION_INVALID, ERR_OPERATION_UNSUPPORTED
from actors.hypervisor.engine.switchover import UNSET
from actors.hypervisor.guests import GuestDesk
from actors.hypervisor.host import ARCH, Host, memory_mib
from actors.hypervisor.libvirt_driver import Connection
from actors.hypervisor.messages import (
    CheckIncoming,
    DiskSpec,
    FinishMove,
    GuestInfo,
    JobPaths,
    MoveJob,
    MoveStatus,
    PrepareIncoming,
    PrepareOutgoing,
    StartMove,
)
from actors.hypervisor.moves import Moves
from actors.hypervisor.store import LedgerStore

log = structlog.get_logger()
_COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
_NO_JOB = frozenset({ERR_NO_DOMAIN, ERR_OPERATION_INVALID, ERR_OPERATION_UNSUPPORTED})
# States whose guest has its memory on this host.
_ACTIVE = frozenset({"running", "paused", "incoming"})


class MoveDesk:
    """The moves of one node.

    Args:
        connection, host, guests, store: this node's.
        node: its name.
        run_dir, libvirtd: where job directories are made, and libvirtd's socket.
        disk_dirs: folders in which missing disks may be made.
        reserve_mib: memory never given to guests.
    """

    def __init__(
        self, connection: Connection, host: Host, guests: GuestDesk, store: LedgerStore,
        *, node: str, run_dir: Path, libvirtd: Path, disk_dirs: tuple[str, ...], reserve_mib: int,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._host = host
        self._guests = guests
        self._store = store
        self._node = node
        self._run_dir = run_dir
        self._libvirtd = libvirtd
        self._disk_dirs = disk_dirs
        self._reserve_mib = reserve_mib
        self._moves = Moves(connection.uri, self._ended)

    # -- room and fitness -----------------------------------------------------------------------------------------

    def room_mib(self, guests: Sequence[GuestInfo], but_for: str = "") -> int:
        """Memory that can be promised to another guest, job `but_for`'s own promise not counted."""
        active = [guest for guest in guests if guest.state in _ACTIVE]
        present = frozenset(guest.name for guest in active)
        total, available = memory_mib()
        return free_mib(
            total, available, sum(guest.memory_mib for guest in active),
            self._store.now.reserved_mib(present, but_for), self._reserve_mib,
        )  # fmt: skip

    def check_incoming(self, request: CheckIncoming, job: str = "") -> list[DiskSpec]:
        """May this guest come here? Returns the disks that would be made for it; raises the reason why not."""
        domain = parse_domain(request.xml)
        problems = self._host.keepalive_problems()
        if problems:
            raise Incompatible(node=self._node, guest=request.info.name, reason=problems[0])
        guests = self._guests.all(self._store.now)
        check_guest(request.info, domain, self._view(guests, job))
        if [(d.target, d.path, d.format, d.moves) for d in domain.disks] != [
            (d.target, d.path, d.format, d.moves) for d in request.info.disks
        ]:
            raise BodyInvalid(detail=f"the definition has other disks than {request.info.name}")
        for file in domain.boot_files:
            if not Path(file).is_file():
                raise Incompatible(node=self._node, guest=request.info.name, reason=f"{file} is not there")
        return [disk for disk in request.info.disks if self._to_be_made(request.info, disk, guests)]

    def check_boot(self, definition: str, *, disks_here: bool) -> Domain:
        """May the guest of this definition, which was another node's, be booted here? Raises the reason why not.

        `disks_here`: an operator says that what lies at the paths of its disks is the guest's.
        """
        domain = parse_domain(definition)
        frozen = self._store.now.of_guest(domain.name)
        if frozen is not None:
            raise GuestBusy(guest=domain.name, job=frozen.job)
        guests = self._guests.all(self._store.now)
        copy = next((guest.state for guest in guests if guest.name == domain.name), "shut-off")
        if copy in _ACTIVE:
            why = f"an earlier copy of it is {copy} there, stop that first"
            raise NoTakeover(node=self._node, guest=domain.name, reason=why)
        check_boots(domain, self._view(guests))
        for file in domain.boot_files:
            if not Path(file).is_file():
                raise NoTakeover(node=self._node, guest=domain.name, reason=f"{file} is not there")
        others = [guest for guest in guests if guest.name != domain.name]
        for disk in domain.disks:
            found = self._found(disk, others)
            check_disk_for_boot(domain.name, disk, found, self._node, accepted=disks_here)
        return domain

    def _view(self, guests: Sequence[GuestInfo], job: str = "") -> HostView:
        """This host as the checks see it, job `job`'s own promise not counted."""
        platform = self._host.platform()
        expected = self._store.now.expected(but_for=job)
        return HostView(
            node=self._node,
            arch=ARCH,
            cpu_model=platform.machines.cpu_model,
            cpu_models_usable=platform.cpu_models_usable,
            machine_types=frozenset(platform.machines.machine_types),
            free_mib=self.room_mib(guests, job),
            names=frozenset(guest.name for guest in guests) | {record.guest for record in expected},
            uuids=frozenset(guest.uuid for guest in guests) | {record.uuid for record in expected},
        )

    def _found(self, disk: DiskSpec, guests: Sequence[GuestInfo]) -> DiskHere:
        """What lies at a disk's path, and which of `guests` uses it."""
        in_use = {os.path.realpath(each.path): guest.name for guest in guests for each in guest.disks}
        exists = Path(disk.path).exists()
        return DiskHere(
            exists=exists,
            size_bytes=disks.size_bytes(disk) if exists else 0,
            regular=Path(disk.path).is_file(),
            used_by=in_use.get(os.path.realpath(disk.path), ""),
        )

    def _to_be_made(self, info: GuestInfo, disk: DiskSpec, guests: Sequence[GuestInfo]) -> bool:
        return check_disk(info, disk, self._found(disk, guests), self._node, self._disk_dirs)

    # -- before ---------------------------------------------------------------------------------------------------

    def prepare_incoming(self, request: PrepareIncoming) -> JobPaths:
        """Reserve memory, make missing disks and the job's directory; what fails leaves nothing behind."""
        paths = self._paths(request.job)
        known = self._store.now.jobs.get(request.job)
        if known is not None:
            if (known.guest, known.role) != (request.info.name, "incoming"):
                raise GuestBusy(guest=known.guest, job=request.job)
            return paths
        self._refuse_ended(request.job)
        missing = self.check_incoming(CheckIncoming(info=request.info, xml=request.xml), request.job)
        record = JobRecord(
            job=request.job, guest=request.info.name, role="incoming", peer=request.source,
            uuid=request.info.uuid, coming=request.info,
        )  # fmt: skip
        self._store.change(lambda ledger: ledger.put(record))
        try:
            machines = self._host.platform().machines
            owner = (machines.qemu_uid, machines.qemu_gid)
            for disk in missing:
                disks.make(disk, owner, lambda made: self._made(request.job, made))
            self._guests.make_console_dir()
            jobdirs.make(paths, owner)
        except BaseException:
            self._forget(request.job, undo=True)
            raise
        return paths

    def prepare_outgoing(self, request: PrepareOutgoing) -> JobPaths:
        """Freeze a running guest that can be moved, and make the job's directory."""
        paths = self._paths(request.job)
        ledger = self._store.now
        known = ledger.jobs.get(request.job)
        if known is not None and (known.guest, known.role) == (request.guest, "outgoing"):
            return paths
        self._refuse_ended(request.job)
        busy = known or ledger.of_guest(request.guest)
        if busy is not None:
            raise GuestBusy(guest=request.guest, job=busy.job)
        info = self._guests.info(request.guest, ledger)
        if info.state != "running":
            raise GuestNotRunning(guest=request.guest, state=info.state)
        problems = self._host.keepalive_problems()
        if problems:
            raise Incompatible(node=self._node, guest=request.guest, reason=problems[0])
        # "No such guest any more" is how success is told: a guest that vanishes also when it crashes can't be moved.
        if not self._connection.domain(request.guest, lambda domain: domain.isPersistent()):
            raise Conflict(detail=f"guest {request.guest} is transient: define it before it is moved")
        record = JobRecord(
            job=request.job, guest=request.guest, role="outgoing", peer=request.target, uuid=info.uuid, was_running=True
        )
        self._store.change(lambda now: now.put(record))
        try:
            machines = self._host.platform().machines
            jobdirs.make(paths, (machines.qemu_uid, machines.qemu_gid))
        except BaseException:
            self._forget(request.job, undo=False)
            raise
        return paths

    # -- under way ------------------------------------------------------------------------------------------------

    def start_move(self, request: StartMove) -> None:
        """Begin libvirt's migration; a job that was started before is left to itself."""
        record = self._record(request.job, request.guest, "outgoing")
        if record.started:
            return
        if request.aim.pause_ms < 1:
            raise BodyInvalid(detail=f"pause_ms {request.aim.pause_ms} is not positive")
        state = self._guests.state(request.guest, self._store.now)
        if state != "running":
            raise GuestNotRunning(guest=request.guest, state=state)

        def started(ledger: Ledger) -> Ledger:
            # Read again: an end of the job that came in between must not be undone.
            if request.job not in ledger.jobs:
                raise JobUnknown(job=request.job)
            return ledger.put(msgspec.structs.replace(ledger.jobs[request.job], started=True, path=request.path))

        self._store.change(started)
        self._moves.start(request, self._paths(request.job))

    def outgoing(self, job: str, guest: str) -> JobRecord:
        """What the ledger has of a move from here.

        Raises:
            JobUnknown: no such job is leaving here.
        """
        return self._record(job, guest, "outgoing")

    def status(self, request: MoveJob) -> MoveStatus:
        """The move as libvirt has it now."""
        # Before libvirt is asked: a call that returns in between has changed libvirt's state first.
        calling = self._moves.calling(request.job)
        state = self._guests.state(request.guest, self._store.now)
        record = self._store.now.jobs.get(request.job)
        if record is None or record.guest != request.guest:
            return MoveStatus(outcome="none", guest_state=state)
        if record.role == "outgoing":
            stats = {} if state == "absent" else self._job_stats(request.guest, 0)
            return outcome.outgoing(record, state, stats, calling=calling)
        # The target's libvirt has no account of a move under way, only of one that has arrived.
        stats = self._job_stats(request.guest, _COMPLETED) if state == "running" else {}
        return outcome.incoming(record, state, stats)

    def abort_move(self, request: MoveJob) -> None:
        """Ask libvirt to give up; when there is nothing to give up, nothing happens."""
        record = self._store.now.jobs.get(request.job)
        if record is None or record.role != "outgoing" or record.guest != request.guest:
            return

        def abort(connection: Any) -> None:
            try:
                connection.lookupByName(request.guest).abortJob()
            except libvirt.libvirtError as error:
                if error.get_error_code() not in _NO_JOB:
                    raise

        self._connection.use(abort, request.guest)

    # -- after ----------------------------------------------------------------------------------------------------

    def finish_move(self, request: FinishMove) -> None:
        """Unfreeze and clean up; with `roll_back` undo what this job made here. An unknown job is a finished one."""
        record = self._store.now.jobs.get(request.job)
        if record is None:
            self._store.change(lambda ledger: ledger.drop(job_id(request.job)))
            return
        if record.guest != request.guest:
            raise JobUnknown(job=request.job)
        if record.role == "outgoing":
            self._end_outgoing(record, resume=request.roll_back and request.resume)
        elif request.roll_back:
            self._undo_incoming(record)
        self._forget(request.job, undo=record.role == "incoming" and request.roll_back)

    def _end_outgoing(self, record: JobRecord, *, resume: bool) -> None:
        status = self.status(MoveJob(job=record.job, guest=record.guest))
        if status.outcome == "running":
            raise GuestBusy(guest=record.guest, job=record.job)
        if resume and record.started and record.was_running and status.guest_state == "paused":
            log.info("resuming the guest that its failed move left paused", guest=record.guest, job=record.job)
            self._connection.domain(record.guest, lambda domain: domain.resume())
        if record.started and status.guest_state in _ACTIVE:
            self._connection.domain(record.guest, lambda domain: qmp.set_limit(domain, UNSET))

    def _undo_incoming(self, record: JobRecord) -> None:
        state = self._guests.state(record.guest, self._store.now)
        if state == "absent":
            return
        if state != "incoming" or record.resumed_at:
            raise GuestRunning(guest=record.guest)

        def destroy(connection: Any) -> None:
            with contextlib.suppress(libvirt.libvirtError):  # it is gone by now, or the next look says that it is not
                connection.lookupByName(record.guest).destroy()

        self._connection.use(destroy, record.guest)
        state = self._guests.state(record.guest, self._store.now)
        if state != "absent":
            raise GuestBusy(guest=record.guest, job=record.job)

    # -- the ledger -----------------------------------------------------------------------------------------------

    def _record(self, job: str, guest: str, role: str) -> JobRecord:
        record = self._store.now.jobs.get(job)
        if record is None or (record.guest, record.role) != (guest, role):
            raise JobUnknown(job=job)
        return record

    def _paths(self, job: str) -> JobPaths:
        return jobdirs.paths_of(self._run_dir, self._libvirtd, job)

    def _made(self, job: str, path: str) -> None:
        def add(ledger: Ledger) -> Ledger:
            record = ledger.jobs[job]
            return ledger.put(msgspec.structs.replace(record, made=[*record.made, path]))

        self._store.change(add)

    def _refuse_ended(self, job: str) -> None:
        if job in self._store.now.ended:
            raise Conflict(detail=f"job {job} has ended on {self._node}, so it can't begin there")

    def _forget(self, job: str, *, undo: bool) -> None:
        record = self._store.now.jobs[job]
        if undo:
            disks.unmake(record.made)
        jobdirs.remove(self._paths(job))
        self._store.change(lambda ledger: ledger.drop(job))

    def _ended(self, job: str, message: str, code: int) -> None:
        def note(ledger: Ledger) -> Ledger:
            record = ledger.jobs.get(job)
            if record is None:
                return ledger
            return ledger.put(msgspec.structs.replace(record, reason=message, libvirt_code=code))

        try:
            self._store.change(note)
        except (OSError, NovaCronError) as error:
            log.warning("the reason of a move's end is lost", job=job, error=str(error))

    def _job_stats(self, guest: str, flags: int) -> dict[str, int]:
        """libvirt's job of the guest, numbers only; {} when it has none."""

        def read(connection: Any) -> dict[str, int]:
            try:
                stats = connection.lookupByName(guest).jobStats(flags)
            except libvirt.libvirtError as error:
                if error.get_error_code() in _NO_JOB:
                    return {}
                raise
            return {key: value for key, value in stats.items() if isinstance(value, int)}

        return self._connection.use(read, guest)
