"""The measurements of one link: a sample per second for ten minutes. Pure: the caller brings times and counters."""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec

from actors.transport.messages import LinkSample

SAMPLES_KEPT = 600
_JITTER_SHARE = 1 / 16
"""Weight of the newest difference between two round trips, as in RFC 3550."""


class TcpCounters(msgspec.Struct, frozen=True):
    """What the kernel counted for one connection, TLS and retransmissions included; bytes, and segments sent (again).

    `rtt_s`: its smoothed round trip, which leaves out what our own data wait before they are sent; 0: unknown.
    `starved`: it had nothing to send where it could have sent.
    """

    sent_bytes: int = 0
    acked_bytes: int = 0
    retransmits: int = 0
    segments: int = 0
    rtt_s: float = 0.0
    starved: bool = False


class Metered(Protocol):
    """What the meter needs of a connection."""

    last_counters: TcpCounters
    round_trips: deque[tuple[float, float]]

    def counters(self) -> TcpCounters:
        """The kernel's counters now."""


class LinkMeter:
    """Turns counters of connections that come and go into one `LinkSample` per second."""

    def __init__(self) -> None:
        self._samples: deque[LinkSample] = deque(maxlen=SAMPLES_KEPT)
        self._sent_bytes = 0
        self._acked_bytes = 0
        self._segments = 0
        self._retransmits = 0
        self._waits_since: float | None = None
        self._waited_s = 0.0
        self._last_tick: float | None = None
        self._jitter_s = 0.0
        self._last_trip_s: float | None = None

    def connection_closed(self, connection: Metered) -> None:
        """Keep what `connection` counted since the last tick."""
        self._count(connection)

    def pressure(self, now_s: float, *, waits: bool) -> None:
        """From `now_s` (monotonic) on data waits for the network, or does not."""
        if waits and self._waits_since is None:
            self._waits_since = now_s
        elif not waits and self._waits_since is not None:
            self._waited_s += now_s - self._waits_since
            self._waits_since = None

    def tick(
        self, at: float, now_s: float, connections: Iterable[Metered], fresh_s: float, congestion: str = ""
    ) -> LinkSample:
        """Close a second: `at` Unix time, `now_s` monotonic; round trips older than `fresh_s` no longer count."""
        trips: list[float] = []
        for connection in connections:
            self._count(connection)
            if connection.round_trips and now_s - connection.round_trips[-1][0] <= fresh_s:
                trips.append(connection.round_trips[-1][1])
                if connection.last_counters.rtt_s:
                    trips.append(connection.last_counters.rtt_s)
        # The least of all connections: the others' pings waited behind their own data.
        trip_s = min(trips, default=0.0)
        if trips and self._last_trip_s is not None:
            self._jitter_s += (abs(trip_s - self._last_trip_s) - self._jitter_s) * _JITTER_SHARE
        self._last_trip_s = trip_s if trips else self._last_trip_s
        sample = LinkSample(
            at=at,
            rtt_ms=round(trip_s * 1000, 3),
            jitter_ms=round(self._jitter_s * 1000, 3),
            sent_bytes=self._sent_bytes,
            acked_bytes=self._acked_bytes,
            busy_share=self._busy_share(now_s),
            retransmits=self._retransmits,
            loss=round(min(1.0, self._retransmits / self._segments), 6) if self._segments else 0.0,
            congestion=congestion,
        )
        self._sent_bytes = self._acked_bytes = self._segments = self._retransmits = 0
        self._samples.append(sample)
        return sample

    def samples(self, after: float) -> list[LinkSample]:
        """The samples later than Unix time `after`, oldest first."""
        return [sample for sample in self._samples if sample.at > after]

    def _count(self, connection: Metered) -> None:
        now, last = connection.counters(), connection.last_counters
        connection.last_counters = now
        self._sent_bytes += max(0, now.sent_bytes - last.sent_bytes)
        self._acked_bytes += max(0, now.acked_bytes - last.acked_bytes)
        self._segments += max(0, now.segments - last.segments)
        self._retransmits += max(0, now.retransmits - last.retransmits)

    def _busy_share(self, now_s: float) -> float:
        if self._waits_since is not None:
            self._waited_s += now_s - self._waits_since
            self._waits_since = now_s
        elapsed_s = now_s - self._last_tick if self._last_tick is not None else 1.0
        self._last_tick = now_s
        waited_s, self._waited_s = self._waited_s, 0.0
        return round(min(1.0, waited_s / elapsed_s), 4) if elapsed_s > 0 else 0.0
