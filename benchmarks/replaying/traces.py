"""Recorded links from a directory of CSV files, in sets, split by group into those to tune on and those to report."""

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, TextIO
from zlib import crc32

import numpy as np

from actors.errors import BadRequest
from benchmarks.replaying.link import Link

BYTES_PER_MBIT = 125_000
DURATION_MIN_S = 30.0
MBIT_MIN = 5.0
"""Slower links than that carry no guest within a recording."""
GAP_MAX_S = 5.0
"""Samples further apart than this say nothing of the time between."""
NAMES = {"trace_id", "t", "bw_mbps"}


class Recorded(NamedTuple):
    """One recorded link."""

    dataset: str
    group: str
    name: str
    link: Link


def read_recorded(folder: Path, index: Path | None) -> list[Recorded]:
    """Every usable recording in the folder's ``*.csv`` and ``*.csv.gz`` with columns ``trace_id,t,bw_mbps``.

    A recording is usable when it lasts `DURATION_MIN_S` with no gap beyond `GAP_MAX_S` and carries `MBIT_MIN` in the
    mean. `index`: CSV with ``trace_id,group``; without one each recording is a group of its own. Files without the
    columns are left out.

    Raises:
        BadRequest: nothing usable is there, or a file or the index can't be read.
    """
    groups = _groups(index) if index is not None else {}
    found: list[Recorded] = []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
        dataset = path.name.removesuffix(".gz").removesuffix(".csv")
        for name, rows in sorted(_traces(path).items()):
            link = _link(rows)
            if link is not None:
                found.append(Recorded(dataset, groups.get(name, name), name, link))
    if not found:
        raise BadRequest(
            detail=f"{folder} has no recording (trace_id,t,bw_mbps) of {DURATION_MIN_S:.0f} s and {MBIT_MIN:.0f} Mbit/s"
        )
    return found


def parted(recorded: list[Recorded]) -> tuple[list[Recorded], list[Recorded]]:
    """(to tune on, to report): of each set every other group, in an order that has nothing to do with what is in it."""
    to_tune: set[tuple[str, str]] = set()
    for dataset in {one.dataset for one in recorded}:
        groups = sorted(
            {one.group for one in recorded if one.dataset == dataset}, key=lambda group: (_mixed(group), group)
        )
        to_tune |= {(dataset, group) for group in groups[1::2]}
    tune = [one for one in recorded if (one.dataset, one.group) in to_tune]
    return tune, [one for one in recorded if (one.dataset, one.group) not in to_tune]


def chosen(recorded: list[Recorded], per_set: int) -> list[Recorded]:
    """At most so many of each set, groups taken in turns."""
    picked: list[Recorded] = []
    for dataset in sorted({one.dataset for one in recorded}):
        by_group: dict[str, list[Recorded]] = defaultdict(list)
        for one in recorded:
            if one.dataset == dataset:
                by_group[one.group].append(one)
        turns = [
            (turn, _mixed(group), one)
            for group, members in by_group.items()
            for turn, one in enumerate(sorted(members, key=lambda each: (_mixed(each.name), each.name)))
        ]
        picked += [one for _, _, one in sorted(turns, key=lambda each: (*each[:2], each[2].name))[:per_set]]
    return picked


def _mixed(name: str) -> int:
    return crc32(name.encode())


def _open(path: Path) -> TextIO:
    return io.TextIOWrapper(gzip.open(path)) if path.suffix == ".gz" else path.open(newline="")


def _groups(index: Path) -> dict[str, str]:
    try:
        with _open(index) as file:
            return {row["trace_id"]: row["group"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise BadRequest(detail=f"{index} is no index with trace_id and group: {error!r}") from error


def _traces(path: Path) -> dict[str, list[tuple[float, float]]]:
    traces: dict[str, list[tuple[float, float]]] = defaultdict(list)
    try:
        with _open(path) as file:
            rows = csv.DictReader(file)
            if not set(rows.fieldnames or ()) >= NAMES:
                return {}
            for row in rows:
                traces[row["trace_id"]].append((float(row["t"]), float(row["bw_mbps"])))
    except (OSError, EOFError, ValueError) as error:
        raise BadRequest(detail=f"{path} can't be read: {error}") from error
    return traces


def _link(rows: list[tuple[float, float]]) -> Link | None:
    table = np.asarray(sorted(rows), dtype=np.float64)
    table = table[np.isfinite(table).all(axis=1) & (table[:, 1] >= 0)]
    at_s, first = np.unique(table[:, 0], return_index=True)
    if len(at_s) < 2 or np.diff(at_s).max() > GAP_MAX_S:
        return None
    link = Link(at_s, table[first, 1] * BYTES_PER_MBIT)
    long_enough = link.ends_s - link.begins_s >= DURATION_MIN_S
    return link if long_enough and link.mean(link.begins_s, link.ends_s) >= MBIT_MIN * BYTES_PER_MBIT else None
