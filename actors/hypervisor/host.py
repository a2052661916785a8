"""This host as libvirt and the kernel describe it. Blocking."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

from actors.hypervisor.engine.domain import Machines, parse_capabilities, usable_cpu_models
from actors.hypervisor.engine.fit import QEMU_OLDEST_FOR_TCG
from actors.hypervisor.engine.keepalive import problems
from actors.hypervisor.libvirt_driver import Connection

MIB = 1 << 20
ARCH = "x86_64"
# The source's libvirtd is a client of the target's: qemu.conf rules its side, libvirtd.conf the other.
CONF_FILES = ("qemu.conf", "libvirtd.conf")


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while libvirtd and this process run."""

    machines: Machines
    cpu_models_usable: frozenset[str]
    accelerator: str
    qemu_version: int
    libvirt_version: int


class Host:
    """Reads the host; keeps what is slow to find out.

    Args:
        connection: to the node's libvirtd.
        conf_dir: where libvirtd's configuration lies.
        probe: tells whether an emulator can use KVM (see `kvm`).
    """

    def __init__(self, connection: Connection, conf_dir: Path, probe: Callable[[str], bool]) -> None:
        self._connection = connection
        self._conf_dir = conf_dir
        self._probe = probe
        self._lock = threading.Lock()
        self._platform: Platform | None = None

    def platform(self) -> Platform:
        """Machine types, CPU models, versions, accelerator; found out once, within seconds."""
        with self._lock:
            if self._platform is None:
                self._platform = self._connection.use(self._read)
            return self._platform

    def _read(self, connection: Any) -> Platform:
        machines = parse_capabilities(connection.getCapabilities(), ARCH)
        accelerator = "kvm" if self._probe(machines.emulator) else "tcg"
        kind = "kvm" if accelerator == "kvm" else "qemu"
        domain_capabilities = connection.getDomainCapabilities(machines.emulator, ARCH, "q35", kind)
        return Platform(
            machines=machines,
            cpu_models_usable=usable_cpu_models(domain_capabilities),
            accelerator=accelerator,
            qemu_version=connection.getVersion(),
            libvirt_version=connection.getLibVersion(),
        )

    def keepalive_problems(self) -> list[str]:
        """Why a stalled link would end a move here; empty when it would not."""
        files = {}
        for name in CONF_FILES:
            path = self._conf_dir / name
            try:
                files[str(path)] = path.read_text(errors="replace")
            except OSError:
                files[str(path)] = ""  # libvirt's default holds: keepalive is on
        return problems(files)

    def warnings(self, platform: Platform) -> list[str]:
        """What an operator should know of this host before guests are moved."""
        found = self.keepalive_problems()
        major = platform.qemu_version // 1_000_000
        if platform.accelerator == "tcg" and major < QEMU_OLDEST_FOR_TCG:
            found.append(
                f"QEMU {major} under emulation (no KVM) loses dirty pages when memory is copied in many rounds: "
                f"moved guests may crash; install QEMU {QEMU_OLDEST_FOR_TCG} or newer"
            )
        return found


def memory_mib() -> tuple[int, int]:
    """The host's memory and what of it is available, MiB."""
    memory = psutil.virtual_memory()
    return memory.total // MIB, memory.available // MIB
