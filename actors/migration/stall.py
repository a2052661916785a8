"""What would help a move that gets nowhere. Pure."""

import math

import msgspec

from actors.hypervisor.messages import Switchover

_STEP_MS = 50


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """A move that brought no progress for two rounds, and what would let it converge; any one is enough.

    `pause_ms`: such a pause budget; `writes_share`: the guest slowed to this share of its writes; `link_bytes_per_s`:
    so much of the link for this move, 0 where more of it would not help.
    """

    pause_ms: int
    writes_share: float
    link_bytes_per_s: float

    def __str__(self) -> str:
        helps = [
            f"a pause of {self.pause_ms} ms (novacron migrations set ID --pause-ms {self.pause_ms})",
            f"a guest that writes {self.writes_share:.0%} of what it does now",
        ]
        if self.link_bytes_per_s:
            helps.append(
                f"{self.link_bytes_per_s * 8 / 1e6:.0f} Mbit/s for this move alone (cap what else uses the link)"
            )
        return f"The guest changes memory faster than it can be sent. One of these would help: {'; '.join(helps)}."


def stall_of(seen: Switchover) -> Stall | None:
    """The stall that the source sees, None when there is none."""
    if not seen.stalled or seen.needed_ms < 0:
        return None
    fits_share = min(1.0, seen.fitting_bytes / seen.needed_bytes) if seen.needed_bytes else 1.0
    pause_ms = math.ceil(seen.needed_ms * 1.25 / _STEP_MS) * _STEP_MS
    more = seen.link_limited and fits_share > 0
    return Stall(
        pause_ms=max(pause_ms, seen.budget_ms + _STEP_MS),
        writes_share=max(0.01, round(fits_share, 2)),
        link_bytes_per_s=seen.link_bytes_per_s / fits_share if more else 0.0,
    )
