"""How good forecasts were: errors of the point, calibration and width of the bands, with intervals over groups."""

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.forecast import QUANTILES

LEVELS: Array = np.array(QUANTILES)
RESAMPLES = 200


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


def interval(point: Array, truth: Array, group: np.ndarray, seed: int = 0) -> dict[str, float]:
    """95 % bootstrap intervals of acc15 and WAPE, drawn over whole groups."""
    names, of = np.unique(group, return_inverse=True)
    off = np.abs(point - truth)
    columns = [np.bincount(of, v) for v in (off <= 0.15 * truth, np.ones(len(truth)), off, truth)]
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    hits, count, error, total = (column[drawn].sum(1) for column in columns)
    out: dict[str, float] = {}
    for name, values in (("acc15", hits / count), ("wape", error / np.maximum(total, 1e-9))):
        low, high = np.quantile(values, [0.025, 0.975])
        out |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return out
