"""Definitions: built and read back; hostile ones refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import BodyInvalid, NovaCronError
from actors.hypervisor.engine.build import Host, domain_xml, with_paths
from actors.hypervisor.engine.domain import (
    XML_BYTES_MAX,
    parse_capabilities,
    parse_domain,
    safe_xml,
    usable_cpu_models,
    user_domain,
)
from actors.hypervisor.messages import DiskSpec, GuestSpec

EMULATOR = "/usr/bin/qemu-system-x86_64"
HOST = Host(
    accelerator="tcg", emulator=EMULATOR, console_dir="/run/novacron/consoles", images_dir="/var/lib/novacron/images"
)
XML = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>web1</name><uuid>8a1bb3c8-7c4b-4be5-9d3a-0b1c2d3e4f50</uuid><memory unit='GiB'>2</memory><vcpu>2</vcpu>
<metadata><mine:tag xmlns:mine='http://example.org/mine'>x</mine:tag></metadata>
<os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type><kernel>/boot/k</kernel></os>
<cpu mode='custom'><model>qemu64</model></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d/a.qcow2'/><target dev='vda'/></disk>
<disk type='file' device='disk'><source file='/d/s.raw'/><target dev='vdb'/><shareable/></disk>
<disk type='block' device='disk'><source dev='/dev/vg/lv'/><target dev='vdc'/></disk>
<disk type='file' device='cdrom'><source file='/d/cd.iso'/><target dev='sda'/></disk>
<disk type='file' device='cdrom'><target dev='sdb'/></disk>
<disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vdd'/></disk>
</devices></domain>"""


def test_definition_is_read() -> None:
    found = parse_domain(XML)
    assert (found.name, found.memory_mib, found.vcpus, found.arch) == ("web1", 2048, 2, "x86_64")
    assert (found.machine, found.cpu_model, found.boot_files) == ("pc-q35-10.0", "qemu64", ["/boot/k"])
    assert [(d.target, d.format, d.read_only, d.moves) for d in found.disks] == [
        ("vda", "qcow2", False, True),
        ("vdb", "raw", False, False),
        ("vdc", "raw", False, True),
        ("sda", "raw", True, False),
    ]


names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
disks = st.lists(
    st.builds(
        DiskSpec,
        target=st.sampled_from(["vda", "vdb", "vdz"]),
        path=st.sampled_from(["", "/d/a b.raw", "/d/<&>'\".raw"]),
        format=st.sampled_from(["raw", "qcow2"]),
        size_bytes=st.integers(0, 1 << 40),
        read_only=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda disk: disk.target,
)


@given(names, st.integers(16, 1 << 20), st.integers(1, 64), disks, st.text("ab <&>\"'=,.", max_size=30), st.booleans())
def test_what_is_built_is_what_is_read(
    name: str, memory_mib: int, vcpus: int, disks: list[DiskSpec], cmdline: str, kvm: bool
) -> None:
    host = Host(**{**_fields(HOST), "accelerator": "kvm" if kvm else "tcg"})
    asked = GuestSpec(name=name, memory_mib=memory_mib, vcpus=vcpus, kernel="/k", cmdline=cmdline, disks=disks)
    spec = with_paths(asked, host)
    found = user_domain(domain_xml(spec, host), name, (EMULATOR,))
    assert (found.name, found.memory_mib, found.vcpus, found.boot_files) == (name, memory_mib, vcpus, ["/k"])
    assert [(d.target, d.path, d.format, d.read_only, d.moves) for d in found.disks] == [
        (d.target, d.path, d.format, d.read_only, not d.read_only) for d in spec.disks
    ]
    root = safe_xml(domain_xml(spec, host))
    assert root.get("type") == ("kvm" if kvm else "qemu")
    assert (root.findtext("os/cmdline") or "") == cmdline


def _fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def test_disk_without_path_lies_in_images_dir() -> None:
    spec = with_paths(GuestSpec(name="g", disks=[DiskSpec(target="vda", path="", format="raw", size_bytes=1)]), HOST)
    assert spec.disks[0].path == "/var/lib/novacron/images/g-vda.raw"
    assert spec.console == "/run/novacron/consoles/g.log"


def _disk(**changes: object) -> list[DiskSpec]:
    return [DiskSpec(**{"target": "vda", "path": "/d", "format": "raw", **changes})]


@pytest.mark.parametrize(
    "spec",
    [
        GuestSpec(name=""),
        GuestSpec(name="../x"),
        GuestSpec(name="-x"),
        GuestSpec(name="a" * 64),
        GuestSpec(name="a\n"),
        GuestSpec(name="g", memory_mib=0),
        GuestSpec(name="g", memory_mib=1 << 40),
        GuestSpec(name="g", vcpus=0),
        GuestSpec(name="g", kernel="boot/k"),
        GuestSpec(name="g", kernel="/k", cmdline="a\nb"),
        GuestSpec(name="g", kernel="/k", cmdline="a" * 2001),
        GuestSpec(name="g", cmdline="quiet"),
        GuestSpec(name="g", console="/run/../etc/passwd"),
        GuestSpec(name="g", disks=_disk(target="sda")),
        GuestSpec(name="g", disks=_disk(format="vmdk")),
        GuestSpec(name="g", disks=_disk(path="/a/../b")),
        GuestSpec(name="g", disks=_disk(path="/a\0b")),
        GuestSpec(name="g", disks=_disk(size_bytes=-1)),
        GuestSpec(name="g", disks=_disk() + _disk()),
    ],
    ids=repr,
)
def test_impossible_spec_is_refused(spec: GuestSpec) -> None:
    with pytest.raises(BodyInvalid):
        with_paths(spec, HOST)


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><domain><name>&b;</name></domain>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<domain>",
        "\ud800",
        BOMB,
        BOMB.replace("DOCTYPE", "doctype"),
        '<!DOCTYPE d SYSTEM "file:///etc/passwd"><domain/>',
        "<domain>&undefined;</domain>",
        "<a>" * 33 + "</a>" * 33,
        "<domain>" + "<a/>" * 20_001 + "</domain>",
        "<domain>" + " " * XML_BYTES_MAX + "</domain>",
        "<network><name>web1</name></network>",
        XML.replace("web1", "../web1"),
        XML.replace(">2<", ">-2<"),
        XML.replace("GiB", "furlong"),
        XML.replace("<memory unit='GiB'>2</memory>", ""),
        XML.replace("/d/a.qcow2", "/d/../../etc/shadow"),
    ],
    ids=range(17),
)
def test_hostile_xml_is_refused(text: str) -> None:
    with pytest.raises(BodyInvalid):
        parse_domain(text)


