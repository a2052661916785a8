"""Forecasts beside the later truth: how often the truth fell into the interval that was promised."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from models.bandwidth.forecast import Point


@dataclass(frozen=True, slots=True)
class Settled:
    """One forecast and what came of it, bytes per second."""

    made_s: float
    horizon_s: float
    point: Point
    truth: float

    @property
    def inside(self) -> bool:
        """True when the truth lay inside the interval."""
        return self.point.low <= self.truth <= self.point.high


class Ledger:
    """Keeps the last `limit` forecasts of a link: the open ones until their horizon is over, then with their truth."""

    def __init__(self, limit: int = 512) -> None:
        assert limit > 0
        self._open: deque[tuple[float, float, Point]] = deque(maxlen=limit)
        self.settled: deque[Settled] = deque(maxlen=limit)

    def made(self, now_s: float, horizon_s: float, point: Point) -> None:
        """Note a forecast that was given out."""
        self._open.append((now_s, horizon_s, point))

    def settle(self, now_s: float, truth: Callable[[float, float], float | None]) -> None:
        """Close every forecast whose horizon is over; one whose window was never measured is dropped, not counted."""
        waiting = []
        for made_s, horizon_s, point in self._open:
            if made_s + horizon_s > now_s:
                waiting.append((made_s, horizon_s, point))
                continue
            measured = truth(made_s, made_s + horizon_s)
            if measured is not None:
                self.settled.append(Settled(made_s, horizon_s, point, measured))
        self._open.clear()
        self._open.extend(waiting)

    @property
    def calibration(self) -> float:
        """Share of truths inside their interval (0.8 is what is promised); -1 when there is no truth yet."""
        if not self.settled:
            return -1.0
        return sum(each.inside for each in self.settled) / len(self.settled)
