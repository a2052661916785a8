"""``novacron bench replay``: whole moves over recorded links, decided with one forecaster after the other."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.model_registry import opened
from api.cli.output import note

app = typer.Typer(help="Plays whole moves over recorded links with the product's decisions and several forecasters.")


@app.command()
def replay(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder of CSV files (trace_id,t,bw_mbps).")],
    index: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="CSV with trace_id and group; else a trace is one.")
    ] = None,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
    per_set: Annotated[int, typer.Option(min=1, max=10_000, help="Recordings of each file, at most.")] = 8,
    pause_ms: Annotated[int, typer.Option(min=1, max=60_000, help="Budget of the pause.")] = 300,
    tune: Annotated[bool, typer.Option("--tune", help="Play the recordings that decisions are tuned on.")] = False,
    registry: Annotated[
        Path | None, typer.Option(file_okay=False, help="Whose forecaster in use `pba` asks; else the package's own.")
    ] = None,
) -> None:
    """Play each recording with each kind of guest and each forecaster; the same decisions, the same moves."""
    from benchmarks.replaying.rows import ALL, COLUMNS, rows
    from benchmarks.replaying.run import Pair, pairs
    from benchmarks.replaying.systems import systems
    from benchmarks.replaying.traces import chosen, parted, read_recorded
    from benchmarks.report import show, write
    from models.bandwidth import load_forecaster

    with opened(registry, "bandwidth"):
        forecaster = load_forecaster(None, registry)
    note(f"pba asks the forecaster {forecaster.version}")
    to_tune, to_report = parted(read_recorded(data, index))
    picked = chosen(to_tune if tune else to_report, per_set)
    played: list[Pair] = []
    for pair in pairs(picked, systems(forecaster), pause_ms):
        if not played or played[-1].recorded.name != pair.recorded.name:
            note(f"{pair.recorded.dataset}: {pair.recorded.name}")
        played.append(pair)
    found = rows(played, pause_ms)
    if json is not None:
        write("replay", found, json)
    show(f"{len(played)} moves with a pause of {pause_ms} ms", [row for row in found if ALL in row.values()], COLUMNS)
