"""Moments of recordings, asked about as a caller would: with everything up to the moment and nothing after it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from models.bandwidth.data import Array, Trace
from models.bandwidth.features import LONGEST
from models.bandwidth.predict import Series
from models.bandwidth.train import trace_truths

HORIZONS_S: Array = np.array([1.0, 5.0, 15.0, 20.0, 30.0, 60.0])
_AT_ONCE = 6  # moments of one trace asked about in one call, so that the guard has its whole record


class Moments(NamedTuple):
    """Moments of one trace: what was known then, and what came, Mbit/s ``[M, H]`` (NaN where it was not measured)."""

    trace: Trace
    links: list[Series]
    horizons_s: Array
    truth: Array


def draw(traces: Sequence[Trace], wanted: int, rng: np.random.Generator) -> Iterator[Moments]:
    """About `wanted` moments of each data set, few of each trace where it has many: those of one call together."""
    for name in sorted({trace.dataset for trace in traces}):
        found = [trace for trace in traces if trace.dataset == name]
        each, left = max(_AT_ONCE, -(-wanted // len(found))), wanted
        for i in rng.permutation(len(found)):
            truth = trace_truths(found[i], HORIZONS_S)
            moments = np.flatnonzero(np.isfinite(truth).any(1))
            moments = rng.choice(moments, min(each, len(moments)), replace=False)
            for first in range(0, len(moments), _AT_ONCE):
                yield _at(found[i], moments[first : first + _AT_ONCE], truth)
            left -= len(moments)
            if left <= 0:
                break


def _at(trace: Trace, moments: np.ndarray, truth: Array) -> Moments:
    asked = np.isfinite(truth[moments]).any(0)
    links: list[Series] = []
    for end in moments + 1:
        start = max(0, end - 4 * LONGEST)
        past = {name: column[start:end] for name, column in trace.covariates.items()}
        links.append((trace.mbps[start:end], trace.t_s[start:end], past))
    return Moments(trace, links, HORIZONS_S[asked], truth[moments][:, asked])
