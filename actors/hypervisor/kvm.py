"""Is KVM worth using on this host? That /dev/kvm opens proves nothing: a firmware is booted under it once.

Some hosts offer a KVM that works and is twenty times slower than emulation (nested, every exit emulated): there a
guest under it would hardly boot. So both are timed, one after the other, on whatever else the host has to do.
"""

import os
import selectors
import subprocess
import time
from pathlib import Path

import msgspec

from actors.files import write_atomically

# SeaBIOS says this on its debug port when it has come all the way through.
_BOOTED = b"No bootable device"
_DEBUG_PORT = "0x402"
_EMULATED_S_MAX = 5.0
_SLOWER_AT_MOST, _MARGIN_S = 2.0, 0.5


class _Found(msgspec.Struct, frozen=True):
    """What was found, and on what: another QEMU or a reboot asks for a new probe."""

    usable: bool
    boot_id: str
    emulator: str
    emulator_mtime_ns: int


def remembered(emulator: str, memory: Path) -> bool:
    """`usable`, asked once per boot and version of the emulator; the answer is kept in the file `memory`."""
    try:
        known = msgspec.json.decode(memory.read_bytes(), type=_Found)
    except (OSError, msgspec.DecodeError):
        known = None
    try:
        mtime_ns = Path(emulator).stat().st_mtime_ns
    except OSError:
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if known is not None and (known.boot_id, known.emulator, known.emulator_mtime_ns) == (boot_id, emulator, mtime_ns):
        return known.usable
    found = _Found(usable(emulator), boot_id, emulator, mtime_ns)
    write_atomically(memory, msgspec.json.encode(found))
    return found.usable


def usable(emulator: str) -> bool:
    """True when a firmware boots under KVM about as fast as emulated. Blocking, seconds; ask once, keep the answer."""
    if not emulator or not os.access("/dev/kvm", os.R_OK | os.W_OK) or not Path(emulator).exists():
        return False
    emulated_s = _boot_s(emulator, "tcg", "qemu64", _EMULATED_S_MAX)
    limit_s = _EMULATED_S_MAX if emulated_s is None else emulated_s * _SLOWER_AT_MOST + _MARGIN_S
    return _boot_s(emulator, "kvm", "host", limit_s) is not None


def _boot_s(emulator: str, accelerator: str, cpu: str, limit_s: float) -> float | None:
    """Seconds until the firmware has run; None when it has not within `limit_s`."""
    command = [
        emulator, "-machine", f"q35,accel={accelerator}", "-cpu", cpu, "-m", "32", "-nodefaults", "-no-user-config",
        "-display", "none", "-chardev", "stdio,id=debug", "-device", f"isa-debugcon,iobase={_DEBUG_PORT},chardev=debug",
    ]  # fmt: skip
    begun = time.monotonic()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as probe:
        try:
            return time.monotonic() - begun if _says(probe, _BOOTED, begun + limit_s) else None
        finally:
            probe.kill()


def _says(probe: "subprocess.Popen[bytes]", text: bytes, until: float) -> bool:
    assert probe.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(probe.stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if not selector.select(left):
                return False
            piece = os.read(probe.stdout.fileno(), 65536)
            if not piece:
                return False
            said += piece
            if text in said:
                return True
    return False
