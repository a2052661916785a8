"""``novacron bench faults``: every fault at every phase of a move in a lab of sites, each checked by history."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from benchmarks.report import Row

# After so many failures one after the other nothing more is to be learnt from this lab.
_GIVE_UP = 3
# Sites, and how many of them have a witness in place of guests.
_SITES = {"raft": (3, 0), "bft": (4, 2)}
app = typer.Typer(help="Kills and cuts everything in turn while a guest moves, and proves that it had one owner.")


@app.command()
def faults(
    only: Annotated[str, typer.Option(help="Only faults whose name holds this: 'kill agent', 'cut site'.")] = "",
    phases: Annotated[str, typer.Option(help="Moments to strike, with commas.")] = (
        "idle,begin,copying,switchover,arrived"
    ),
    json: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the rows here, beside those it has."),
    ] = None,
    mode: Annotated[
        Literal["raft", "bft"],
        typer.Option(
            help="What the members agree by: raft in three sites, bft (one may lie) in two and two witnesses."
        ),
    ] = "raft",
    lab_name: Annotated[str, typer.Option("--lab", help="Name of the lab that is built for it.")] = "faults",
) -> None:
    """Survive every fault; exit code 7 when a history broke an invariant, or something did not come back."""
    from actors.errors import BadRequest, NotFound, NovaCronError
    from actors.lab.lab import Lab
    from actors.lab.topology import sites_apart
    from benchmarks.report import read, show, write
    from benchmarks.surviving.observer import Observer
    from benchmarks.surviving.plan import PHASES, matrix
    from benchmarks.surviving.run import COLUMNS, Sites

    chosen = tuple(phase for phase in PHASES if phase in phases.split(","))
    if len(chosen) != len(phases.split(",")):
        raise BadRequest(detail=f"--phases {phases!r}: there are {', '.join(PHASES)}")
    os.environ["NOVACRON_CONSENSUS__MODE"] = mode  # for the lab built here
    topology = sites_apart(lab_name, *_SITES[mode])
    rows: list[Row] = read(json) if json is not None else []
    # A broken history stays on record; only what the benchmark could not finish is tried again.
    rows = [row for row in rows if "move" in row]
    known = {(row["fault"], row["phase"]) for row in rows}
    failed, in_a_row = any(row["broken"] for row in rows), 0
    try:
        lab = Lab.up(topology, note, "novacron")
        with Observer({node.name: node.libvirt_uri for node in lab.plan.hosts}) as observer:
            sites = Sites(lab, observer, mode)
            sites.begin()
            for cell in matrix(only, chosen, bool(sites.witnesses)):
                if (str(cell.fault), cell.phase) in known:
                    continue
                try:
                    row = sites.try_(cell)
                except NovaCronError as error:
                    row = {"fault": str(cell.fault), "phase": cell.phase, "broken": str(error)}
                rows.append(row)
                note(", ".join(f"{name} {value}" for name, value in row.items() if value not in ("", None)))
                if json is not None:
                    write("faults", rows, json)
                failed = failed or bool(row["broken"])
                in_a_row = in_a_row + 1 if row["broken"] else 0
                if in_a_row == _GIVE_UP:
                    break
    finally:
        with suppress(NotFound):
            Lab.load(lab_name).down()
    show("Faults survived", rows, COLUMNS)
    if failed:
        raise typer.Exit(7)
