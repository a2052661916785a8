"""Pairs in, rows of the report out: shares, medians, and paired differences with bootstrap intervals."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.replaying.move import Ended
from benchmarks.replaying.run import Pair
from benchmarks.report import Row
from models.bandwidth.history import Array

EWMA, ORACLE, ALL = "ewma", "oracle", "all"
MISSED = 1.5
"""A pause missed its budget when it is longer than this times it: the aim for the 99th percentile of pauses."""
LEAST_S = 2.0
"""Of shorter times nobody asks how long they will be."""
AT_SHARES = (0.25, 0.5)
RESAMPLES = 1000
COLUMNS = [
    "system", "set", "guest", "pairs", "total_s_median", "total_s_mean", "missed", "eta_25", "eta_50", "mb",
    "vs_ewma_percent", "vs_oracle_percent", "missed_vs_ewma",
]  # fmt: skip


def rows(pairs: Sequence[Pair], pause_ms: int) -> list[Row]:
    """A row for each system, of all pairs, of each set and of each guest.

    Pairs that not even the oracle brings to an end say nothing of forecasts and are left out; `hopeless` counts them.
    """
    sets = sorted({pair.recorded.dataset for pair in pairs})
    guests = sorted({pair.guest.name for pair in pairs})
    parts = [(ALL, ALL), *((one, ALL) for one in sets), *((ALL, one) for one in guests)]
    found: list[Row] = []
    for dataset, guest in parts:
        part = [one for one in pairs if dataset in (ALL, one.recorded.dataset) and guest in (ALL, one.guest.name)]
        fair = [one for one in part if math.isfinite(one.ended[ORACLE].total_s)]
        if fair:
            for system in fair[0].ended:
                row: Row = {"system": system, "set": dataset, "guest": guest, "hopeless": len(part) - len(fair)}
                found.append(row | _row(fair, system, pause_ms))
    return found


def missed(ended: Ended, pause_ms: int) -> bool:
    """Whether the pause was too long, or the guest never got there."""
    return not ended.pause_ms <= MISSED * pause_ms


def kept(ended: Ended, share: float) -> bool | None:
    """Whether the ETA told at this share of the move's time held the truth; None where there was none to tell."""
    if not math.isfinite(ended.total_s) or ended.total_s * (1 - share) < LEAST_S:
        return None
    told = [one for one in ended.promises if one.at_s <= share * ended.total_s and one.eta_s >= 0]
    if not told:
        return None
    return told[-1].low_s <= ended.total_s - told[-1].at_s <= told[-1].high_s


def _row(pairs: Sequence[Pair], system: str, pause_ms: int) -> Row:
    ended = [one.ended[system] for one in pairs]
    total_s = np.array([_total_s(one, system) for one in pairs])
    row: Row = {
        "pairs": len(pairs),
        "total_s_median": float(np.median(total_s)),
        "total_s_mean": float(np.mean(total_s)),
        "missed": float(np.mean([missed(one, pause_ms) for one in ended])),
        "unfinished": sum(not math.isfinite(one.total_s) for one in ended),
        "mb": float(np.mean([one.sent_bytes for one in ended])) / 1e6,
    }
    for share in AT_SHARES:
        held = [one for one in (kept(each, share) for each in ended) if one is not None]
        row[f"eta_{share * 100:.0f}"] = float(np.mean(held)) if held else None
        row[f"eta_{share * 100:.0f}_told"] = len(held)
    for other in (EWMA, ORACLE):
        ratios = np.array([math.log(_total_s(one, system) / _total_s(one, other)) for one in pairs])
        more = np.array(
            [float(missed(one.ended[system], pause_ms)) - missed(one.ended[other], pause_ms) for one in pairs]
        )
        row |= _interval(f"vs_{other}_percent", pairs, ratios, lambda mean: 100 * math.expm1(mean))
        row |= _interval(f"missed_vs_{other}", pairs, more, float)
    return row


def _total_s(pair: Pair, system: str) -> float:
    """Until the move ended; of one that did not, until it was given up."""
    ended = pair.ended[system]
    return ended.total_s if math.isfinite(ended.total_s) else ended.promises[-1].at_s


def _interval(name: str, pairs: Sequence[Pair], values: Array, told: Callable[[float], float]) -> Row:
    """The mean with its 95 % bootstrap interval; recordings are drawn, each with all of its pairs."""
    names = [one.recorded.name for one in pairs]
    order = {one: index for index, one in enumerate(dict.fromkeys(names))}
    places = np.array([order[one] for one in names])
    sums, counts = np.bincount(places, weights=values), np.bincount(places)
    drawn = np.random.default_rng(0).integers(len(order), size=(RESAMPLES, len(order)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {name: told(float(values.mean())), f"{name}_low": told(float(low)), f"{name}_high": told(float(high))}
