"""The empirical 80 % interval: quantiles of a forecaster's own recent relative errors."""

import numpy as np

from models.bandwidth.forecast import QUANTILES, Point
from models.bandwidth.history import Array, History

LOW_QUANTILE, HIGH_QUANTILE = 0.1, 0.9
# With fewer errors than this a 10 % quantile is hardly more than the smallest error seen.
ENOUGH_ERRORS = 20
# What is believed of a link about which no error is known yet: it may be 4 times slower or faster than it looked.
UNKNOWN_FACTOR = 4.0
# The quantiles of that belief at `QUANTILES`, as powers of the factor: a log-normal of which 80 % lie within it.
_UNKNOWN_POWERS = np.array([-1.283, -1.0, -0.526, 0.0, 0.526, 1.0, 1.283])


def bounds(ratios: Array) -> tuple[float, float]:
    """(low, high) factors around the forecast, low ≤ 1 ≤ high.

    With `ENOUGH_ERRORS` ratios they are the quantiles. With fewer, they are drawn geometrically between "may be 4
    times off" and the widest error seen, so that a forecaster that knows little says so.
    """
    if ratios.size == 0:
        return 1.0 / UNKNOWN_FACTOR, UNKNOWN_FACTOR
    low, high = np.quantile(ratios, [LOW_QUANTILE, HIGH_QUANTILE])
    if ratios.size < ENOUGH_ERRORS:
        known = ratios.size / ENOUGH_ERRORS
        widest_low, widest_high = min(1.0, float(ratios.min())), max(1.0, float(ratios.max()))
        low = min(low, (1.0 / UNKNOWN_FACTOR) ** (1 - known) * max(widest_low, 1e-9) ** known)
        high = max(high, UNKNOWN_FACTOR ** (1 - known) * widest_high**known)
    return min(1.0, float(low)), max(1.0, float(high))


def spread(ratios: Array) -> Array:
    """Factors around the forecast at `QUANTILES`, rising; drawn towards "may be 4 times off" like `bounds`."""
    wide = UNKNOWN_FACTOR**_UNKNOWN_POWERS
    if ratios.size == 0:
        return wide
    known = min(1.0, ratios.size / ENOUGH_ERRORS)
    seen = np.quantile(ratios, QUANTILES)
    mixed = wide ** (1 - known) * np.maximum(seen, 1e-9) ** known
    centre = len(QUANTILES) // 2
    factors: Array = np.where(_UNKNOWN_POWERS < 0, np.minimum(seen, mixed), np.maximum(seen, mixed))
    factors[centre] = mixed[centre]
    return factors


def around(level: float, history: History, now_s: float, horizon_s: float) -> Point | None:
    """`level` as the forecast for ``(now_s, now_s + horizon_s]`` with its interval; None when the history is empty.

    Old data make a wider interval: errors are those of forecasts made with data as old as these are now.
    """
    assert horizon_s > 0
    history.forget(now_s)
    if len(history) == 0:
        return None
    ratios = history.error_ratios(max(0.0, now_s - history.last_s), horizon_s)
    low, high = bounds(ratios)
    quantiles = tuple(float(level * factor) for factor in spread(ratios))
    return Point(level, level * low, level * high, quantiles, samples=len(history), errors=int(ratios.size))
