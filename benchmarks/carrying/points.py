"""Pure: the grid of lines, the systems, and the rows of the benchmark's file."""

from collections.abc import Sequence
from itertools import product
from typing import Final

import msgspec

from actors.errors import BadRequest
from actors.lab.topology import Shape
from benchmarks.report import Cell, Row

AMST: Final = "amst"
IPERF: Final[dict[str, tuple[int, str]]] = {
    "iperf3-1-cubic": (1, "cubic"),
    "iperf3-8-cubic": (8, "cubic"),
    "iperf3-1-bbr": (1, "bbr"),
    "iperf3-8-bbr": (8, "bbr"),
}
"""Parallel streams and congestion control."""
COPIES: Final = ("rsync", "scp")
SYSTEMS: Final[tuple[str, ...]] = (AMST, *IPERF, *COPIES)
COLUMNS: Final = [
    "system", "rate_mbit", "rtt_ms", "loss_pct", "goodput_mbit", "share_of_best", "streams", "cpu_sender",
    "cpu_receiver", "load_average", "note",
]  # fmt: skip
EVENT_COLUMNS: Final = [
    "system", "event", "rate_mbit", "rtt_ms", "loss_pct", "before_mbit", "goodput_mbit", "lost_share", "recovered_s",
    "resent_bytes", "in_flight_bytes", "note",
]  # fmt: skip


class Point(msgspec.Struct, frozen=True):
    """One line of the grid: Mbit/s, milliseconds of round trip, percent of packets lost in each direction."""

    rate_mbit: float
    rtt_ms: float
    loss_pct: float

    @property
    def shape(self) -> Shape:
        """The line as the lab knows it."""
        return Shape(rate_mbit=self.rate_mbit, rtt_ms=self.rtt_ms, loss_percent=self.loss_pct)

    def cells(self) -> Row:
        """The point's columns."""
        return {"rate_mbit": self.rate_mbit, "rtt_ms": self.rtt_ms, "loss_pct": self.loss_pct}


GRID: Final = [Point(*each) for each in product((100.0, 500.0), (10.0, 50.0, 150.0), (0.0, 0.1, 0.5))]


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """What one system carried in the steady state: payload bytes at the receiver, and the seconds they took.

    `cpu_*`: CPU seconds of the process per second, kernel's work for it included; None where it is not measured.
    """

    carried_bytes: float = 0.0
    seconds: float = 0.0
    streams: int | None = None
    cpu_sender: float | None = None
    cpu_receiver: float | None = None
    load_average: float = 0.0
    failure: str = ""

    @property
    def goodput_mbit(self) -> float | None:
        """Mbit/s of payload, or None if nothing was measured."""
        return round(self.carried_bytes * 8 / 1e6 / self.seconds, 2) if self.seconds > 0 else None


def parse_points(text: str) -> list[Point]:
    """The points that ``100/50/0,500/10/0.1`` (Mbit/s, ms, percent) names; the whole grid for an empty text.

    Raises:
        BadRequest: it can't be read.
    """
    points = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        try:
            rate, rtt, loss = (float(number) for number in part.split("/"))
            points.append(Point(rate, rtt, loss))
            _ = points[-1].shape
        except ValueError as error:
            raise BadRequest(
                detail=f"--points {part}: write MBIT/RTT_MS/LOSS_PERCENT, for example 100/50/0.1"
            ) from error
    return points or list(GRID)


def parse_systems(text: str) -> list[str]:
    """The systems that ``amst,iperf3-8-bbr`` names, in the order of `SYSTEMS`; all of them for an empty text.

    Raises:
        BadRequest: one of them does not exist.
    """
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(SYSTEMS))
    if unknown:
        raise BadRequest(detail=f"--only {', '.join(unknown)}: there are {', '.join(SYSTEMS)}")
    return [system for system in SYSTEMS if not named or system in named]


def row(point: Point, system: str, run: int, carried: Carried) -> Row:
    """One flat row."""
    return {
        "system": system,
        "run": run,
        **point.cells(),
        "goodput_mbit": carried.goodput_mbit,
        "streams": carried.streams,
        "cpu_sender": _rounded(carried.cpu_sender),
        "cpu_receiver": _rounded(carried.cpu_receiver),
        "load_average": round(carried.load_average, 2),
        "note": carried.failure,
    }


def with_best(rows: Sequence[Row]) -> list[Row]:
    """`rows` with `share_of_best`: goodput ÷ the best median goodput that a setting of iperf3 reached at this point."""
    found: list[Row] = []
    for one in rows:
        best = max((_median(rows, one, system) for system in IPERF), default=0.0)
        goodput = one.get("goodput_mbit")
        share = round(goodput / best, 3) if isinstance(goodput, float) and best else None
        found.append({**one, "share_of_best": share})
    return found


def _median(rows: Sequence[Row], beside: Row, system: str) -> float:
    keys = ("rate_mbit", "rtt_ms", "loss_pct")
    values = sorted(
        value
        for one in rows
        if one["system"] == system
        and all(one[key] == beside[key] for key in keys)
        and isinstance(value := one.get("goodput_mbit"), float)
    )
    return values[len(values) // 2] if values else 0.0


def _rounded(value: float | None) -> Cell:
    return None if value is None else round(value, 3)
