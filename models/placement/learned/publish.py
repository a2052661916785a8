"""From traces to a version in the registry, with figures from later days than those it was trained on."""

import io
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path

import torch

from models.placement.evaluate import POLICIES, Row, evaluate
from models.placement.learned import SCORER
from models.placement.learned.scorer import Scorer
from models.placement.learned.training import Args, train
from models.placement.traces import read_guests
from models.registry import Card, Evaluation, Metric, Registry

BASELINES = ("first-fit", "best-fit", "site-sticky")
SPLIT_POINTS = 0.01
"""So much more of the pairs than site-sticky a version may split."""
ALLOCATED_POINTS = 0.002
"""So much less of the cores than first fit it may have in use."""


def publish(
    registry: Registry,
    traces: list[Path],
    args: Args,
    *,
    windows: int = 10,
    seeds: int = 2,
    hosts: int = 60,
    progress: Callable[[int, float], None] | None = None,
) -> Card:
    """Train on the first part of each trace, compare with the rules on the rest, publish; nothing is promoted.

    Args:
        windows, seeds, hosts: of the comparison, as `models.placement.evaluate.evaluate` takes them.
        progress: told each generation and its candidates' mean cost.

    Raises:
        ValueError: a trace can't be read, has no lifetimes or is too short.
        RegistryError: nothing can be written there.
    """
    scorer = train([read_guests(trace) for trace in traces], args, progress)
    return put_in(registry, scorer, traces, args, windows=windows, seeds=seeds, hosts=hosts)


def put_in(
    registry: Registry, scorer: Scorer, traces: list[Path], args: Args, *, windows: int, seeds: int, hosts: int
) -> Card:
    """Compare a trained scorer with the rules and publish it; as `publish`."""
    hashed = _hash(traces)
    metrics: list[Metric] = []
    ways = {name: POLICIES[name] for name in BASELINES}
    for trace in traces:
        rows = evaluate(trace, None, args.loads, windows=windows, seeds=seeds, hosts=hosts, scorer=scorer, ways=ways)
        metrics += _metrics(trace.name.partition(".")[0], rows)
    content = io.BytesIO()
    torch.save(scorer.tensors(), content)
    names = ", ".join(trace.name for trace in traces)
    what = f"{names}: the last three fifths, {windows} windows, {seeds} seeds, {hosts} hosts"
    card = Card(
        kind="placement",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        created_by="novacron models train",
        code_version=version_of("novacron"),
        data=names,
        data_hash=hashed,
        seed=args.seed,
        evaluation=Evaluation(data=what, data_hash=sha256(f"{hashed} {what}".encode()).hexdigest(), metrics=metrics),
        settings={name: str(value) if isinstance(value, tuple) else value for name, value in asdict(args).items()},
    )
    return registry.publish({SCORER: content.getvalue()}, card)


def _metrics(name: str, rows: list[Row]) -> list[Metric]:
    """Of each load, with lifetimes and without: rejected and allocated cores and, where there are any, split pairs."""
    by = {(row["load"], row["policy"]): row for row in rows}
    found = []
    for (load, policy), row in by.items():
        if policy not in ("learned", "learned-blind"):
            continue
        rules = {rule: by[load, rule] for rule in BASELINES}
        head, sticky = f"{name}/{load}/{policy}", float(rules["site-sticky"]["split_pairs"] or 0)
        found.append(_metric(f"{head}/rejected_cores", row, rules))
        first = {"first-fit": rules["first-fit"]}
        least = ALLOCATED_POINTS / max(float(first["first-fit"]["cpu_allocated"] or 0), ALLOCATED_POINTS)
        found.append(_metric(f"{head}/cpu_allocated", row, first, better="higher", tolerance=least))
        if sticky > 0:
            only = {"site-sticky": rules["site-sticky"]}
            found.append(_metric(f"{head}/split_pairs", row, only, tolerance=SPLIT_POINTS / sticky))
    return found


def _metric(name: str, row: Row, rules: dict[str, Row], **options: object) -> Metric:
    figure = name.rpartition("/")[2]
    baselines = {rule: float(of[figure] or 0) for rule, of in rules.items()}
    return Metric(name=name, value=float(row[figure] or 0), baselines=baselines, **options)  # type: ignore[arg-type]


def _hash(traces: list[Path]) -> str:
    """Of names and contents."""
    whole = sha256()
    for path in sorted(traces):
        whole.update(f"{path.name}\0{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
