"""What every bandwidth forecaster answers with."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Point:
    """One forecast of the mean capacity of a link over a horizon, bytes per second, with an 80 % interval.

    `samples` is how many measurements stand behind it and `errors` how many past errors the interval was drawn from.
    """

    mean: float
    low: float
    high: float
    samples: int
    errors: int


class Forecaster(Protocol):
    """Learns from capacities as they are measured and forecasts the mean of those to come."""

    def observe(self, at_s: float, value: float) -> None:
        """Take one capacity in bytes per second, measured at `at_s`; times never go back."""

    def forecast(self, now_s: float, horizon_s: float) -> Point | None:
        """The mean capacity expected over ``(now_s, now_s + horizon_s]``, or None when nothing is known."""
