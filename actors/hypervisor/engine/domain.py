"""Reads domain and capability XML. Definitions come from users and other sites: they are hostile until checked."""

import re
from xml.etree import ElementTree as ET

import msgspec

from actors.errors import BodyInvalid
from actors.hypervisor.engine.attributes import attributes_of
from actors.hypervisor.engine.names import file_path, guest_name
from actors.hypervisor.messages import Attributes, DiskSpec

XML_BYTES_MAX = 1 << 20
_DEPTH_MAX = 32
_ELEMENTS_MAX = 20_000
_MIB_PER_UNIT = {
    "b": 2**-20, "bytes": 2**-20, "kb": 1e3 / 2**20, "k": 2**-10, "kib": 2**-10, "mb": 1e6 / 2**20, "m": 1.0,
    "mib": 1.0, "gb": 1e9 / 2**20, "g": 1024.0, "gib": 1024.0, "tb": 1e12 / 2**20, "t": 2.0**20, "tib": 2.0**20,
}  # fmt: skip


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent needs of one definition.

    `cpu_model`: a model's name, host-model or host-passthrough. `boot_files`: kernel and initramfs, which must lie on
    every host that runs it.
    """

    name: str
    uuid: str
    memory_mib: int
    vcpus: int
    arch: str
    machine: str
    cpu_model: str
    emulator: str
    boot_files: list[str]
    disks: list[DiskSpec]
    attributes: Attributes


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's capabilities offer for one architecture."""

    arch: str
    cpu_model: str
    emulator: str
    machine_types: list[str]
    qemu_uid: int
    qemu_gid: int


def safe_xml(text: str) -> ET.Element:
    """The root of `text`, parsed without ever expanding an entity.

    Raises:
        BodyInvalid: not XML, larger than 1 MiB, with a document type, or deeper or wider than any definition.
    """
    if len(text.encode("utf-8", "surrogatepass")) > XML_BYTES_MAX:
        raise BodyInvalid(detail=f"the XML is larger than {XML_BYTES_MAX} bytes")
    # Entities, and with them the bombs and the reading of files, exist only in a document type declaration.
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise BodyInvalid(detail="the XML has a document type declaration; leave it out")
    try:
        root = ET.fromstring(text)  # noqa: S314  no document type: nothing can expand
    except (ET.ParseError, ValueError) as error:
        raise BodyInvalid(detail=f"not XML: {error}") from error
    level, count = [root], 0
    for _ in range(_DEPTH_MAX):
        count += len(level)
        level = [child for element in level for child in element]
    if level or count > _ELEMENTS_MAX:
        raise BodyInvalid(detail=f"the XML is deeper than {_DEPTH_MAX} or has more than {_ELEMENTS_MAX} elements")
    return root


def parse_domain(text: str) -> Domain:
    """The definition in `text`.

    Raises:
        BodyInvalid: not a domain, or a value is missing or out of form.
    """
    root = safe_xml(text)
    if root.tag != "domain":
        raise BodyInvalid(detail=f"the XML's root is <{root.tag[:40]}>, not <domain>")
    kind = root.find("os/type")
    return Domain(
        name=guest_name(root.findtext("name", "").strip()),
        uuid=root.findtext("uuid", "").strip(),
        memory_mib=_memory_mib(root),
        vcpus=_number(root.findtext("vcpu", "1"), "vcpu"),
        arch=kind.get("arch", "") if kind is not None else "",
        machine=kind.get("machine", "") if kind is not None else "",
        cpu_model=_cpu_model(root.find("cpu")),
        emulator=root.findtext("devices/emulator", "").strip(),
        boot_files=[file_path(file.strip()) for tag in ("kernel", "initrd") if (file := root.findtext(f"os/{tag}"))],
        disks=[disk for element in root.iterfind("devices/disk") if (disk := _disk(element)) is not None],
        attributes=attributes_of(root),
    )


