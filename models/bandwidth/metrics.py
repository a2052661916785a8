"""How good forecasts were: errors of the point, calibration and width of the bands, with intervals over groups."""

from collections.abc import Sequence

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.forecast import QUANTILES

LEVELS: Array = np.array(QUANTILES)
RESAMPLES = 1000


def point_scores(point: Array, truth: Array) -> dict[str, float]:
    """acc15 and acc20 (shares within 15 and 20 % of the truth), WAPE, and RMSE over the mean truth."""
    off, total = np.abs(point - truth), max(float(truth.sum()), 1e-9)
    return {
        "acc15": float(np.mean(off <= 0.15 * truth)),
        "acc20": float(np.mean(off <= 0.20 * truth)),
        "wape": float(off.sum() / total),
        "nrmse": float(np.sqrt(np.mean(off**2)) / max(float(truth.mean()), 1e-9)),
    }


def band_scores(bands: Array, truth: Array) -> dict[str, float]:
    """Of quantiles ``[N, Q]`` at `LEVELS`: pinball loss over the mean truth, coverage and width of the 90 % band."""
    off = truth[:, None] - bands
    pinball = np.maximum(LEVELS * off, (LEVELS - 1) * off).mean()
    low, high = bands[:, 0], bands[:, -1]
    total = max(float(truth.mean()), 1e-9)
    return {
        "pinball": float(pinball / total),
        "coverage90": float(np.mean((low <= truth) & (truth <= high))),
        "width90": float(np.mean(high - low) / total),
    }


def interval(point: Array, truth: Array, group: np.ndarray) -> dict[str, float]:
    """95 % bootstrap intervals of acc15 and WAPE, drawn over whole groups."""
    off = np.abs(point - truth)
    hits, count, error, total = _resampled(group, (off <= 0.15 * truth, np.ones(len(truth)), off, truth))
    return {**_ends("acc15", hits / count), **_ends("wape", error / np.maximum(total, 1e-9))}


def coverage_interval(bands: Array, truth: Array, group: np.ndarray) -> dict[str, float]:
    """95 % bootstrap interval of the 90 % band's coverage, drawn over whole groups."""
    held, count = _resampled(group, ((bands[:, 0] <= truth) & (truth <= bands[:, -1]), np.ones(len(truth))))
    return _ends("coverage90", held / count)


def _resampled(group: np.ndarray, columns: Sequence[np.ndarray]) -> list[Array]:
    """Sums ``[RESAMPLES]`` of each column over groups drawn with replacement."""
    names, of = np.unique(group, return_inverse=True)
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    return [np.bincount(of, column)[drawn].sum(1) for column in columns]


def _ends(name: str, values: Array) -> dict[str, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return {f"{name}_low": float(low), f"{name}_high": float(high)}
