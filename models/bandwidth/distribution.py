"""Distributions of a link's rate on one grid: mixed from several nets, read as quantiles, decided upon."""

from collections.abc import Sequence

import numpy as np

from models.bandwidth.data import Array
from models.bandwidth.features import CLIP
from models.bandwidth.reckoning import add_on_grid, cheapest, quantiles_of

# Logarithms of ratios to the recent level; narrow near it.
GRID: Array = 0.06 * np.sinh(np.linspace(-np.arcsinh(CLIP / 0.06), np.arcsinh(CLIP / 0.06), 161))
NEAR = 0.15  # a forecast this close to the truth is as good as right
ERROR_WEIGHT = 3.0


def on_grid(parts: Sequence[tuple[Array, Array]], edges: Array) -> Array:
    """The mean ``[N, G]`` of distributions around centres ``[N]``, given at ``centre + edges [E]`` as ``[N, E]``."""
    out = np.zeros((len(parts[0][0]), len(GRID)))
    for centre, cdf in parts:
        add_on_grid(centre, edges, cdf, GRID, 1.0 / len(parts), out)
    return out


def quantiles(cdf: Array, levels: Array) -> Array:
    """Quantiles ``[N, Q]`` of distributions at the grid; `levels` ``[Q]`` or ``[N, Q]``."""
    wanted = np.ascontiguousarray(np.broadcast_to(levels, (len(cdf), np.shape(levels)[-1])), np.float64)
    out = np.empty(wanted.shape)
    quantiles_of(np.ascontiguousarray(cdf), wanted, GRID, out)
    return out


def decide(cdf: Array, error_weight: float = ERROR_WEIGHT) -> Array:
    """The point ``[N]`` that costs least: its chance to be over 15 % off, and `error_weight` times its relative error.

    Where the distribution is narrow this is its mode, where it is wide its median.
    """
    out = np.empty(len(cdf))
    cheapest(np.ascontiguousarray(cdf), GRID, NEAR, error_weight, out)
    return out