def user_domain(text: str, name: str, emulators: tuple[str, ...]) -> Domain:
    """A definition that a user sends for guest `name`, which may not run anything but one of `emulators`.

    Raises:
        BodyInvalid: as `parse_domain`, another name, a foreign emulator, or options passed by libvirt unseen.
    """
    root = safe_xml(text)
    foreign = sorted(
        {e.tag for e in root.iter() if e.tag.startswith("{")}
        | {a for e in root.iter() for a in e.attrib if a.startswith("{")}
    )
    # <metadata> is for foreign elements; anywhere else they are options for QEMU that nobody has checked.
    allowed = {e.tag for m in root.iterfind("metadata") for e in m.iter()}
    refused = [tag for tag in foreign if tag not in allowed]
    if refused:
        raise BodyInvalid(detail=f"{refused[0][:120]}: options for QEMU itself are not taken")
    domain = parse_domain(text)
    if domain.name != name:
        raise BodyInvalid(detail=f"the XML names the guest {domain.name}, the request {name[:80]!r}")
    if domain.emulator and domain.emulator not in emulators:
        raise BodyInvalid(detail=f"emulator {domain.emulator[:120]!r} is not one of {', '.join(emulators)}")
    return domain


def parse_capabilities(text: str, arch: str) -> Machines:
    """What libvirt's capabilities offer for guests of `arch`; empty where they offer nothing."""
    root = safe_xml(text)
    guest = next(
        (g for g in root.iterfind("guest") if (a := g.find("arch")) is not None and a.get("name") == arch), None
    )
    machines = [] if guest is None else [e.text or "" for e in guest.iterfind("arch/machine")]
    machines += [] if guest is None else [e.get("canonical", "") for e in guest.iterfind("arch/machine")]
    uid, gid = _dac_owner(root)
    return Machines(
        arch=root.findtext("host/cpu/arch", ""),
        cpu_model=root.findtext("host/cpu/model", ""),
        emulator="" if guest is None else guest.findtext("arch/emulator", ""),
        machine_types=sorted({machine for machine in machines if machine}),
        qemu_uid=uid,
        qemu_gid=gid,
    )


def usable_cpu_models(text: str) -> frozenset[str]:
    """The named CPU models that libvirt's domain capabilities call usable on this host."""
    root = safe_xml(text)
    return frozenset(
        (model.text or "").strip()
        for mode in root.iterfind("cpu/mode")
        if mode.get("name") == "custom"
        for model in mode.iterfind("model")
        if model.get("usable") == "yes"
    )


def _dac_owner(root: ET.Element) -> tuple[int, int]:
    for model in root.iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            found = re.fullmatch(r"\+(\d+):\+(\d+)", model.findtext("baselabel", ""))
            if found:
                return int(found[1]), int(found[2])
    return 0, 0


def _memory_mib(root: ET.Element) -> int:
    element = root.find("memory")
    if element is None:
        raise BodyInvalid(detail="the XML has no <memory>")
    unit = element.get("unit", "KiB").lower()
    if unit not in _MIB_PER_UNIT:
        raise BodyInvalid(detail=f"memory unit {unit[:20]!r} is unknown")
    return max(1, round(_number(element.text or "", "memory") * _MIB_PER_UNIT[unit]))


def _number(text: str, what: str) -> int:
    text = text.strip()
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BodyInvalid(detail=f"{what} {text[:40]!r} is not a whole number")
    return int(text)


def _cpu_model(cpu: ET.Element | None) -> str:
    if cpu is None:
        return ""
    mode = cpu.get("mode", "custom")
    return cpu.findtext("model", "").strip() if mode == "custom" else mode


def _disk(element: ET.Element) -> DiskSpec | None:
    source, target, driver = element.find("source"), element.find("target"), element.find("driver")
    if source is None or target is None:
        return None  # an empty drive
    path = source.get("file") or source.get("dev") or ""
    if not path:
        return None  # on the network: both hosts reach it
    read_only = element.find("readonly") is not None or element.get("device", "disk") != "disk"
    shared = element.find("shareable") is not None
    return DiskSpec(
        target=target.get("dev", ""),
        path=file_path(path),
        format="raw" if driver is None else driver.get("type", "raw"),
        read_only=read_only,
        moves=not read_only and not shared,
    )
