"""``novacron models evaluate``: a kind of model beside its opponents, on recordings."""

import math
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from api.cli.model_registry import Root, opened
from api.cli.output import as_json, note, say

app = typer.Typer(no_args_is_help=True, help="Compare a kind of model with its opponents on recordings.")


@app.command()
def bandwidth(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Directory of CSVs: trace_id,t,bw_mbps,…")],
    index: Annotated[Path | None, typer.Option(exists=True, help="CSV of groups; else DIR/index.csv.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer updates and examples: a few minutes.")] = False,
    json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Write the report to this file.")] = None,
) -> None:
    """Cross-validate over groups for three seeds, beside every opponent; without --json the report is printed."""
    from actors.errors import BadRequest, SetupMissing

    try:
        from models.bandwidth.evaluate import evaluate
    except ModuleNotFoundError as error:
        raise SetupMissing(what=f"the package {error.name}: pip install 'novacron[research]'") from error
    try:
        report = evaluate(data, index, quick=quick, progress=note)
    except ValueError as error:
        raise BadRequest(detail=str(error)) from error
    _hand_over(report, json)


@app.command()
def placement(
    trace: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV[.gz]: vcpu,mem_gb,arrive_s,life_s,…")],
    nodes: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CSV[.gz]: cpu,memory_gib[,cells,site,…,count].")
    ] = None,
    load: Annotated[str, typer.Option(help="Cores of the cluster as shares of the peak demand.")] = "0.7,0.9,1.1",
    windows: Annotated[int, typer.Option(min=1, help="Spans of the trace, for each seed.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="How often the tenants are drawn anew.")] = 5,
    hosts: Annotated[int, typer.Option(min=3, help="About how many nodes the demand is scaled to.")] = 60,
    version: Annotated[str | None, typer.Option(help="Of the registry; without: the one in use, if any is.")] = None,
    root: Root = None,
    json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Write the report to this file.")] = None,
) -> None:
    """Compare the rules and a trained version over the same pre-filled windows; without --json it is printed."""
    from actors.errors import BadRequest
    from models.placement.evaluate import evaluate
    from models.placement.policy import load_scorer

    with opened(root, "placement") as registry:
        scorer = load_scorer(registry, version)
    try:
        rows = evaluate(
            trace, nodes, _loads(load), windows=windows, seeds=seeds, hosts=hosts, scorer=scorer, progress=note
        )
    except ValueError as error:
        raise BadRequest(detail=str(error)) from error
    _hand_over({"rows": rows}, json)


def _loads(text: str) -> tuple[float, ...]:
    """The loads of a comma-separated list.

    Raises:
        ValueError: one is not a number above 0.
    """
    try:
        loads = tuple(float(part) for part in text.split(","))
    except ValueError:
        loads = ()
    if not loads or not all(0 < load < math.inf for load in loads):
        raise ValueError(f"--load {text}: give numbers above 0, as in 0.7,0.9,1.1")
    return loads


def _hand_over(report: object, file: Path | None) -> None:
    if file is None:
        as_json(report)
        return
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    say(f"The report is in {file}.")
