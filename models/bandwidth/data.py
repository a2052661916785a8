"""Recorded links: any CSV with ``trace_id,t,bw_mbps`` and further columns, read into traces and cut into cells.

Rules, the same for recordings and for a running link:

* A row whose time or bandwidth is no finite number of at least 0 is left out; rows are ordered by time.
* The step is the median spacing of the first 64 rows, held to 0.5–60 s; one row alone has a step of 1 s.
* Rows are averaged into cells of one step, counted from the first row. A cell without a row is left out, not filled:
  the forecaster sees the times.
* The horizon h after a cell is its next ``round(h / step)`` cells (at least one), if the last of them is no later than
  ``1.3 h + 0.3 step``: a pause in the measurement makes no truth.
"""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.seeing import cut

Array = NDArray[np.float64]

COVARIATES = (
    "rtt_ms",
    "jitter_ms",
    "loss",
    "retrans",
    "cwnd_kb",
    "tod_s",
    "distance_miles",
    "links",
    "received_mbps",
    "cpu",
    "cpu_remote",
    "memory",
)
# The names that recordings use for the same thing.
_ALIASES = {
    "rttvar_ms": "jitter_ms",
    "ping_ms": "rtt_ms",
    "ping_sd_ms": "jitter_ms",
    "ping_loss": "loss",
    "retransmits": "retrans",
    "distance": "distance_miles",
    "n_dc": "links",
    "snap_recv_mbps": "received_mbps",
    "cpu_local": "cpu",
    "mem_util": "memory",
}
STEP_MIN_S, STEP_MAX_S = 0.5, 60.0


@dataclass(frozen=True)
class Trace:
    """One contiguous recording: cells of `step_s`, their end times, mean bandwidth in Mbit/s, covariates (NaN unknown).

    `group` must stay on one side of a split; `link` is the kind of link, which calibration is kept for.
    """

    trace_id: str
    dataset: str
    group: str
    link: str
    step_s: float
    t_s: Array
    mbps: Array
    covariates: Mapping[str, Array] = field(default_factory=dict)
    # Where a forecast is asked for and against what: (cell, horizon in seconds, truth). None: after every cell.
    asked: tuple[tuple[int, float, float], ...] | None = None

    def __len__(self) -> int:
        return len(self.mbps)


def cells(
    t_s: Sequence[float] | Array,
    mbps: Sequence[float] | Array,
    covariates: Mapping[str, Sequence[float] | Array] | None,
) -> tuple[float, Array, Array, dict[str, Array]]:
    """Rows as cells by the rules above: ``(step in seconds, times, means, covariates)``; unknown columns are left out.

    Raises:
        ValueError: the columns differ in length.
    """
    times, values = np.asarray(t_s, dtype=np.float64).ravel(), np.asarray(mbps, dtype=np.float64).ravel()
    extras = {}
    for name, column in (covariates or {}).items():
        known = _ALIASES.get(name, name)
        if known in COVARIATES:
            extra = np.asarray(column, dtype=np.float64).ravel()
            extras[known] = np.full(len(values), extra[0]) if extra.size == 1 else extra
    if any(len(column) != len(times) for column in (values, *extras.values())):
        raise ValueError("t_s, bw_mbps and every covariate must have the same number of values")
    columns = np.empty((len(extras), len(times)))
    for place, column in enumerate(extras.values()):
        columns[place] = column
    step, at, mean, means = cut(times, values, columns, STEP_MIN_S, STEP_MAX_S)
    return step, at, mean, dict(zip(extras, means, strict=True))


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV, plain or gzip."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)


def number(text: str | None) -> float:
    """The number in a field; NaN for none."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def dataset_of(path: Path) -> str:
    """The name of the data set in a file: the file's, without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".csv")


def read_index(path: Path | None) -> dict[str, tuple[str, str]]:
    """``trace_id`` → (group, kind of link) of an index with the columns ``trace_id,group`` and, if known, ``link``."""
    if path is None or not path.exists():
        return {}
    return {row["trace_id"]: (row["group"], row.get("link") or "unknown") for row in read_rows(path)}


def files(directory: Path) -> list[Path]:
    """Every CSV of a directory that holds measurements of links.

    Raises:
        ValueError: there is none.
    """
    found = [path for path in sorted(directory.glob("*.csv*")) if path.suffix in {".csv", ".gz"}]
    named = [path for path in found if path.name != "index.csv" and next(read_rows(path), None) is not None]
    usable = [path for path in named if _columns(path) >= {"trace_id", "bw_mbps"} or _special(path) is not None]
    if not usable:
        raise ValueError(f"{directory}: no CSV with the columns trace_id, t and bw_mbps")
    return usable


