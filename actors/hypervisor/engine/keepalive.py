"""libvirt's keepalive must be off between the two libvirtd of a move: a WAN may stall longer than it waits."""

import re

_SETTING = re.compile(r"^\s*keepalive_interval\s*=\s*(-?\d+)\s*(?:#.*)?$", re.MULTILINE)
# What libvirtd does when the file says nothing.
_DEFAULT_S = 5


def interval_s(text: str) -> int:
    """The keepalive interval that a libvirtd.conf or qemu.conf sets, in seconds; <= 0 is off."""
    found = _SETTING.findall(text)
    return int(found[-1]) if found else _DEFAULT_S


def problems(files: dict[str, str]) -> list[str]:
    """One sentence for each of {path: content} that leaves keepalive on."""
    return [
        f"{path} has keepalive_interval = {interval_s(text)}: set it to -1 and restart libvirtd, "
        "or a stalled link ends a move"
        for path, text in sorted(files.items())
        if interval_s(text) > 0
    ]
