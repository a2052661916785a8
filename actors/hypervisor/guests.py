"""Guests of this node: reading, defining, starting, stopping. Blocking; raises the errors of `Connection.use`."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import msgspec

from actors.errors import BodyInvalid, Conflict, GuestExists, GuestNotRunning, GuestRunning, GuestUnknown, SetupMissing
from actors.hypervisor import disks
from actors.hypervisor.engine.attributes import NAMESPACE, PREFIX, checked, element_text, with_attributes
from actors.hypervisor.engine.build import Host as BuildHost
from actors.hypervisor.engine.build import domain_xml, with_paths
from actors.hypervisor.engine.domain import Domain, parse_domain, safe_xml, user_domain
from actors.hypervisor.engine.fit import portable_cpu
from actors.hypervisor.engine.ledger import Ledger
from actors.hypervisor.engine.states import SHUTOFF, guest_state
from actors.hypervisor.host import Host
from actors.hypervisor.libvirt_driver import Connection
from actors.hypervisor.messages import (
    NO_ATTRIBUTES,
    Attributes,
    CreateGuest,
    DiskSpec,
    GuestInfo,
    GuestSpec,
    GuestXml,
)

Grant = Callable[[str], None]


class GuestDesk:
    """The guests.

    Args:
        connection, host: this node.
        node, site: named in what is returned.
        images_dir: where disks without a path are made.
        console_dir: where consoles without a path are written.
    """

    def __init__(
        self, connection: Connection, host: Host, node: str, site: str, images_dir: Path, console_dir: Path
    ) -> None:
        self._connection = connection
        self._host = host
        self._node = node
        self._site = site
        self._images_dir = images_dir
        self._console_dir = console_dir

    # -- reading --------------------------------------------------------------------------------------------------

    def all(self, ledger: Ledger) -> list[GuestInfo]:
        """Every guest, by name."""

        def read(connection: Any) -> list[GuestInfo]:
            found = (self._try_info(domain, ledger) for domain in connection.listAllDomains())
            return sorted((info for info in found if info is not None), key=lambda info: info.name)

        return self._connection.use(read)

    def info(self, name: str, ledger: Ledger) -> GuestInfo:
        """One guest."""
        return self._connection.domain(name, lambda domain: self._info(domain, ledger))

    def state(self, name: str, ledger: Ledger) -> str:
        """A guest's state; 'absent' when there is none."""
        try:
            return self._connection.domain(name, lambda domain: _state(domain, name, ledger))
        except GuestUnknown:
            return "absent"

    def definition(self, name: str, ledger: Ledger) -> GuestXml:
        """A guest with the definition that can be taken to another host, disks measured."""

        def read(domain: Any) -> GuestXml:
            info = self._info(domain, ledger)
            measured = [self._measured(domain, disk) for disk in info.disks]
            info = msgspec.structs.replace(info, disks=measured)
            return GuestXml(info=info, xml=domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))

        return self._connection.domain(name, read)

    def _try_info(self, domain: Any, ledger: Ledger) -> GuestInfo | None:
        try:
            return self._info(domain, ledger)
        except libvirt.libvirtError as error:
            # Between the listing and the reading it was undefined.
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _info(self, domain: Any, ledger: Ledger) -> GuestInfo:
        name = domain.name()
        state = _state(domain, name, ledger)
        record = ledger.of_guest(name)
        if record is not None and record.coming is not None:
            # libvirt describes no guest while it comes in: whoever asks waits until it is here, or for 30 s.
            return msgspec.structs.replace(
                record.coming, node=self._node, site=self._site, state=state, job=record.job, note=""
            )
        base = {"name": name, "uuid": domain.UUIDString(), "node": self._node, "site": self._site, "state": state}
        job = "" if record is None else record.job
        try:
            found = parse_domain(domain.XMLDesc(0))
        except BodyInvalid:
            # Defined by hand with what the agent has no word for: shown, never touched.
            return GuestInfo(**base, memory_mib=domain.maxMemory() // 1024, vcpus=domain.info()[3], job=job)
        cpu = portable_cpu(found.cpu_model, self._host.platform().machines.cpu_model)
        return GuestInfo(
            **base, memory_mib=found.memory_mib, vcpus=found.vcpus, machine=found.machine, cpu_model=cpu,
            disks=found.disks, attributes=found.attributes, job=job,
        )  # fmt: skip

    def _measured(self, domain: Any, disk: DiskSpec) -> DiskSpec:
        size = domain.blockInfo(disk.target)[0]
        return msgspec.structs.replace(disk, size_bytes=size)

    def make_console_dir(self) -> None:
        """Have the folder of consoles, writable for QEMU; libvirt makes files, not folders. A reboot empties /run."""
        machines = self._host.platform().machines
        self._console_dir.mkdir(parents=True, exist_ok=True)
        os.chown(self._console_dir, machines.qemu_uid, machines.qemu_gid)

    # -- changing -------------------------------------------------------------------------------------------------

    def create(self, request: CreateGuest, ledger: Ledger, grant: Grant) -> GuestInfo:
        """Define a guest, make its missing disks, and start it if asked. What fails leaves nothing behind.

        `grant` is called with the definition before a start, and raises what speaks against it.
        """
        spec, platform = request.spec, self._host.platform()
        made: list[str] = []
        if spec.xml:
            domain = user_domain(spec.xml, spec.name, (platform.machines.emulator,))
            xml = spec.xml
        else:
            host = BuildHost(
                accelerator=platform.accelerator, emulator=platform.machines.emulator,
                console_dir=str(self._console_dir), images_dir=str(self._images_dir),
            )  # fmt: skip
            spec = with_paths(spec, host)
            xml = domain_xml(spec, host)
            domain = parse_domain(xml)
        if spec.attributes != NO_ATTRIBUTES:
            xml = with_attributes(safe_xml(xml), checked(spec.attributes))
        self._refuse_taken(domain, ledger)
        try:
            if not spec.xml:
                self._make_files(spec, (platform.machines.qemu_uid, platform.machines.qemu_gid), made)
            if request.start:
                grant(xml)
            return self._define(xml, spec.name, request.start, ledger)
        except BaseException:
            disks.unmake(made)
            raise

    def _refuse_taken(self, domain: Domain, ledger: Ledger) -> None:
        # defineXML would silently replace a guest of this name.
        if self.state(domain.name, ledger) != "absent" or ledger.incoming(domain.name):
            raise GuestExists(node=self._node, guest=domain.name)

    def _make_files(self, spec: GuestSpec, owner: tuple[int, int], made: list[str]) -> None:
        for path in (spec.kernel, spec.initrd):
            if path and not Path(path).is_file():
                raise SetupMissing(what=f"the file {path} on node {self._node}")
        for disk in spec.disks:
            if Path(disk.path).exists():
                continue
            if disk.read_only or disk.size_bytes <= 0:
                raise SetupMissing(what=f"the disk {disk.path} on node {self._node}, or a size_bytes to make it with")
            disks.make(disk, owner, made.append)
        self.make_console_dir()

    def _define(self, xml: str, name: str, start: bool, ledger: Ledger) -> GuestInfo:
        def define(connection: Any) -> GuestInfo:
            domain = connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
            try:
                if start:
                    domain.create()
            except libvirt.libvirtError:
                domain.undefine()
                raise
            return self._info(domain, ledger)

        return self._connection.use(define, name)

    def boot(self, definition: str, name: str, ledger: Ledger, grant: Grant) -> GuestInfo:
        """Define a guest that was another node's and start it, in place of what is left here of an earlier time.

        `grant`: as in `create`.
        """

        def forget(domain: Any) -> None:
            # Also the memory that libvirt may have saved of it: that is of an earlier owner.
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)

        self.make_console_dir()
        grant(definition)
        with contextlib.suppress(GuestUnknown):
            self._connection.domain(name, forget)
        return self._define(definition, name, True, ledger)

    def start(self, name: str, ledger: Ledger, grant: Grant) -> GuestInfo:
        """Start a guest that is shut off; raises GuestRunning if it is not. `grant`: as in `create`."""

        def start(domain: Any) -> GuestInfo:
            if domain.isActive():
                raise GuestRunning(guest=name)
            grant(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))
            domain.create()
            return self._info(domain, ledger)

        return self._connection.domain(name, start)

    def set_attributes(self, name: str, attributes: Attributes, ledger: Ledger) -> GuestInfo:
        """Give it these attributes, in its definition and, while it has memory, in what runs. None: remove them."""
        attributes = checked(attributes)
        text = element_text(attributes) if attributes != NO_ATTRIBUTES else None

        def change(domain: Any) -> GuestInfo:
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, flags)
            return self._info(domain, ledger)

        return self._connection.domain(name, change)

    def pause(self, name: str, ledger: Ledger) -> GuestInfo:
        """Stop its CPUs; raises GuestNotRunning."""
        return self._when(name, ledger, "running", lambda domain: domain.suspend())

    def resume(self, name: str, ledger: Ledger) -> GuestInfo:
        """Let a paused guest run on; raises Conflict if it is not paused."""
        return self._when(name, ledger, "paused", lambda domain: domain.resume())

    def press_power(self, name: str, ledger: Ledger) -> GuestInfo:
        """Press its power button; raises GuestNotRunning."""
        return self._when(name, ledger, "running", lambda domain: domain.shutdown())

    def destroy(self, name: str, ledger: Ledger) -> GuestInfo:
        """Take its power away; raises GuestNotRunning."""

        def destroy(domain: Any) -> GuestInfo:
            if not domain.isActive():
                raise GuestNotRunning(guest=name, state=_state(domain, name, ledger))
            domain.destroy()
            return self._info(domain, ledger)

        return self._connection.domain(name, destroy)

    def delete(self, name: str, ledger: Ledger) -> GuestInfo:
        """Undefine a guest that is shut off; its disks stay. Raises GuestRunning."""

        def delete(domain: Any) -> GuestInfo:
            if domain.isActive():
                raise GuestRunning(guest=name)
            info = self._info(domain, ledger)
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
            return msgspec.structs.replace(info, state="absent")

        return self._connection.domain(name, delete)

    def _when(self, name: str, ledger: Ledger, wanted: str, action: Any) -> GuestInfo:
        def act(domain: Any) -> GuestInfo:
            state = _state(domain, name, ledger)
            if state != wanted and wanted == "running":
                raise GuestNotRunning(guest=name, state=state)
            if state != wanted:
                raise Conflict(detail=f"guest {name} is {state}, not {wanted}")
            action(domain)
            return self._info(domain, ledger)

        return self._connection.domain(name, act)


def _state(domain: Any, name: str, ledger: Ledger) -> str:
    number, reason = domain.state()
    assert number >= 0
    if number == SHUTOFF and not domain.isPersistent():
        return "absent"
    # What libvirt makes of a guest that arrives is paused, for reasons that change on the way, and transient until the
    # source has let go: only then does it become persistent, just before it runs.
    return guest_state(number, reason, incoming=ledger.incoming(name) and not domain.isPersistent())
