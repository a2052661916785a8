"""What the net is compared with: the simple methods, and gradient-boosted trees on the very same features.

Needs scikit-learn (``pip install novacron[research]``).
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from models.bandwidth.data import Array
from models.bandwidth.features import SIMPLE
from models.bandwidth.forecast import QUANTILES

OPPONENTS = {"last": "last", "ewma": "ewma", "harmonic": "harmonic", "ols": "ols"}
_BANDS = (0.05, 0.5, 0.95)


def simple(name: str, logs: Array) -> Array:
    """The forecast of a simple method, of all of them ``[N, K]``."""
    out: Array = logs[:, SIMPLE.index(OPPONENTS[name])]
    return out


class Trees:
    """A tree ensemble per quantile, trained on the logarithm of the ratio to the recent level, over all horizons.

    Settings are those that did best of a small search on inter-cloud and mobile links.
    """

    def __init__(self, seed: int, iterations: int = 150) -> None:
        self._seed, self._iterations = seed, iterations

    def fit(self, features: Array, truth: Array) -> "Trees":
        """Train on questions ``[N, F]`` and truths ``[N]``."""
        spread = np.nanmax(features, 0, initial=-1e9) - np.nanmin(features, 0, initial=1e9)
        self._used = spread > 1e-9
        with threadpool_limits(1):  # on a busy machine its threads wait for each other most of the time
            self._fitted = [self._tree(level).fit(features[:, self._used], truth) for level in _BANDS]
        return self

    def calibrate(self, features: Array, truth: Array) -> None:
        """Conformalised quantile regression: how much wider the band must be on links not trained on."""
        low, _, high = self._raw(features)
        score = np.maximum(low - truth, truth - high)
        count = len(score)
        self._wider = float(np.quantile(score, min(1.0, 0.9 * (1 + 1 / max(count, 1)))))

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Point ``[N]`` and quantiles ``[N, Q]``; between the three that are learned they are interpolated."""
        low, middle, high = self._raw(features)
        low, high = np.minimum(low - self._wider, middle), np.maximum(high + self._wider, middle)
        normal = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645]) / 1.645
        assert len(normal) == len(QUANTILES)
        side = np.where(normal < 0, (middle - low)[:, None], (high - middle)[:, None])
        bands: Array = middle[:, None] + normal * side
        return middle, bands

    def _tree(self, level: float) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            loss="quantile",
            quantile=level,
            max_iter=self._iterations,
            learning_rate=0.06,
            max_leaf_nodes=15,
            min_samples_leaf=30,
            l2_regularization=1.0,
            random_state=self._seed,
        )

    def _raw(self, features: Array) -> tuple[Array, Array, Array]:
        low, middle, high = (one.predict(features[:, self._used]) for one in self._fitted)
        return low, middle, high
