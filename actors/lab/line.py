"""What every link emulator offers: one WAN line whose behaviour can be changed while it runs, with counters."""

from typing import Literal, Protocol

import msgspec

State = Literal["pass", "hole", "cut"]
Direction = Literal["both", "ab", "ba"]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a line: how it behaves now and what it has carried.

    `in_*` is what was offered to the line, `out_*` what came out at the far end (bytes of IP packets, without any link
    layer's header). Lost are: `lost_packets` at random, `queue_drops` because the queue was full, `hole_drops` and
    `cut_drops` while the direction was black-holed or cut.
    """

    rate_bps: int
    delay_us: int
    jitter_us: int
    loss_ppm: int
    queue_bytes: int
    state: State
    queued_bytes: int
    in_packets: int
    in_bytes: int
    out_packets: int
    out_bytes: int
    lost_packets: int
    queue_drops: int
    hole_drops: int
    cut_drops: int


class LineState(msgspec.Struct, frozen=True, kw_only=True):
    """Both directions of a line; `ab` goes from the first site of the link to the second."""

    ab: Way
    ba: Way


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to change on a line; None leaves a value as it is. Values are those of each chosen direction.

    `state`: `pass` lets packets through, `hole` drops them silently, `cut` refuses them so that senders notice at once.
    """

    direction: Direction = "both"
    rate_bps: int | None = None
    delay_us: int | None = None
    jitter_us: int | None = None
    loss_ppm: int | None = None
    queue_bytes: int | None = None
    state: State | None = None

    def directions(self) -> list[Literal["ab", "ba"]]:
        """The directions that this change is about."""
        if self.direction == "both":
            return ["ab", "ba"]
        return [self.direction]

    def values(self) -> dict[str, int]:
        """The numbers that are to be changed, by name, without `state`."""
        names = ("rate_bps", "delay_us", "jitter_us", "loss_ppm", "queue_bytes")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Line(Protocol):
    """One running line."""

    def change(self, change: Change) -> None:
        """Apply `change` now; packets on the way keep the times they already have."""

    def state(self) -> LineState:
        """How the line behaves, and its counters."""
