"""Pure: from the monitor events of both hypervisors to the pause that a guest really had."""

from collections.abc import Sequence
from typing import Final

import msgspec

STOP: Final = "STOP"
RESUME: Final = "RESUME"
MIGRATION: Final = "MIGRATION"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a guest's QEMU on `node`. `at` is QEMU's own time stamp, Unix seconds; `details` its JSON or ''."""

    node: str
    event: str
    at: float
    details: str = ""


class Switchover(msgspec.Struct, frozen=True, kw_only=True):
    """When the guest stopped at the source and when its first instruction ran at the target, Unix seconds."""

    stopped_at: float
    resumed_at: float

    @property
    def pause_ms(self) -> float:
        """How long no host ran the guest."""
        return (self.resumed_at - self.stopped_at) * 1000


def switchover(events: Sequence[Seen], source: str, target: str) -> Switchover | None:
    """The switch from `source` to `target` in the events of one move, in any order; None if it did not happen.

    A source may stop and resume more than once, when QEMU misjudged what was left: its last stop counts.
    """
    resumed = min((seen.at for seen in events if seen.node == target and seen.event == RESUME), default=None)
    if resumed is None:
        return None
    stops = [seen.at for seen in events if seen.node == source and seen.event == STOP and seen.at <= resumed]
    return Switchover(stopped_at=max(stops), resumed_at=resumed) if stops else None


def completed_at(events: Sequence[Seen], node: str) -> float | None:
    """When the QEMU on `node` said that its migration had completed, Unix seconds."""
    found = (
        seen.at for seen in events if seen.node == node and seen.event == MIGRATION and _status(seen) == "completed"
    )
    return min(found, default=None)


def _status(seen: Seen) -> str:
    try:
        return str(msgspec.json.decode(seen.details, type=dict[str, object]).get("status", ""))
    except msgspec.MsgspecError:
        return ""
