"""Can this host run guests under KVM? That /dev/kvm opens proves nothing: a firmware is booted under it once."""

import os
import selectors
import subprocess
import time
from pathlib import Path

# SeaBIOS says this on its debug port when it has come all the way through; under emulation in a quarter of a second.
_BOOTED = b"No bootable device"
_DEBUG_PORT = "0x402"
_DEADLINE_S = 6.0


def usable(emulator: str) -> bool:
    """True when a firmware boots under KVM within seconds. Blocking; ask once and keep the answer."""
    if not emulator or not os.access("/dev/kvm", os.R_OK | os.W_OK) or not Path(emulator).exists():
        return False
    command = [
        emulator, "-machine", "q35,accel=kvm", "-cpu", "host", "-m", "32", "-nodefaults", "-no-user-config",
        "-display", "none", "-chardev", "stdio,id=debug", "-device", f"isa-debugcon,iobase={_DEBUG_PORT},chardev=debug",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as probe:
        try:
            return _says(probe, _BOOTED)
        finally:
            probe.kill()


def _says(probe: "subprocess.Popen[bytes]", text: bytes) -> bool:
    assert probe.stdout is not None
    until, said = time.monotonic() + _DEADLINE_S, b""
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
