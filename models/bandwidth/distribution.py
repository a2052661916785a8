"""Distributions of a link's rate on one grid: mixed from several nets, read as quantiles, decided upon."""

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.features import CLIP

# Logarithms of ratios to the recent level; narrow near it.
GRID: Array = 0.06 * np.sinh(np.linspace(-np.arcsinh(CLIP / 0.06), np.arcsinh(CLIP / 0.06), 161))
NEAR = 0.15  # a forecast this close to the truth is as good as right
ERROR_WEIGHT = 3.0


def on_grid(centre: Array, edges: Array, cdf: Array) -> Array:
    """Distributions around centres ``[N]``, given at ``centre + edges [E]`` as ``[N, E]``, at the grid ``[N, G]``."""
    # Every row has the same edges, so the place in them follows from arithmetic, not from a search.
    off = np.clip(GRID[None, :] - centre[:, None], edges[0], edges[-1])
    near = edges[len(edges) // 2 + 1] / np.sinh(2 * np.arcsinh(edges[-1] / 0.05) / (len(edges) - 1))
    reach = np.arcsinh(edges[-1] / near)
    place = (np.arcsinh(off / near) / reach + 1) * ((len(edges) - 1) / 2)
    below = np.clip(place.astype(np.int64), 0, len(edges) - 2)
    part = np.clip(place - below, 0, 1)
    rows = np.arange(len(centre))[:, None]
    low, high = cdf[rows, below], cdf[rows, below + 1]
    out: Array = low + part * (high - low)
    return out


def quantiles(cdf: Array, levels: Array) -> Array:
    """Quantiles ``[N, Q]`` of distributions at the grid; `levels` ``[Q]`` or ``[N, Q]``."""
    wanted = np.clip(np.broadcast_to(levels, (len(cdf), np.shape(levels)[-1])), 1e-4, 1 - 1e-4)
    at = np.clip((cdf[:, None, :] < wanted[:, :, None]).sum(2), 1, len(GRID) - 1)
    rows = np.arange(len(cdf))[:, None]
    low, high = cdf[rows, at - 1], cdf[rows, at]
    part = np.clip((wanted - low) / np.maximum(high - low, 1e-9), 0, 1)
    out: Array = GRID[at - 1] + part * (GRID[at] - GRID[at - 1])
    return out


_LOW, _HIGH = GRID - np.log1p(NEAR), GRID - np.log1p(-NEAR)
_MIDDLE = (GRID[:-1] + GRID[1:]) / 2
_COST = np.abs(np.exp(_MIDDLE)[:, None] - np.exp(GRID)[None, :])
_PLACES = [(np.clip(np.searchsorted(GRID, e) - 1, 0, len(GRID) - 2), e) for e in (_LOW, _HIGH)]


def decide(cdf: Array, error_weight: float = ERROR_WEIGHT) -> Array:
    """The point ``[N]`` that costs least: its chance to be over 15 % off, and `error_weight` times its relative error.

    Where the distribution is narrow this is its mode, where it is wide its median.
    """
    ends = [
        cdf[:, i] + (cdf[:, i + 1] - cdf[:, i]) * np.clip((e - GRID[i]) / (GRID[i + 1] - GRID[i]), 0, 1)
        for i, e in _PLACES
    ]
    shares = np.diff(cdf, axis=1)
    mean = shares @ np.exp(_MIDDLE) + 1e-9
    cost = -(ends[1] - ends[0]) + error_weight * (shares @ _COST) / mean[:, None]
    out: Array = GRID[cost.argmin(1)]
    return out
