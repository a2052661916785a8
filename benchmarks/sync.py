"""``novacron bench sync``: three sites' facts after a partition, beside gossip of the whole state."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from benchmarks.report import Row

app = typer.Typer(help="Cuts one of three sites off, writes on both sides, and measures until all have the same.")


@app.command()
def sync(
    guests: Annotated[int, typer.Option(min=1, max=30_000, help="Each site has one fact of each.")] = 1000,
    differences: Annotated[str, typer.Option(help="Facts written during each cut, with commas.")] = "10,100,1000",
    cut_s: Annotated[float, typer.Option(min=20, max=3600, help="How long each cut lasts.")] = 60.0,
    link: Annotated[str, typer.Option(help="Shape of the three lines.")] = "100mbit,50ms,0%",
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
    lab_name: Annotated[str, typer.Option("--lab", help="Name of the lab that is built for it.")] = "sync",
) -> None:
    """Measure seconds to convergence and bytes exchanged."""
    from actors.errors import BadRequest, NotFound
    from actors.lab.lab import Lab
    from actors.lab.topology import LabSite, LabTopology, Link, parse_shape
    from benchmarks.report import show, write
    from benchmarks.syncing.run import COLUMNS, measure

    try:
        counts = [int(each) for each in differences.split(",")]
    except ValueError:
        raise BadRequest(detail=f"--differences {differences!r}: write whole numbers with commas between") from None
    shape = parse_shape(link).model_dump()
    names = ("london", "paris", "madrid")
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    topology = LabTopology(
        name=lab_name,
        sites=[LabSite(name=name) for name in names],
        links=[Link(between=pair, **shape) for pair in pairs],
    )
    rows: list[Row] = []
    try:
        lab = Lab.up(topology, note, "hosts")
        for row in measure(lab, guests, counts, cut_s):
            rows.append(row)
            note(f"{row['system']}, {row['phase']}: {row['converged_s']} s, {row['exchanged_bytes']} bytes")
            if json is not None:
                write("sync", rows, json)
    finally:
        with suppress(NotFound):
            Lab.load(lab_name).down()
    show("Facts of three sites", rows, COLUMNS)
