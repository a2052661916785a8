"""Writes a domain definition from a `GuestSpec`."""

import re
from xml.etree import ElementTree as ET

import msgspec

from actors.errors import BodyInvalid
from actors.hypervisor.engine.names import file_path, guest_name
from actors.hypervisor.messages import DiskSpec, GuestSpec

FORMATS = ("raw", "qcow2")
_TARGET = re.compile(r"vd[a-z]")
_CMDLINE = re.compile(r"[\x20-\x7e]{0,2000}")
_MEMORY_MIB_MAX = 16 << 20
_VCPUS_MAX = 512


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a definition takes from the host that it is made for. `accelerator`: kvm or tcg."""

    accelerator: str
    emulator: str
    console_dir: str
    images_dir: str


def with_paths(spec: GuestSpec, host: Host) -> GuestSpec:
    """The spec with every path filled in and checked; disks without one get a file of their own in `images_dir`.

    Raises:
        BodyInvalid: a value that no guest can have.
    """
    guest_name(spec.name)
    if not 16 <= spec.memory_mib <= _MEMORY_MIB_MAX:
        raise BodyInvalid(detail=f"memory_mib {spec.memory_mib} is not within 16..{_MEMORY_MIB_MAX}")
    if not 1 <= spec.vcpus <= _VCPUS_MAX:
        raise BodyInvalid(detail=f"vcpus {spec.vcpus} is not within 1..{_VCPUS_MAX}")
    if not _CMDLINE.fullmatch(spec.cmdline):
        raise BodyInvalid(detail="cmdline is longer than 2000 characters or not printable ASCII")
    if spec.kernel:
        file_path(spec.kernel)
    elif spec.initrd or spec.cmdline:
        raise BodyInvalid(detail="initrd and cmdline need a kernel")
    if spec.initrd:
        file_path(spec.initrd)
    targets = [disk.target for disk in spec.disks]
    if len(set(targets)) != len(targets):
        raise BodyInvalid(detail="two disks have the same target")
    disks = [_disk(spec.name, disk, host.images_dir) for disk in spec.disks]
    console = file_path(spec.console or f"{host.console_dir}/{spec.name}.log")
    return msgspec.structs.replace(spec, disks=disks, console=console)


def _disk(guest: str, disk: DiskSpec, images_dir: str) -> DiskSpec:
    if not _TARGET.fullmatch(disk.target):
        raise BodyInvalid(detail=f"disk target {disk.target[:20]!r} is not vda..vdz")
    if disk.format not in FORMATS:
        raise BodyInvalid(detail=f"disk format {disk.format[:20]!r} is not one of {', '.join(FORMATS)}")
    if disk.size_bytes < 0:
        raise BodyInvalid(detail=f"disk {disk.target}: size_bytes {disk.size_bytes} is negative")
    path = file_path(disk.path or f"{images_dir}/{guest}-{disk.target}.{disk.format}")
    return msgspec.structs.replace(disk, path=path, moves=not disk.read_only)


def domain_xml(spec: GuestSpec, host: Host) -> str:
    """The definition of a spec whose paths are filled in: q35, virtio disks, serial console appended to a file."""
    domain = ET.Element("domain", type="kvm" if host.accelerator == "kvm" else "qemu")
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus))
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if spec.kernel:
        _text(system, "kernel", spec.kernel)
        if spec.initrd:
            _text(system, "initrd", spec.initrd)
        if spec.cmdline:
            _text(system, "cmdline", spec.cmdline)
    else:
        ET.SubElement(system, "boot", dev="hd")
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    _cpu(domain, host.accelerator)
    ET.SubElement(domain, "clock", offset="utc")
    devices = ET.SubElement(domain, "devices")
    _text(devices, "emulator", host.emulator)
    for disk in spec.disks:
        _add_disk(devices, disk)
    ET.SubElement(devices, "controller", type="usb", model="none")
    serial = ET.SubElement(devices, "serial", type="file")
    # append: a guest that comes back goes on in the file that it began.
    ET.SubElement(serial, "source", path=spec.console, append="on")
    ET.SubElement(serial, "target", port="0")
    return ET.tostring(domain, encoding="unicode")


def _cpu(domain: ET.Element, accelerator: str) -> None:
    if accelerator == "kvm":
        ET.SubElement(domain, "cpu", mode="host-model")
        return
    cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
    _text(cpu, "model", "qemu64", fallback="forbid")


def _add_disk(devices: ET.Element, disk: DiskSpec) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    # cache=none: the only mode in which both hosts of a move see the same bytes of a shared disk.
    ET.SubElement(
        element, "driver", {"name": "qemu", "type": disk.format} | ({} if disk.read_only else {"cache": "none"})
    )
    ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=disk.target, bus="virtio")
    if disk.read_only:
        ET.SubElement(element, "readonly")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
