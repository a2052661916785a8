"""May a guest come to this host? Each check raises the reason why not."""

from pathlib import PurePosixPath

import msgspec

from actors.errors import BodyInvalid, GuestExists, Incompatible, NoRoom, NoTakeover
from actors.hypervisor.engine.domain import Domain
from actors.hypervisor.engine.names import inside
from actors.hypervisor.messages import DiskSpec, GuestInfo

PASSTHROUGH = "host-passthrough"
_OF_ANY_HOST = frozenset({PASSTHROUGH, "host-model", "maximum"})
QEMU_OLDEST_FOR_TCG = 10


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks look at: one reading of a host. `names`/`uuids`: of every guest defined or expected here."""

    node: str
    arch: str
    cpu_model: str
    cpu_models_usable: frozenset[str]
    machine_types: frozenset[str]
    free_mib: int
    names: frozenset[str]
    uuids: frozenset[str]


class DiskHere(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at a disk's path on this host.

    `size_bytes`: as the guest sees it; `regular`: a file, no device; `used_by`: a guest here, or ''.
    """

    exists: bool
    size_bytes: int = 0
    regular: bool = True
    used_by: str = ""


def free_mib(total_mib: int, available_mib: int, guests_mib: int, reserved_mib: int, reserve_mib: int) -> int:
    """Memory that further guests can be promised.

    Promised memory counts as gone even before its guest has touched it, and so does what others really use.
    """
    by_promise = total_mib - guests_mib - reserved_mib - reserve_mib
    by_use = available_mib - reserved_mib - reserve_mib
    return max(0, min(by_promise, by_use))


def portable_cpu(model: str, host_model: str) -> str:
    """The CPU as other hosts must judge it: a passed-through CPU is as good as its host's model."""
    return f"{PASSTHROUGH}/{host_model}" if model == PASSTHROUGH else model


def check_guest(info: GuestInfo, domain: Domain, host: HostView) -> None:
    """Name, memory, machine type, architecture and CPU.

    Raises:
        BodyInvalid: the definition is of another guest than `info`.
        GuestExists, NoRoom, Incompatible: it can't come.
    """
    if (domain.name, domain.uuid, domain.memory_mib) != (info.name, info.uuid, info.memory_mib):
        raise BodyInvalid(detail=f"the definition is not that of {info.name}")
    if info.name in host.names or info.uuid in host.uuids:
        raise GuestExists(node=host.node, guest=info.name)
    mode, _, of_host = info.cpu_model.partition("/")
    if mode == PASSTHROUGH and of_host != host.cpu_model:
        raise _unfit(
            info.name, host, f"it sees the whole CPU of its host, a {of_host}; this host has a {host.cpu_model}"
        )
    check_boots(msgspec.structs.replace(domain, cpu_model=mode), host)


def check_boots(domain: Domain, host: HostView) -> None:
    """May this definition be started here, from nothing? A CPU that is passed through is whichever is here.

    Raises:
        NoRoom, Incompatible: it may not.
    """
    if domain.arch != host.arch:
        raise _unfit(domain.name, host, f"it needs a {domain.arch} host, this one is {host.arch}")
    if domain.machine not in host.machine_types:
        raise _unfit(domain.name, host, f"machine type {domain.machine} is unknown to its QEMU")
    model = domain.cpu_model
    if model and model not in _OF_ANY_HOST and model not in host.cpu_models_usable:
        raise _unfit(domain.name, host, f"CPU model {model} can't be had on its CPU")
    if domain.memory_mib > host.free_mib:
        raise NoRoom(
            node=host.node, guest=domain.name, needs_mib=domain.memory_mib, resource="memory", free_mib=host.free_mib
        )


def check_disk_for_boot(guest: str, disk: DiskSpec, here: DiskHere, node: str, *, accepted: bool) -> None:
    """May `guest` be booted here from what lies at this disk's path? `accepted`: an operator says that it is the right
    one, where nothing else does.

    Raises:
        NoTakeover: it may not.
    """
    if not here.exists:
        lost = "it was where the guest ran, and there is no replica" if disk.moves else "every host needs it"
        raise NoTakeover(node=node, guest=guest, reason=f"disk {disk.target}: {disk.path} is not there; {lost}")
    if here.used_by and disk.moves:
        reason = f"disk {disk.target}: {disk.path} there belongs to guest {here.used_by}"
        raise NoTakeover(node=node, guest=guest, reason=reason)
    if disk.moves and not accepted:
        reason = (
            f"disk {disk.target} is not <shareable/>, so {disk.path} there may be an old copy, and there is no replica;"
            " --disks-here takes it as it is"
        )
        raise NoTakeover(node=node, guest=guest, reason=reason)


def check_disk(info: GuestInfo, disk: DiskSpec, here: DiskHere, node: str, folders: tuple[str, ...]) -> bool:
    """True when the disk is to be made here.

    Raises:
        Incompatible: a disk that does not travel is missing or differs, or its place here can't be used.
    """

    def unfit(reason: str) -> Incompatible:
        return Incompatible(node=node, guest=info.name, reason=f"disk {disk.target}: {reason}")

    if here.exists:
        if disk.moves and here.used_by:
            raise unfit(f"{disk.path} there belongs to guest {here.used_by}")
        if disk.moves and not (here.regular and disk.size_bytes > 0):
            raise unfit(f"{disk.path} there would be overwritten, and it is no file of a known size")
        if disk.size_bytes and here.size_bytes != disk.size_bytes:
            raise unfit(f"{disk.path} there has {here.size_bytes} bytes, not {disk.size_bytes}")
        return False
    if not disk.moves:
        raise unfit(f"it does not travel with the guest, and {disk.path} is not there")
    if disk.format not in {"raw", "qcow2"} or disk.size_bytes <= 0:
        raise unfit(f"a disk of format {disk.format} and {disk.size_bytes} bytes can't be made there")
    if not inside(disk.path, folders):
        raise unfit(f"{disk.path} is not there, and disks are made only in {' and '.join(folders)}: make it by hand")
    return True


def missing_parents(path: str, existing: frozenset[str]) -> list[str]:
    """The folders above `path` that are not among `existing`, outermost first."""
    return [str(parent) for parent in reversed(PurePosixPath(path).parents) if str(parent) not in existing]


def _unfit(guest: str, host: HostView, reason: str) -> Incompatible:
    return Incompatible(node=host.node, guest=guest, reason=reason)
