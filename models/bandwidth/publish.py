"""From a directory of recordings to a version in the registry, with figures from groups that the training never saw."""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np

from models.bandwidth import WEIGHTS, data
from models.bandwidth.data import Trace
from models.bandwidth.evaluate import Plan, Row, served
from models.bandwidth.fit import fit
from models.bandwidth.opponents import OPPONENTS
from models.bandwidth.predict import as_arrays
from models.bandwidth.train import Args
from models.registry import Calibration, Card, Evaluation, Metric, Registry

APART = 5
"""One group in so many is kept apart for the figures: always the same ones, so that versions can be compared."""


def publish(
    registry: Registry,
    directory: Path,
    index: Path | None,
    args: Args,
    members: int,
    progress: Callable[[int, float], None] | None = None,
    notes: str = "",
) -> Card:
    """Train on four fifths of the groups, score on the others as a caller would ask, and publish; nothing is promoted.

    Args:
        directory: CSVs as `models.bandwidth.data` reads them.
        index: trace_id, group and kind of link; without it ``directory/index.csv`` if there is one.
        progress: told update (of each member anew) and loss.
        notes: for the card: whose the data are, under which licence.

    Raises:
        ValueError: no recorded links, none long enough, or fewer than two groups.
        RegistryError: nothing can be written there.
    """
    index = index or directory / "index.csv"
    known, files = data.read_index(index), data.files(directory)
    traces = [trace for path in files for trace in data.read_traces(path, known)]
    learn, apart = split(traces)
    forecaster = fit(learn, args, members, progress)
    hashed = _hash([*files, *([index] if index.exists() else [])])
    rows = list(served(forecaster, apart, {trace.dataset: trace.link for trace in apart}, Plan()))
    content = io.BytesIO()
    stored: dict[str, Any] = dict(as_arrays(forecaster))
    np.savez(content, allow_pickle=False, **stored)
    card = Card(
        kind="bandwidth",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        created_by="novacron models train",
        code_version=version_of("novacron"),
        data=directory.resolve().name,
        data_hash=hashed,
        seed=args.seed,
        evaluation=_evaluation(rows, directory, hashed),
        settings={**asdict(args), "members": members},
        notes=notes,
    )
    return registry.publish({WEIGHTS: content.getvalue()}, card)


def split(traces: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Traces to learn from and to score on; a group is on one side, and of each data set some are on both.

    Raises:
        ValueError: no data set has two groups.
    """
    apart: set[tuple[str, str]] = set()
    for name in sorted({trace.dataset for trace in traces}):
        groups = np.random.default_rng(0).permutation(sorted({t.group for t in traces if t.dataset == name}))
        if len(groups) > 1:
            apart |= {(name, str(group)) for group in groups[: max(1, len(groups) // APART)]}
    if not apart:
        raise ValueError("no data set has two groups, so none can be kept apart: name groups in an index")
    out: tuple[list[Trace], list[Trace]] = ([], [])
    for trace in traces:
        out[(trace.dataset, trace.group) in apart].append(trace)
    return out


def _evaluation(rows: Sequence[Row], directory: Path, hashed: str) -> Evaluation:
    by = {(row["dataset"], row["horizon_s"], row["method"]): row for row in rows}
    metrics, bands = [], []
    for (dataset, horizon, method), row in by.items():
        if method != "served":
            continue
        for figure in ("wape", "acc15"):
            baselines = {o: float(by[dataset, horizon, o][figure] or 0) for o in OPPONENTS}
            metrics.append(
                Metric(
                    name=f"{dataset}/{horizon:g}s/{figure}",
                    value=float(row[figure] or 0),
                    better="lower" if figure == "wape" else "higher",
                    baselines=baselines,
                    gate=figure == "wape",
                )
            )
        covered, low, high, width = (
            float(row[name] or 0) for name in ("coverage90", "coverage90_low", "coverage90_high", "width90")
        )
        bands.append(
            Calibration(
                name=f"{dataset}/{horizon:g}s",
                promised=0.9,
                covered=covered,
                low=low,
                high=high,
                groups=int(row["groups"] or 0),
                width=width,
            )
        )
    what = f"{directory.resolve().name}, groups kept apart"
    return Evaluation(
        data=what, data_hash=sha256(f"{hashed} apart".encode()).hexdigest(), metrics=metrics, calibration=bands
    )


def _hash(files: Sequence[Path]) -> str:
    """Of names and contents."""
    whole = sha256()
    for path in files:
        whole.update(f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
