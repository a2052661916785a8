"""Walks forecasters over recorded links and scores them: the same truths for each."""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.bandwidth.forecast import Forecaster
from models.bandwidth.history import History

Trace = list[tuple[float, float]]
_BYTES_PER_MBIT = 125_000


def read_traces(path: Path) -> dict[str, Trace]:
    """Traces of a CSV with columns ``trace_id,t,bw_mbps``: (seconds, bytes per second), ordered by time.

    Raises:
        ValueError: a column is missing or a value is not a number of at least 0.
    """
    traces: dict[str, Trace] = defaultdict(list)
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        missing = {"trace_id", "t", "bw_mbps"} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
        for row in rows:
            at_s, mbps = float(row["t"]), float(row["bw_mbps"])
            if not (np.isfinite(at_s) and np.isfinite(mbps) and mbps >= 0):
                raise ValueError(f"{path}:{rows.line_num}: t and bw_mbps must be finite, bw_mbps at least 0")
            traces[row["trace_id"]].append((at_s, mbps * _BYTES_PER_MBIT))
    return {name: sorted(trace) for name, trace in traces.items()}


def score(make: Callable[[], Forecaster], traces: dict[str, Trace], horizon_s: float) -> dict[str, float]:
    """Asks a new forecaster at every sample of every trace and compares with what came.

    Returns:
        ``mape`` mean absolute error relative to the truth, ``coverage`` share of truths inside the 80 % interval,
        ``width`` mean width of the interval relative to the forecast, ``forecasts`` how many were scored.
    """
    errors, inside, widths = [], [], []
    for trace in traces.values():
        forecaster, future = make(), History(keep_s=trace[-1][0] - trace[0][0] + 1)
        for at_s, value in trace:
            future.add(at_s, value, 0.0)
        for at_s, value in trace:
            forecaster.observe(at_s, value)
            if at_s + horizon_s > trace[-1][0]:
                continue
            point, truth = forecaster.forecast(at_s, horizon_s), future.truth(at_s, at_s + horizon_s)
            if point is None or not truth or point.mean <= 0:
                continue
            errors.append(abs(point.mean - truth) / truth)
            inside.append(point.low <= truth <= point.high)
            widths.append((point.high - point.low) / point.mean)
    if not errors:
        raise ValueError("no trace is longer than the horizon")
    return {
        "mape": float(np.mean(errors)),
        "coverage": float(np.mean(inside)),
        "width": float(np.mean(widths)),
        "forecasts": float(len(errors)),
    }
