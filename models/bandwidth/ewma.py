"""Exponentially weighted mean with a half-life, its interval taken from its own recent errors."""

from models.bandwidth.forecast import Point
from models.bandwidth.history import History
from models.bandwidth.interval import around


class Ewma:
    """Forecasts that a link goes on as it lately was.

    Args:
        half_life_s: age at which a sample weighs half; samples may come at any times, also with long gaps.
        history_s: samples and errors older than this are forgotten.
    """

    method = "ewma"

    def __init__(self, half_life_s: float, history_s: float) -> None:
        assert half_life_s > 0
        self._half_life_s = half_life_s
        self._history = History(history_s)
        self._level = 0.0
        self._weight = 0.0

    @property
    def level(self) -> float | None:
        """The weighted mean in bytes per second, None when nothing is known."""
        return self._level if len(self._history) else None

    def observe(self, at_s: float, value: float) -> None:
        """Take one capacity in bytes per second, measured at `at_s`; times never go back."""
        assert value >= 0
        if len(self._history) == 0:
            self._weight = 0.0
            decay = 0.0
        else:
            decay = 0.5 ** ((at_s - self._history.last_s) / self._half_life_s)
        # The weight is the sum of all samples' weights: early on this is a plain mean, not one pulled to the first.
        self._weight = self._weight * decay + 1.0
        self._level += (value - self._level) / self._weight
        self._history.add(at_s, value, self._level)
        self._history.forget(at_s)

    def forecast(self, now_s: float, horizon_s: float) -> Point | None:
        """The mean capacity expected over ``(now_s, now_s + horizon_s]``, or None when nothing is known."""
        return around(self._level, self._history, now_s, horizon_s)

    def truth(self, after_s: float, until_s: float) -> float | None:
        """Mean capacity measured in ``(after_s, until_s]``, None when nothing was (or it is forgotten)."""
        return self._history.truth(after_s, until_s)
