"""Last value: the baseline that every other forecaster must beat."""

from models.bandwidth.forecast import Point
from models.bandwidth.history import History
from models.bandwidth.interval import around


class LastValue:
    """Forecasts that a link goes on as it was a moment ago.

    Args:
        history_s: samples and errors older than this are forgotten.
    """

    method = "last-value"

    def __init__(self, history_s: float) -> None:
        self._history = History(history_s)
        self._last = 0.0

    def observe(self, at_s: float, value: float) -> None:
        """Take one capacity in bytes per second, measured at `at_s`; times never go back."""
        assert value >= 0
        self._last = value
        self._history.add(at_s, value, value)
        self._history.forget(at_s)

    def forecast(self, now_s: float, horizon_s: float) -> Point | None:
        """The mean capacity expected over ``(now_s, now_s + horizon_s]``, or None when nothing is known."""
        return around(self._last, self._history, now_s, horizon_s)
