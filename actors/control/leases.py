"""Lease arithmetic for both ends, pure: every time is of the caller's own clock (CLOCK_BOOTTIME), in milliseconds.

The holder counts from when it *sent* a renewal, everybody else from when they *applied* it, which is later; so who
leads, and whether that changes, plays no part. docs/control.md has the proof.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from actors.control.commands import ExpireLease
from actors.control.decision import Event
from actors.control.model import ControlState, Lease, LeaseState, Terms

PPM = 1_000_000


def wait_ms(terms: Terms) -> int:
    """How long a member must have seen no renewal before the holder has surely paused: D · (1 + ρ) / (1 − ρ), rounded
    up."""
    return terms.duration_ms * (PPM + terms.drift_ppm) // (PPM - terms.drift_ppm) + 1


class Hold(StrEnum):
    """What the holder does with its guests now."""

    RUN = "run"
    PAUSE = "pause"
    """Pause every guest at once, and resume none until a lease is held again and says so."""


class Holder:
    """The holding end: a node's agent, or the keeper that pauses its guests when the agent can't.

    It begins paused. `acquiring()` and `renewing()` are called *before* the request leaves; `granted()` when the answer
    is there, however late. A request that is sent again under the same number counts from when it was first sent.
    """

    def __init__(self) -> None:
        self.number = 0
        self.renewal = 0
        self._terms: Terms | None = None
        self._sent: dict[tuple[int, int], float] = {}
        self._counts_from = 0.0

    def acquiring(self, after: int, now_ms: float) -> None:
        """A lease in place of `after` is being asked for."""
        self._sent.setdefault((after, -1), now_ms)

    def renewing(self, now_ms: float) -> int:
        """A renewal is being asked for; its number."""
        self._sent.setdefault((self.number, self.renewal + 1), now_ms)
        return self.renewal + 1

    def acquired(self, after: int, lease: Lease) -> None:
        """The lease was granted."""
        self._grant((after, -1), lease)

    def renewed(self, lease: Lease) -> None:
        """The renewal was granted."""
        self._grant((lease.number, lease.renewal), lease)

    def lost(self) -> None:
        """The control state says that this lease is over, or the holder gives it up."""
        self._terms = None
        self._sent.clear()

    def hold(self, now_ms: float) -> Hold:
        """What to do now."""
        end = self.pause_at_ms()
        return Hold.RUN if end is not None and now_ms < end else Hold.PAUSE

    def pause_at_ms(self) -> float | None:
        """When to begin to pause: a figure that a keeper in another process of the same boot can be told. None: now."""
        if self._terms is None:
            return None
        if self._terms.takeover == "operator":
            return float("inf")
        return self._counts_from + self._terms.duration_ms - self._terms.pause_ms

    def _grant(self, key: tuple[int, int], lease: Lease) -> None:
        sent = self._sent.get(key)
        if sent is None or lease.state is not LeaseState.ACTIVE:
            return
        self.number, self.renewal, self._terms, self._counts_from = lease.number, lease.renewal, lease.terms, sent
        self._sent.clear()


class _Seen(NamedTuple):
    lease: Lease
    at_ms: float


class Book(msgspec.Struct):
    """The other end: when this member applied each node's newest renewal. Every member keeps one.

    `begin()` after a start or a snapshot counts all leases from then on, since nothing older is known for certain.
    """

    _seen: dict[str, _Seen] = {}

    def begin(self, state: ControlState, now_ms: float) -> None:
        """Count every active lease from now on."""
        active = (lease for lease in state.leases.values() if lease.state is LeaseState.ACTIVE)
        self._seen = {lease.node: _Seen(lease, now_ms) for lease in active}

    def applied(self, event: Event, now_ms: float) -> None:
        """Take note of a change, at the time when it was applied here or later."""
        if event.table != "leases":
            return
        if isinstance(event.record, Lease) and event.record.state is LeaseState.ACTIVE:
            self._seen[event.key] = _Seen(event.record, now_ms)
        else:
            self._seen.pop(event.key, None)

    def due(self, now_ms: float) -> list[ExpireLease]:
        """What this member may say now: in Raft the leader proposes it, in BFT each signs it (`attest.py`)."""
        commands = (self._expiry(seen, now_ms) for _, seen in sorted(self._seen.items()))
        return [command for command in commands if command is not None]

    def _expiry(self, seen: _Seen, now_ms: float) -> ExpireLease | None:
        waited, terms = int(now_ms - seen.at_ms), seen.lease.terms
        if terms.takeover == "operator" or waited < wait_ms(terms):
            return None
        return ExpireLease(
            node=seen.lease.node,
            number=seen.lease.number,
            renewal=seen.lease.renewal,
            waited_ms=waited,
            drift_ppm=terms.drift_ppm,
        )
