"""What really happened, as somebody outside of NovaCron saw it: when each QEMU executed its guest, and what was told.

All times are Unix milliseconds of one clock: every node of a lab is on one machine.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from actors.control.messages import TrailEntry

Kind = Literal["resume", "stop", "gone", "booted"]
NEVER = float("inf")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a guest's QEMU on `node`.

    `resume`, `stop`: its CPUs execute, or not any more, at the time that QEMU itself told. `gone`: its process has
    ended, some moment before `at_ms`. `booted`: it was started from nothing, neither restored nor moved in.
    """

    node: str
    guest: str
    kind: Kind
    at_ms: float


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A guest executed on `node` from `begin_ms` to `end_ms` (`NEVER`: it still did). `exact`: QEMU itself told the
    end; else it may have been earlier."""

    node: str
    guest: str
    begin_ms: float
    end_ms: float
    exact: bool = True


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A command that was acknowledged to a client. `revision`: 0 where the answer did not say it."""

    command: str
    subject: str
    revision: int = 0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a move ended, by the word of its manager."""

    job: str
    guest: str
    completed: bool
    owner: str


class History(msgspec.Struct, frozen=True, kw_only=True):
    """All of one run. `trails`: the audit trail as each site's member gave it, whole."""

    seen: list[Seen]
    trails: dict[str, list[TrailEntry]]
    told: list[Told] = []
    ended: list[Ended] = []


def spans(seen: Iterable[Seen]) -> list[Span]:
    """When which guest executed where. QEMU tells every start and every stop; what it could not tell is `gone`."""
    open_: dict[tuple[str, str], float] = {}
    found: list[Span] = []
    for event in sorted(seen, key=lambda one: one.at_ms):
        key = event.node, event.guest
        if event.kind == "resume":
            open_.setdefault(key, event.at_ms)
        elif event.kind in ("stop", "gone") and key in open_:
            begin_ms = open_.pop(key)
            exact = event.kind == "stop"
            found.append(Span(node=key[0], guest=key[1], begin_ms=begin_ms, end_ms=event.at_ms, exact=exact))
    found += [Span(node=node, guest=guest, begin_ms=at, end_ms=NEVER) for (node, guest), at in open_.items()]
    return sorted(found, key=lambda one: one.begin_ms)
