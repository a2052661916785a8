"""Sites and the links between them, from the Skyplane grids: throughput, round trip, price."""

import csv
import gzip
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from models.placement.kernel import Floats

USD_PER_GB = 0.02
"""What a GB between two sites costs where no grid says."""


class Sites(NamedTuple):
    """Sites by number; the matrices (sites, sites) are from row to column, NaN where nothing was measured."""

    names: tuple[str, ...]
    gbps: Floats
    rtt_ms: Floats
    usd_per_gb: Floats


def read_sites(folder: Path, names: tuple[str, ...]) -> Sites:
    """Sites such as ``aws:eu-west-1`` with the medians of what was measured between them.

    Raises:
        ValueError: a name is in none of the grids.
    """
    rates = _grid(folder / "skyplane_throughput_grid.csv.gz", "src", "dst", "recv_gbps")
    times = _grid(folder / "skyplane_rtt_grid.csv.gz", "src_region", "dst_region", "avg_rtt")
    prices = _grid(folder / "skyplane_egress_cost_usd_per_gb.csv.gz", "src", "dest", "cost")
    known = {name for grid in (rates, times, prices) for pair in grid for name in pair}
    unknown = set(names) - known
    if unknown:
        raise ValueError(f"no site {', '.join(sorted(unknown))} in {folder}; there are {', '.join(sorted(known))}")
    sites = Sites(names, *(_matrix(grid, names) for grid in (rates, times, prices)))
    np.fill_diagonal(sites.rtt_ms, 0.0)
    np.fill_diagonal(sites.usd_per_gb, 0.0)
    return sites


def equal_sites(count: int) -> Sites:
    """Sites without names, every two of them 1 Gbit/s, 50 ms and `USD_PER_GB` apart."""
    apart = 1.0 - np.eye(count)
    return Sites(tuple(str(i) for i in range(count)), np.ones((count, count)), 50.0 * apart, USD_PER_GB * apart)


def _grid(path: Path, source: str, target: str, value: str) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row[value]:
                found[row[source], row[target]].append(float(row[value]))
    return {pair: median(values) for pair, values in found.items()}


def _matrix(grid: dict[tuple[str, str], float], names: tuple[str, ...]) -> Floats:
    return np.array([[grid.get((a, b), np.nan) for b in names] for a in names], np.float64)
