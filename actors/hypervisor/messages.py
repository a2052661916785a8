"""Requests and answers of the node agent. Memory in MiB, times in seconds unless named."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What placement and preflight need to know of one host. `state`: up, degraded (libvirt away) or down.

    `age_s`: how old this is where it was not asked just now.
    """

    node: str
    site: str
    state: str
    address: str
    cpus: int
    cpu_model: str
    arch: str
    memory_mib: int
    free_mib: int
    guests: int
    machine_types: list[str] = []
    qemu_version: str = ""
    libvirt_version: str = ""
    accelerator: str = ""
    warnings: list[str] = []
    age_s: float = 0.0


def silent_node(node: str, site: str, address: str, reason: str) -> NodeFacts:
    """A host that does not answer, and why."""
    return NodeFacts(
        node=node,
        site=site,
        state="down",
        address=address,
        cpus=0,
        cpu_model="",
        arch="",
        memory_mib=0,
        free_mib=0,
        guests=0,
        warnings=[reason],
    )


class DiskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One disk of a guest as its definition has it. `moves`: writable, local and so to be copied with the guest."""

    target: str
    path: str
    format: str
    size_bytes: int = 0
    read_only: bool = False
    moves: bool = False


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What placement heeds of a guest; part of its definition, so that it goes where the guest goes.

    `sites`: the only ones it may be in, none: any. `together`: groups whose guests share a node; `apart`: groups of
    which no two do; `near`: groups that talk a lot and gain by one site; `tenant`: whose it is, '' unknown.
    """

    tenant: str = ""
    sites: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


NO_ATTRIBUTES = Attributes()


class GuestInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One guest on one node. `state`: running, paused, shut-off, crashed, incoming. `note`: why it must not run."""

    name: str
    uuid: str
    node: str
    site: str
    state: str
    memory_mib: int
    vcpus: int
    machine: str = ""
    cpu_model: str = ""
    disks: list[DiskSpec] = []
    attributes: Attributes = NO_ATTRIBUTES
    job: str = ""
    note: str = ""


class Guests(msgspec.Struct, frozen=True, kw_only=True):
    """The guests of one node (or, from the manager, of every node that answered; `silent` names those that did not)."""

    guests: list[GuestInfo]
    silent: list[str] = []


class GuestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A guest to define: libvirt XML when `xml` is set (its name must agree), else built from the other fields.

    `kernel`, `initrd` and disk paths are files on the node. `console`: file for the serial console ('' = run_dir's).
    `attributes` take the place of those in `xml`, if any is set.
    """

    name: str
    xml: str = ""
    memory_mib: int = 512
    vcpus: int = 1
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    disks: list[DiskSpec] = []
    console: str = ""
    attributes: Attributes = NO_ATTRIBUTES


class CreateGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Define a guest and, with `start`, start it."""

    spec: GuestSpec
    start: bool = True


class GuestName(msgspec.Struct, frozen=True, kw_only=True):
    """One guest of this node."""

    name: str


class TakeOver(msgspec.Struct, frozen=True, kw_only=True):
    """Boot a guest here whose node is lost, by the definition that was agreed on.

    `by`, `reason`: who wants it, and why. `disks_here`: they say that what lies here at its disks' paths is its own.
    """

    guest: str
    by: str
    reason: str
    disks_here: bool = False


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    """The guest as it runs now; `detail`: from what it was begun, and what is lost."""

    guest: GuestInfo
    detail: str


class SetAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """Give a guest these attributes instead of those that it has."""

    name: str
    attributes: Attributes


class StopGuest(msgspec.Struct, frozen=True, kw_only=True):
    """Stop a guest: by ACPI within `grace_s`, then by force (0: at once)."""

    name: str
    grace_s: float = 0.0


class GuestXml(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's migratable definition and what the target must provide."""

    info: GuestInfo
    xml: str


class CheckIncoming(msgspec.Struct, frozen=True, kw_only=True):
    """May this guest come here? Raises the reason (NoRoom, GuestExists, Incompatible, HypervisorDown) when not."""

    info: GuestInfo
    xml: str


class PrepareIncoming(msgspec.Struct, frozen=True, kw_only=True):
    """Get ready for job `job`: reserve memory, make the missing disks and the job's directory. Idempotent per job."""

    job: str
    source: str
    info: GuestInfo
    xml: str


class JobPaths(msgspec.Struct, frozen=True, kw_only=True):
    """Where the job's UNIX sockets lie on this node, and this node's own libvirtd socket."""

    directory: str
    ram: str
    wire: str
    libvirt: str
    nbd: str
    nbd_wire: str
    libvirtd: str


