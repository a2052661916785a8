"""The loops behind `models.bandwidth.distribution` and a forecaster's record, compiled: one row after the other.

`grid` rises and is narrow near 0; distributions on it are ``[N, G]`` and never fall.
"""

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.kernel import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@kernel
def _between(low: float, high: float, wanted: float) -> float:
    """Where between the two, 0 to 1."""
    return min(max((wanted - low) / max(high - low, 1e-9), 0.0), 1.0)


@kernel
def add_on_grid(centre: Floats, edges: Floats, cdf: Floats, grid: Floats, share: float, out: Floats) -> None:
    """Add `share` of distributions given at ``centre + edges`` to `out` ``[N, G]``, straight between the edges."""
    most = len(edges) - 2
    for row in range(len(centre)):
        below = 0
        for g in range(len(grid)):
            off = min(max(grid[g] - centre[row], edges[0]), edges[-1])
            while below < most and edges[below + 1] <= off:
                below += 1
            part = (off - edges[below]) / (edges[below + 1] - edges[below])
            out[row, g] += share * (cdf[row, below] + part * (cdf[row, below + 1] - cdf[row, below]))


@kernel
def quantiles_of(cdf: Floats, wanted: Floats, grid: Floats, out: Floats) -> None:
    """Quantiles ``[N, Q]`` at orders ``wanted [N, Q]``."""
    for row in range(len(cdf)):
        for q in range(wanted.shape[1]):
            order = min(max(wanted[row, q], 1e-4), 1 - 1e-4)
            at = min(max(np.searchsorted(cdf[row], order), 1), len(grid) - 1)
            part = _between(cdf[row, at - 1], cdf[row, at], order)
            out[row, q] = grid[at - 1] + part * (grid[at] - grid[at - 1])


@kernel
def cheapest(cdf: Floats, grid: Floats, near: float, error_weight: float, out: Floats) -> None:
    """The point of each distribution that costs least, as `decide` says.

    The mean |error| at every point of the grid follows from sums of shares and of rates below and above it.
    """
    size = len(grid)
    rate, middle = np.exp(grid), np.exp((grid[:-1] + grid[1:]) / 2)
    place, edge = np.empty((2, size), np.int64), np.empty((2, size))
    for i, reach in enumerate((-np.log1p(near), -np.log1p(-near))):
        for g in range(size):
            edge[i, g] = grid[g] + reach
            place[i, g] = min(max(np.searchsorted(grid, edge[i, g]) - 1, 0), size - 2)
    for row in range(len(cdf)):
        one = cdf[row]
        mean = 0.0
        for g in range(size - 1):
            mean += (one[g + 1] - one[g]) * middle[g]
        whole, below, below_rate, least = one[-1] - one[0], 0.0, 0.0, np.inf
        for g in range(size):
            above, above_rate = whole - below, mean - below_rate
            error = rate[g] * (below - above) + above_rate - below_rate
            held = 0.0
            for i in range(2):
                at = place[i, g]
                part = min(max((edge[i, g] - grid[at]) / (grid[at + 1] - grid[at]), 0.0), 1.0)
                held += (2 * i - 1) * (one[at] + part * (one[at + 1] - one[at]))
            cost = error_weight * error / (mean + 1e-9) - held
            if cost < least:
                least, out[row] = cost, grid[g]
            if g < size - 1:
                share = one[g + 1] - one[g]
                below, below_rate = below + share, below_rate + share * middle[g]


@kernel
def past_answers(
    mbps: Floats, ahead: Ints, at: Ints, level: Floats, floor: Floats, points: Floats, simple: Floats, expects: Floats,
    count: Floats, errors: Floats, expected: Floats,
) -> None:  # fmt: skip
    """How wrong what was told at earlier moments was: summed |log error|, each at most 1, ``errors [B, H, 1 + K]``.

    ``at [B, P]`` are moments, newest first, ``ahead [B, H]`` the horizons in cells; ``points [B, P, H]`` and
    ``simple [B, P, H, K]`` were told. ``count [B, H]``: how many of these truths are known by the newest moment.
    ``expects [B, P, H]``, the error each answer was told with, at most 1, is summed into ``expected [B, H]``.
    """
    for b in range(len(mbps)):
        for p in range(1, at.shape[1]):
            if at[b, p] == at[b, p - 1]:
                continue
            for h in range(ahead.shape[1]):
                start, end = at[b, p], at[b, p] + ahead[b, h]
                if end > at[b, 0]:
                    continue
                mean = mbps[b, start + 1 : end + 1].mean() + floor[b, p]
                truth = np.log(mean / (level[b, p] + floor[b, p]))
                count[b, h] += 1
                expected[b, h] += min(expects[b, p, h], 1.0)
                errors[b, h, 0] += min(abs(points[b, p, h] - truth), 1.0)
                for k in range(simple.shape[3]):
                    errors[b, h, 1 + k] += min(abs(simple[b, p, h, k] - truth), 1.0)
