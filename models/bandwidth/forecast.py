"""What every bandwidth forecaster answers with."""

from dataclasses import dataclass
from typing import Protocol

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""What a forecast says of its own doubt."""


@dataclass(frozen=True, slots=True)
class Point:
    """One forecast of the mean capacity of a link over a horizon, bytes per second, with an 80 % interval.

    `quantiles` are those at `QUANTILES`. `samples` is how many measurements stand behind it and `errors` how many past
    errors the interval was drawn from.
    """

    mean: float
    low: float
    high: float
    quantiles: tuple[float, ...]
    samples: int
    errors: int


class Forecaster(Protocol):
    """Learns from capacities as they are measured and forecasts the mean of those to come."""

    def observe(self, at_s: float, value: float) -> None:
        """Take one capacity in bytes per second, measured at `at_s`; times never go back."""

    def forecast(self, now_s: float, horizon_s: float) -> Point | None:
        """The mean capacity expected over ``(now_s, now_s + horizon_s]``, or None when nothing is known."""
