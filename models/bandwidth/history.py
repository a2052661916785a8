"""Measured capacities, the levels a forecaster had at each of them, and the errors that follow from both."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_OFF = 1e9


class History:
    """A forecaster's own past: (time, capacity, level after it), no older than `keep_s` behind the newest time seen."""

    def __init__(self, keep_s: float) -> None:
        assert keep_s > 0
        self._keep_s = keep_s
        self._rows: deque[tuple[float, float, float]] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def last_s(self) -> float:
        """Time of the newest sample; the history must not be empty."""
        return self._rows[-1][0]

    def add(self, at_s: float, value: float, level: float) -> None:
        """Keep one measurement with the level that the forecaster has after it."""
        assert not self._rows or at_s >= self._rows[-1][0], "times never go back"
        self._rows.append((at_s, value, level))

    def forget(self, now_s: float) -> None:
        """Drop what is older than `keep_s`."""
        while self._rows and self._rows[0][0] < now_s - self._keep_s:
            self._rows.popleft()

    def truth(self, after_s: float, until_s: float) -> float | None:
        """Mean capacity measured in ``(after_s, until_s]``, None when nothing was."""
        values = [value for at, value, _ in self._rows if after_s < at <= until_s]
        return float(np.mean(values)) if values else None

    def error_ratios(self, lead_s: float, horizon_s: float) -> Array:
        """truth ÷ forecast of every past moment t whose window ``(t + lead_s, t + lead_s + horizon_s]`` is measured.

        This is what the forecaster would have got wrong had it been asked at each of its samples, for this very
        horizon and with data this old. More than `MOST_OFF` counts as so much: nothing was known then.
        """
        if len(self._rows) < 2:
            return np.empty(0)
        at, value, level = np.asarray(self._rows, dtype=np.float64).T
        total = np.concatenate(([0.0], np.cumsum(value)))
        first = np.searchsorted(at, at + lead_s, side="right")
        last = np.searchsorted(at, at + lead_s + horizon_s, side="right")
        known = (at + lead_s + horizon_s <= at[-1]) & (last > first) & (level > 0)
        counts = np.maximum(last - first, 1)
        truth = (total[last] - total[first]) / counts
        with np.errstate(over="ignore"):
            ratios: Array = np.minimum(truth[known] / level[known], MOST_OFF)
        return ratios
