"""What a move costs: bytes, seconds, money and the pause, by a model fitted to receipts of moves that were made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

GIB = 1 << 30
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Receipt:
    """A move that was made: its guest's memory, the bytes that crossed, seconds in all, and the guest's pause."""

    mib: float
    wire_bytes: float
    total_s: float
    pause_s: float


PUBLISHED = (
    Receipt(1024, 56.4e6, 12.8, 0.266),
    Receipt(1024, 21.6e6, 12.4, 0.381),
    Receipt(1024, 55e6, 14.0, 0.251),
    Receipt(1024, 19e6, 10.5, 0.268),
    Receipt(1024, 55e6, 15.2, 0.292),
    Receipt(4096, 115 * _MIB, 21.6, 0.397),
)
"""From docs/benchmarks.md: coded moves over 100 Mbit/s and 50 ms, image known or visited before, light load."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A move takes ``fixed_s + s_per_gib * GiB + wire_share * bytes / rate`` and pauses the guest `pause_s`."""

    fixed_s: float
    s_per_gib: float
    wire_share: float
    pause_s: float


def fit(receipts: Iterable[Receipt], rate: float = 12.5e6) -> Fit:
    """The model of `receipts` on top of `PUBLISHED`, over links that carry `rate` bytes a second.

    Shares and pauses are medians; the two times are least squares of what the bytes don't explain, never below 0.
    """
    rows = [*PUBLISHED, *(one for one in receipts if one.mib > 0 and one.total_s > 0)]
    gib = np.array([one.mib / 1024 for one in rows])
    rest = np.array([max(one.total_s - one.wire_bytes / rate, 0.0) for one in rows])
    slope = float(((gib - gib.mean()) * (rest - rest.mean())).sum() / max(((gib - gib.mean()) ** 2).sum(), 1e-9))
    slope = min(max(slope, 0.0), float((rest / gib).min()))
    return Fit(
        fixed_s=max(float((rest - slope * gib).mean()), 0.0),
        s_per_gib=slope,
        wire_share=float(np.median([one.wire_bytes / (one.mib * _MIB) for one in rows])),
        pause_s=float(np.median([one.pause_s for one in rows])),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """What lies between two sites: bytes a second, and USD for a GB."""

    rate: float = 12.5e6
    usd_per_gb: float = 0.02


LAN = Line(100e6, 0.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one move. `usd` is all of it in money: traffic, the seconds that it takes, and what its pause risks."""

    wire_bytes: float
    seconds: float
    traffic_usd: float
    pause_s: float
    usd: float


@dataclass(frozen=True)
class Costs:
    """Prices of moves. `lines`: by the two sites' names, from and to; others are like `line`.

    `lan_usd_s`, `wan_usd_s`: what a second of a move is worth within a site and between two, for all it holds up.
    `pause_usd`: what a second's pause risks.
    """

    fit: Fit = field(default_factory=lambda: fit(()))
    line: Line = field(default_factory=Line)
    lines: Mapping[tuple[str, str], Line] = field(default_factory=dict)
    lan_usd_s: float = 0.0005
    wan_usd_s: float = 0.002
    pause_usd: float = 0.1

    def of(self, mib: float, source: str, target: str) -> Cost:
        """A move of a guest of `mib` from one site to another, or within one."""
        far = source != target
        line = self.lines.get((source, target), self.line) if far else LAN
        return _cost(self.fit, mib, line, self.wan_usd_s if far else self.lan_usd_s, self.pause_usd)


@lru_cache(maxsize=4096)
def _cost(model: Fit, mib: float, line: Line, usd_s: float, pause_usd: float) -> Cost:
    wire = model.wire_share * mib * _MIB
    seconds = model.fixed_s + model.s_per_gib * mib / 1024 + wire / line.rate
    traffic = wire / 1e9 * line.usd_per_gb
    return Cost(wire, seconds, traffic, model.pause_s, traffic + seconds * usd_s + model.pause_s * pause_usd)
