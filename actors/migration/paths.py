"""How a move's memory crosses: coded, or in a datacenter as QEMU's own streams; and accounts of the latter. Pure."""

from collections.abc import Collection
from typing import get_args

import msgspec

from actors.encoding.messages import CodecStats
from actors.hypervisor.messages import MovePath
from actors.transport.messages import Carried, LinkState

PATHS: tuple[MovePath, ...] = get_args(MovePath)
"""What this version can do as a target."""


class Choice(msgspec.Struct, frozen=True):
    """A path and the reason for it, for people."""

    path: MovePath
    reason: str


def choose(link: LinkState, offered: Collection[str]) -> Choice:
    """The path of a move over `link` to a target that offers these; it is kept to the move's end.

    The codec's work is worth it only where the link is slower than the codec.
    """
    how = "forced" if link.mode_forced else "measured"
    if link.mode != "datacenter":
        return Choice("coded", f"the link to {link.peer} is in mode {link.mode}, {how}")
    if "native" not in offered:
        return Choice("coded", f"the link to {link.peer} is in mode datacenter, but {link.peer} is too old for more")
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
