"""What this machine must have before a lab can be built, and which link emulator it can run."""

import os
import shutil
from pathlib import Path
from typing import Literal

from actors.errors import Failed, SetupMissing
from actors.lab.namespace import run
from actors.lab.plan import Emulator

_TOOLS = ("ip", "nsenter", "unshare", "setpriv", "setsid", "tini", "mount", "libvirtd", "qemu-system-x86_64")
_PROBE_S = 10.0


def check_machine() -> None:
    """Check that this process may and can build a lab.

    Raises:
        SetupMissing: says what is missing, root first.
    """
    if os.geteuid() != 0:
        raise SetupMissing(what="root, for network namespaces and mounts")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise SetupMissing(what=f"programs that are not installed: {', '.join(missing)}")


def choose_emulator(wanted: Literal["auto", "wanlink", "netem"]) -> Emulator:
    """The emulator to use; `auto` prefers wanlink, which behaves and counts alike on every kernel.

    Raises:
        SetupMissing: neither, or not the wanted one, can run here.
    """
    if wanted in ("auto", "wanlink") and has_wanlink():
        return "wanlink"
    if wanted in ("auto", "netem") and has_netem():
        return "netem"
    needs = {
        "wanlink": "gcc and /dev/net/tun",
        "netem": "a kernel with the netem queueing discipline, tc and nft",
        "auto": "gcc and /dev/net/tun, or a kernel with netem,",
    }
    raise SetupMissing(what=f"{needs[wanted]} for the emulated line")


def has_wanlink() -> bool:
    """True when the user-space emulator can be built and run."""
    return Path("/dev/net/tun").exists() and (shutil.which("gcc") or shutil.which("cc")) is not None


def has_netem() -> bool:
    """True when this kernel takes a netem, tried in a network namespace that ends with the trial."""
    if shutil.which("tc") is None or shutil.which("nft") is None:
        return False
    try:
        run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], _PROBE_S)
    except Failed:
        return False
    return True