class PrepareOutgoing(msgspec.Struct, frozen=True, kw_only=True):
    """Freeze the guest for job `job` (V7) and make the job's directory. Idempotent per job."""

    job: str
    guest: str
    target: str


MovePath = Literal["coded", "native"]
"""How guest memory crosses: through the encoder and decoder, or as QEMU's own parallel streams."""


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What the switchover of a move aims at.

    `pause_ms`: budget of the pause; `fixed_ms`: what of it is expected to go to all but pages (device state, round
    trips, resume); `link_bytes_per_s`: what the link is expected to carry, 0: unknown; `sure_bytes_per_s`: what it
    carries through the pause as surely as is wanted, 0: as expected; `rtt_ms`: of the link.
    """

    pause_ms: int
    fixed_ms: float = 0.0
    link_bytes_per_s: float = 0.0
    sure_bytes_per_s: float = 0.0
    rtt_ms: float = 0.0


class StartMove(msgspec.Struct, frozen=True, kw_only=True):
    """Begin libvirt's peer-to-peer migration of the prepared guest through the job's sockets; returns at once."""

    job: str
    guest: str
    aim: Aim
    path: MovePath = "coded"
    copy_disks: list[str] = []


class SteerMove(msgspec.Struct, frozen=True, kw_only=True):
    """Aim anew with a move that was started; one that this agent (restarted since) has lost sight of is taken up."""

    job: str
    guest: str
    aim: Aim


class MoveJob(msgspec.Struct, frozen=True, kw_only=True):
    """One move, by its job id."""

    job: str
    guest: str


ARRIVAL_S_MAX: Final = 60.0


class AwaitArrival(msgspec.Struct, frozen=True, kw_only=True):
    """Answer when the guest of `job` executes here, or after `wait_s` seconds."""

    job: str
    wait_s: Annotated[float, Meta(ge=0, le=ARRIVAL_S_MAX)]


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it does."""

    executes: bool


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What left this node for a job.

    `stream_bytes` of QEMU's; among them `page_bytes` of guest pages, zero pages left out; the `wire_bytes` made of all.
    """

    stream_bytes: int
    page_bytes: int
    wire_bytes: int


class Switchover(msgspec.Struct, frozen=True, kw_only=True):
    """How the source sees the end of a move. Milliseconds of pause, bytes of guest memory; -1: not known (yet).

    `raised`: QEMU may stop the guest now. `predicted_ms`: the pause expected when it last might, `predicted_pages_ms`
    the pages' part of it. `needed_ms`: the shortest pause that any round so far would have allowed, with `needed_bytes`
    left, when `fitting_bytes` fit. `stalled`: two rounds brought no progress. `link_limited`: the link, not the work on
    the pages, sets the pace.
    """

    raised: bool = False
    predicted_ms: float = -1.0
    predicted_pages_ms: float = -1.0
    budget_ms: int = 0
    fixed_ms: float = 0.0
    needed_ms: float = -1.0
    needed_bytes: int = 0
    fitting_bytes: int = 0
    stalled: bool = False
    link_limited: bool = True
    link_bytes_per_s: float = 0.0
    dirty_bytes_per_s: float = 0.0


class MoveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The move as this node's hypervisor has it, read afresh (V11).

    `outcome`: none (no such job here), running, succeeded, failed. `guest_state` is the domain's state here now
    ('absent' when there is no domain). `stopped_at`/`resumed_at`/`loaded_at`: Unix time of QEMU's STOP and RESUME here
    and of its migration's completion, 0 if not seen. `delivered_at` (added by the target's manager): when the decoder
    last gave QEMU something. `switchover`: the source's, while its agent conducts the move.
    """

    outcome: str
    guest_state: str
    reason: str = ""
    libvirt_code: int = 0
    memory_total: int = 0
    memory_remaining: int = 0
    memory_processed: int = 0
    disk_total: int = 0
    disk_remaining: int = 0
    dirty_pages_per_s: int = 0
    iteration: int = 0
    downtime_ms: int = 0
    stopped_at: float = 0.0
    resumed_at: float = 0.0
    loaded_at: float = 0.0
    delivered_at: float = 0.0
    switchover: Switchover | None = None


class FinishMove(msgspec.Struct, frozen=True, kw_only=True):
    """End the job on this node: unfreeze, remove the job's directory; with `roll_back` also what this job made here.

    On the source, roll-back resumes the guest if this job left it paused and `resume` is set.
    """

    job: str
    guest: str
    roll_back: bool
    resume: bool = False
