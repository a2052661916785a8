"""What a learned model said of one link, for all horizons at once: pure."""

from bisect import bisect_left
from dataclasses import dataclass
from math import exp, log

from actors.prediction.scores import Band
from models.bandwidth.forecast import QUANTILES

HORIZONS_S = (1.0, 5.0, 15.0, 30.0, 60.0)
FARTHEST_S = 2 * HORIZONS_S[-1]
_LOW, _MIDDLE, _HIGH = QUANTILES.index(0.1), QUANTILES.index(0.5), QUANTILES.index(0.9)


@dataclass(frozen=True, slots=True)
class Fan:
    """Rates in bytes per second at `HORIZONS_S`: means ``[H]``, quantiles ``[H][Q]``; `upto_s`: its newest sample."""

    method: str
    version: str
    upto_s: float
    means: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]

    def at(self, horizon_s: float, stretch: float = 1.0) -> tuple[Band, tuple[float, ...]]:
        """Band and quantiles of the mean over the next `horizon_s` seconds, between the horizons of the model.

        `stretch` widens (above 1) or narrows the quantiles around the median, as ratios to it.
        """
        left, right, share = _place(horizon_s)
        mean = self.means[left] * (1 - share) + self.means[right] * share
        raw = [a * (1 - share) + b * share for a, b in zip(self.quantiles[left], self.quantiles[right], strict=True)]
        middle = max(raw[_MIDDLE], 1e-9)
        spread = tuple(middle * (max(each, 1e-9) / middle) ** stretch for each in raw)
        return Band(self.method, self.version, mean, spread[_LOW], spread[_HIGH]), spread


class Stretch:
    """How much wider than the model says its 80 % band must be on this link, learned from each truth.

    Adaptive conformal inference (Gibbs and Candès, 2021): a truth outside widens by four steps, one inside narrows by
    one, so that in the long run a fifth lies outside, whatever the link does.
    """

    def __init__(self, step: float = 0.02, most: float = 6.0) -> None:
        self._step, self._most = step, log(most)
        self._log = 0.0

    @property
    def factor(self) -> float:
        """1: as the model says."""
        return exp(self._log)

    def learn(self, inside: bool) -> None:
        """Take in whether the truth lay in the band that was told."""
        moved = self._log + (-self._step if inside else 4 * self._step)
        self._log = min(self._most, max(-self._most, moved))


def _place(horizon_s: float) -> tuple[int, int, float]:
    """Neighbours of a horizon and how far it is on the way from one to the other, in ratios."""
    right = min(bisect_left(HORIZONS_S, horizon_s), len(HORIZONS_S) - 1)
    left = max(0, right - 1)
    if horizon_s >= HORIZONS_S[right] or left == right:
        return right, right, 0.0
    return left, right, log(horizon_s / HORIZONS_S[left]) / log(HORIZONS_S[right] / HORIZONS_S[left])
