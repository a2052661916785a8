"""How a move's memory crosses: coded, or in a datacenter as QEMU's own streams; and accounts of the latter. Pure."""

from collections.abc import Collection

import msgspec

from actors.encoding.messages import CodecStats
from actors.hypervisor.messages import MovePath
from actors.transport.messages import Carried, LinkState

PARALLEL_QEMU = 8
"""Major version of QEMU from which on both ends agree on a move's connections by what they say, not by their order.

Channels overtake each other.
"""


class Choice(msgspec.Struct, frozen=True):
    """A path and the reason for it, for people. `plain`: the codec, if it is on the path, passes everything through."""

    path: MovePath
    reason: str
    plain: bool = False


def offered(qemu_version: str) -> tuple[MovePath, ...]:
    """The paths by which a guest can come to a node with this QEMU or leave it ('' for an unknown one)."""
    major = qemu_version.partition(".")[0]
    return ("coded", "native") if major.isdecimal() and int(major) >= PARALLEL_QEMU else ("coded",)


def choose(link: LinkState, there: Collection[str], here: Collection[str], *, codec: bool = True) -> Choice:
    """The path of a move over `link`, of those that the target (`there`) and the source offer; it is kept to the end.

    The codec's work is worth it only where the link is slower than the codec. `codec`: false where HDE is switched off.
    """
    if not codec:
        off = "HDE is switched off for it by its rollout flag"
        if "native" in there and "native" in here:
            return Choice("native", off)
        return Choice("coded", f"{off}, and the native path is not known at both ends: raw", plain=True)
    how = "forced" if link.mode_forced else "measured"
    if link.mode != "datacenter":
        return Choice("coded", f"the link to {link.peer} is in mode {link.mode}, {how}")
    for node, paths in ((link.peer, there), (link.node, here)):
        if "native" not in paths:
            reason = f"the link to {link.peer} is in mode datacenter, but {node} does not know the native path"
            return Choice("coded", f"{reason} (an older NovaCron, or a QEMU older than {PARALLEL_QEMU})")
    return Choice("native", f"the link to {link.peer} is in mode datacenter, {how}")


def departed(job: str, carried: Carried) -> CodecStats:
    """The source's account of a native move: what QEMU wrote is what crosses. Pages and device state are one."""
    return _account(job, carried.taken_bytes, carried.taken_at)


def arrived(job: str, carried: Carried) -> CodecStats:
    """The target's account of a native move."""
    return _account(job, carried.given_bytes, carried.given_at)


def _account(job: str, count_bytes: int, last_at: float) -> CodecStats:
    return CodecStats(
        job=job, state="running", stream_bytes=count_bytes, wire_bytes=count_bytes, pages_at=last_at, last_at=last_at
    )
