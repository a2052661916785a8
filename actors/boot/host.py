"""What this host offers: read once, before anything is started."""

import fcntl
import os
from pathlib import Path

import msgspec

_KVM_GET_API_VERSION = 0xAE00
_KVM_API_VERSION = 12


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of this host. `cpus`: those this process may run on; `cpu_flags` says what a guest's CPU model can ask for.

    `accelerator`: ``kvm`` if it can really be used, else ``tcg`` with `kvm_problem` saying why. `congestion`: the TCP
    congestion controls that the kernel has now; ones in modules that nobody loaded yet are not among them.
    """

    cpus: int
    cpu_flags: frozenset[str]
    memory_mib: int
    available_mib: int
    accelerator: str
    kvm_problem: str
    congestion: frozenset[str]


def detect_host(root: Path = Path("/")) -> Host:
    """The facts of this host; `root` stands for ``/`` in tests. What can't be read counts as absent."""
    memory = memory_mib(_text(root / "proc/meminfo"))
    problem = kvm_problem(root / "dev/kvm")
    return Host(
        cpus=len(os.sched_getaffinity(0)),
        cpu_flags=cpu_flags(_text(root / "proc/cpuinfo")),
        memory_mib=memory.get("MemTotal", 0),
        available_mib=memory.get("MemAvailable", 0),
        accelerator="tcg" if problem else "kvm",
        kvm_problem=problem,
        congestion=frozenset(_text(root / "proc/sys/net/ipv4/tcp_available_congestion_control").split()),
    )


def memory_mib(meminfo: str) -> dict[str, int]:
    """MiB by key from the text of ``/proc/meminfo``; lines that are not ``Key: N kB`` are left out."""
    found = {}
    for line in meminfo.splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[0].isdecimal() and words[1] == "kB":
            found[key] = int(words[0]) // 1024
    return found


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Flags that every CPU in the text of ``/proc/cpuinfo`` has (x86 calls them flags, ARM features)."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    each = [frozenset(value.split()) for key, _, value in lines if key.strip() in {"flags", "Features"}]
    return frozenset.intersection(*each) if each else frozenset()


def kvm_problem(device: Path) -> str:
    """Why KVM can't be used through `device`, or '' if it can. That the file exists proves nothing: KVM is asked."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{device}: {error.strerror}"
    try:
        version = fcntl.ioctl(handle, _KVM_GET_API_VERSION)
    except OSError as error:
        return f"{device} does not answer: {error.strerror}"
    finally:
        os.close(handle)
    return "" if version == _KVM_API_VERSION else f"{device} speaks version {version}, not {_KVM_API_VERSION}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
