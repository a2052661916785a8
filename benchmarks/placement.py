"""``novacron bench placement``: twelve guests with rules in a lab of three sites, placed, rebalanced and drained."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from benchmarks.report import Row

app = typer.Typer(help="Places, rebalances and drains real guests, and holds what is there against what was promised.")


@app.command()
def placement(
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows here.")] = None,
    lab_name: Annotated[str, typer.Option("--lab", help="Name of the lab that is built for it.")] = "placing",
) -> None:
    """Keep every promise; exit code 7 when a guest is not where it was to be, a rule is broken, or one ran twice."""
    from actors.errors import NotFound
    from actors.lab.lab import Lab
    from actors.lab.topology import sites_apart
    from benchmarks.placing.plan import DRAINED, MOST, SITES, twelve
    from benchmarks.placing.run import COLUMNS, Placing
    from benchmarks.report import show, write
    from benchmarks.surviving.observer import Observer

    rows: list[Row] = []
    try:
        lab = Lab.up(sites_apart(lab_name, SITES), note, "novacron")
        with Observer({node.name: node.libvirt_uri for node in lab.plan.nodes}) as observer:
            placing = Placing(lab, observer)
            steps: list[Callable[[], Row]] = [
                partial(placing.place, twelve()),
                partial(placing.rebalance, MOST),
                partial(placing.drain, DRAINED),
                placing.history,
            ]
            for step in steps:
                rows.append(step())
                note(", ".join(f"{name} {value}" for name, value in rows[-1].items() if value not in ("", None)))
                if json is not None:
                    write("placement", rows, json)
    finally:
        with suppress(NotFound):
            Lab.load(lab_name).down()
    show("Promises of placement", rows, COLUMNS)
    if any(row["broken"] for row in rows):
        raise typer.Exit(7)
