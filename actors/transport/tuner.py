"""How many connections a link should have, found out while it carries data. Pure: one call per second.

Hill climbing on goodput: from a steady state another number is tried; it stays if it carries clearly more (going up) or
hardly less while packets are being lost (going down), else the old number comes back and the next trial of that kind
waits twice as long. Seconds in which the link was not the bottleneck say nothing and are left out.
"""

from math import ceil

MEASURE_S = 3
"""Busy seconds that one mean is taken over."""
SETTLE_S = 2
"""Seconds after a change that are not looked at: connections start slowly."""
GAIN = 1.08
"""More connections must carry this much more."""
LEAP = 1.3
"""After such a gain the number doubles; after a smaller one it grows by half."""
KEEP = 0.98
"""Fewer connections may carry this little."""
LOSSY = 0.001
"""Share of segments sent again from which fewer connections are tried."""
CHANGED = 0.6
"""A steady state that falls to this share of itself is another link: what was learned no longer holds."""
PATIENCE_S = (8, 128)
"""First and longest wait after a failed trial."""


class StreamTuner:
    """The number of connections of one link.

    Args:
        streams: to begin with.
        least, most: bounds, both at least 1.
    """

    def __init__(self, streams: int, least: int, most: int) -> None:
        self._least, self._most = least, most
        self.streams = self._bounded(streams)
        self._wait_s: dict[int, int] = {}
        self._restart()

    def hint(self, streams: int) -> None:
        """Start again from `streams`."""
        self.streams = self._bounded(streams)
        self._restart()

    def bound(self, least: int, most: int) -> None:
        """Keep within other bounds."""
        assert 1 <= least <= most
        if (least, most) != (self._least, self._most):
            self._least, self._most = least, most
            self.hint(self.streams)

    def tick(self, goodput_bytes_per_s: float, resent_share: float, *, busy: bool) -> int:
        """One second has passed; returns the number of connections to have from now on.

        Args:
            goodput_bytes_per_s: acknowledged in that second.
            resent_share: segments sent again ÷ sent.
            busy: data waited for the link.
        """
        self._wait_s = {way: max(0, wait_s - 1) for way, wait_s in self._wait_s.items()}
        if not busy:
            return self.streams
        if self._settle_s:
            self._settle_s -= 1
            return self.streams
        self._measured.append((goodput_bytes_per_s, resent_share))
        if len(self._measured) == MEASURE_S:
            goodput = sum(each[0] for each in self._measured) / MEASURE_S
            resent = sum(each[1] for each in self._measured) / MEASURE_S
            self._measured.clear()
            self._judge(goodput, resent)
        return self.streams

    def _restart(self) -> None:
        self._before: tuple[int, float] | None = None
        """(connections, goodput) before the trial under way."""
        self._base = 0.0
        self._measured: list[tuple[float, float]] = []
        self._settle_s = SETTLE_S
        self._patience_s = {1: PATIENCE_S[0], -1: PATIENCE_S[0]}
        self._wait_s = {1: 0, -1: 0}

    def _judge(self, goodput: float, resent_share: float) -> None:
        if self._before is None:
            if goodput < CHANGED * self._base:
                self._restart()
            self._base = goodput
            self._try(goodput, LEAP, resent_share)
            return
        streams, base = self._before
        way = 1 if self.streams > streams else -1
        self._before = None
        if goodput >= base * (GAIN if way > 0 else KEEP):
            self._base = goodput
            self._patience_s[way] = PATIENCE_S[0]
            self._try(goodput, goodput / base if way > 0 else 1.0, resent_share)
            return
        self.streams, self._settle_s, self._base = streams, SETTLE_S, base
        self._wait_s[way] = self._patience_s[way]
        self._patience_s[way] = min(2 * self._patience_s[way], PATIENCE_S[1])

    def _try(self, goodput: float, gain: float, resent_share: float) -> None:
        """Begin a trial if one is due."""
        up = self._bounded(2 * self.streams if gain >= LEAP else ceil(1.5 * self.streams))
        down = self._bounded(2 * self.streams // 3)
        if up > self.streams and not self._wait_s[1]:
            tried = up
        elif down < self.streams and not self._wait_s[-1] and resent_share >= LOSSY:
            tried = down
        else:
            return
        self._before = (self.streams, goodput)
        self.streams, self._settle_s = tried, SETTLE_S

    def _bounded(self, streams: int) -> int:
        return max(self._least, min(streams, self._most))