@pytest.mark.parametrize(
    "old, new, says",
    [
        ("<name>web1</name>", "<name>web2</name>", "names the guest web2"),
        ("qemu-system-x86_64</emulator>", "env</emulator>", "emulator"),
        ("</devices>", "</devices><qemu:commandline><qemu:arg value='-S'/></qemu:commandline>", "options for QEMU"),
        ("<vcpu>", "<vcpu qemu:x='1'>", "options for QEMU"),
    ],
)
def test_user_may_not_reach_past_libvirt(old: str, new: str, says: str) -> None:
    assert user_domain(XML, "web1", (EMULATOR,)).name == "web1"
    with pytest.raises(BodyInvalid, match=says):
        user_domain(XML.replace(old, new), "web1", (EMULATOR,))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"<domain><name>{text}</name><memory>{text}</memory></domain>"):
        try:
            parse_domain(candidate)
        except NovaCronError as error:
            assert isinstance(error, BodyInvalid)


CAPABILITIES = """<capabilities><host><cpu><arch>x86_64</arch><model>Skylake</model></cpu>
<secmodel><model>none</model></secmodel>
<secmodel><model>dac</model><baselabel type='kvm'>+64055:+108</baselabel></secmodel></host>
<guest><arch name='i686'><emulator>/usr/bin/qemu-system-i386</emulator><machine>isapc</machine></arch></guest>
<guest><arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator>
<machine>pc-q35-10.0</machine><machine canonical='pc-q35-10.0'>q35</machine></arch></guest></capabilities>"""


def test_capabilities_are_read() -> None:
    found = parse_capabilities(CAPABILITIES, "x86_64")
    assert (found.arch, found.cpu_model, found.emulator) == ("x86_64", "Skylake", EMULATOR)
    assert found.machine_types == ["pc-q35-10.0", "q35"]
    assert (found.qemu_uid, found.qemu_gid) == (64055, 108)
    assert parse_capabilities("<capabilities/>", "x86_64").machine_types == []


def test_usable_cpu_models_are_read() -> None:
    text = """<domainCapabilities><cpu><mode name='host-model'><model>X</model></mode><mode name='custom'>
    <model usable='yes'>qemu64</model><model usable='no'>EPYC</model></mode></cpu></domainCapabilities>"""
    assert usable_cpu_models(text) == {"qemu64"}