def read_traces(path: Path, index: Mapping[str, tuple[str, str]] | None = None) -> list[Trace]:
    """The traces of one file. Without an index, a trace is its own group and its kind of link is ``unknown``.

    Raises:
        ValueError: a column is missing.
    """
    special = _special(path)
    if special is not None:
        return special(path)
    missing = {"trace_id", "t", "bw_mbps"} - _columns(path)
    if missing:
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path):
        rows.setdefault(row["trace_id"], []).append(row)
    known = index or {}
    return [_trace(name, dataset_of(path), *known.get(name, (name, "unknown")), each) for name, each in rows.items()]


def _columns(path: Path) -> set[str]:
    return set(next(read_rows(path), {}))


def _trace(name: str, dataset: str, group: str, link: str, rows: list[dict[str, str]], time: str = "t") -> Trace:
    columns = [c for c in rows[0] if _ALIASES.get(c, c) in COVARIATES]
    step, t_s, mbps, extras = cells(
        [number(row[time]) for row in rows],
        [number(row["bw_mbps"]) for row in rows],
        {column: np.array([number(row[column]) for row in rows]) for column in columns},
    )
    return Trace(name, dataset, group, link, step, t_s, mbps, extras)


# The recordings of whole tasks rather than of a link over time.

TRANSFER_S = 5.0
SNAPSHOT_S = 20.0
_LONG_PAST = 3


def _special(path: Path) -> Callable[[Path], list[Trace]] | None:
    columns = _columns(path)
    if {"run", "start_s", "warmup", "bw_mbps", "host", "target"} <= columns:
        return read_runs
    if {"t0", "bytes", "mean_mbps", "host", "target"} <= columns:
        return read_transfers
    if {"sample", "src", "dst", "snap_mbps", "y20_mbps"} <= columns:
        return read_snapshots
    return None


def _pair(row: dict[str, str]) -> str:
    return " ".join(sorted((row.get("host") or row["src"], row.get("target") or row["dst"])))


def read_runs(path: Path) -> list[Trace]:
    """Sessions of transfers on one path: each transfer is asked about 5 s after its warm-up, for the 5 s to come."""
    sessions: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path):
        sessions.setdefault(row["trace_id"], []).append(row)
    traces = []
    for name, rows in sessions.items():
        for row in rows:
            # `t` begins anew after the warm-up, `k` goes on.
            row["at"] = str(number(row["start_s"]) + number(row["k"]) + 1)
        rows.sort(key=lambda row: float(row["at"]))
        trace = _trace(name, dataset_of(path), _pair(rows[0]), "inter-cloud", rows, time="at")
        asked = []
        start = 0
        for i in range(1, len(rows) + 1):
            if i < len(rows) and rows[i]["run"] == rows[start]["run"]:
                continue
            warm = start + sum(row["warmup"] == "1" for row in rows[start:i])
            if i - warm >= 2 * TRANSFER_S - 1 and len(trace) == len(rows):
                truth = float(np.mean(trace.mbps[warm + 5 : warm + 10]))
                asked.append((warm + 4, TRANSFER_S, truth))
            start = i
        traces.append(_with(trace, asked))
    return traces


def read_transfers(path: Path) -> list[Trace]:
    """Whole transfers on one path in their order, one a cell: from the third on, the next one is asked for."""
    paths: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_rows(path):
        paths.setdefault((row["host"], row["target"], row["proxy"], row["kind"]), []).append(row)
    traces = []
    for key, rows in paths.items():
        rows.sort(key=lambda row: float(row["t0"]))
        for i, row in enumerate(rows):
            row |= {"at": str(i), "bw_mbps": row["mean_mbps"], "rtt_ms": row["rtt_first_ms"]}
        trace = _trace(" ".join(key), dataset_of(path), _pair(rows[0]), "inter-cloud", rows, time="at")
        asked = [(i - 1, 1.0, float(trace.mbps[i])) for i in range(_LONG_PAST, len(trace))]
        traces.append(_with(trace, asked))
    return traces


def read_snapshots(path: Path) -> list[Trace]:
    """One second of a transfer between two regions while all others run: its mean over 20 s is asked for."""
    traces = []
    for i, row in enumerate(read_rows(path)):
        row |= {"t": "1", "bw_mbps": row["snap_mbps"]}
        trace = _trace(f"{dataset_of(path)}-{i}", dataset_of(path), f"sample {row['sample']}", "inter-cloud", [row])
        traces.append(_with(trace, [(0, SNAPSHOT_S, number(row["y20_mbps"]))]))
    return traces


def _with(trace: Trace, asked: Iterable[tuple[int, float, float]]) -> Trace:
    return Trace(**{**vars(trace), "asked": tuple(asked)})
