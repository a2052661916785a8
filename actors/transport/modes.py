"""Which mode a link is in: datacenter, hybrid or internet. Pure: one call per second.

``datacenter``: round trip below 10 ms and more than 1 Gbit/s. ``internet``: above 50 ms or less than 1 Gbit/s.
``hybrid``: between. A capacity that nobody knows (the link never was full, and none is configured) proves nothing: such
a link is never `datacenter`, and `internet` only by its round trip.
"""

from collections import deque
from typing import Literal, get_args

import msgspec

Mode = Literal["datacenter", "hybrid", "internet"]
MODES: tuple[Mode, ...] = get_args(Mode)
CapacitySource = Literal["configured", "measured", "unknown"]

SAMPLES = 10
FIRST_SAMPLES = 3
"""Enough for the first decision."""
DWELL_S = 10.0
NEAR_MS, FAR_MS = 10.0, 50.0
GIGABIT_BYTES_PER_S = 125e6
SLACK = 0.2
"""A mode is left only when its limit is exceeded by this share."""
CAPACITY_KEPT = 600
"""Busy seconds whose fastest is the measured capacity."""


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """The mode changed at `at` (Unix time), and why: 'forced', or the smoothed measurements."""

    at: float
    before: Mode
    after: Mode
    reason: str


class ModeDetector:
    """The mode of one link.

    Args:
        forced: a mode that measurements don't change.
        capacity_bytes_per_s: as configured; 0: unknown.
    """

    def __init__(self, forced: Mode | None, capacity_bytes_per_s: float) -> None:
        self.forced = forced
        self.mode: Mode = forced or "hybrid"
        self._configured = capacity_bytes_per_s
        self._rtts_ms: deque[float] = deque(maxlen=SAMPLES)
        self._rates: deque[float] = deque(maxlen=CAPACITY_KEPT)
        self._switched_s: float | None = None

    @property
    def capacity_bytes_per_s(self) -> float:
        """What the link can carry: as configured, else the fastest second in which it was full; 0: unknown."""
        return self._configured or max(self._rates, default=0.0)

    @property
    def capacity_source(self) -> CapacitySource:
        """Where the capacity comes from."""
        return "configured" if self._configured else "measured" if self._rates else "unknown"

    @property
    def rtt_ms(self) -> float:
        """Mean of the last `SAMPLES` round trips; 0 before any."""
        return sum(self._rtts_ms) / len(self._rtts_ms) if self._rtts_ms else 0.0

    def force(self, mode: Mode | None, at: float) -> Switch | None:
        """Be `mode` whatever is measured; None: measurements decide again. Gives the switch, if it is one."""
        self.forced = mode
        if mode is None or mode == self.mode:
            return None
        return self._switch(mode, at, "forced")

    def observe(self, at: float, rtt_ms: float, full_bytes_per_s: float) -> Switch | None:
        """One second has passed.

        Args:
            at: Unix time.
            rtt_ms: 0 when nothing came back.
            full_bytes_per_s: what the link carried if it was full all the time, else 0.
        """
        if rtt_ms > 0:
            self._rtts_ms.append(rtt_ms)
        if full_bytes_per_s > 0:
            self._rates.append(full_bytes_per_s)
        if self.forced is not None or len(self._rtts_ms) < FIRST_SAMPLES:
            return None
        if self._switched_s is not None and 0 <= at - self._switched_s < DWELL_S:
            return None
        found = self._judge()
        if found == self.mode:
            return None
        capacity = f"{self.capacity_bytes_per_s / 125_000:.0f} Mbit/s, {self.capacity_source}"
        return self._switch(found, at, f"round trip {self.rtt_ms:.1f} ms, capacity {capacity}")

    def _judge(self) -> Mode:
        known, capacity = self.capacity_source != "unknown", self.capacity_bytes_per_s
        # The mode it is in gets the slack on its side.
        near_ms = NEAR_MS * (1 + SLACK if self.mode == "datacenter" else 1)
        fast = GIGABIT_BYTES_PER_S * (1 - SLACK if self.mode == "datacenter" else 1)
        far_ms = FAR_MS * (1 - SLACK if self.mode == "internet" else 1)
        slow = GIGABIT_BYTES_PER_S * (1 + SLACK if self.mode == "internet" else 1)
        if self.rtt_ms < near_ms and known and capacity > fast:
            return "datacenter"
        if self.mode == "datacenter":
            slow *= 1 - SLACK
        if self.rtt_ms > far_ms or (known and capacity < slow):
            return "internet"
        return "hybrid"

    def _switch(self, mode: Mode, at: float, reason: str) -> Switch:
        switch = Switch(at=at, before=self.mode, after=mode, reason=reason)
        self.mode, self._switched_s = mode, at
        return switch
