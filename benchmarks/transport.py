"""``novacron bench transport``: one line after the other: AMST's goodput beside iperf3's, rsync's and scp's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from actors.lab.lab import Lab
    from benchmarks.carrying.points import Carried, Point
    from benchmarks.report import Row

app = typer.Typer(help="Carries bytes over emulated lines with AMST and with iperf3, rsync and scp.")


@app.command()
def transport(
    points: Annotated[str, typer.Option(help="MBIT/RTT_MS/LOSS_PERCENT, with commas between; without: all 18.")] = "",
    only: Annotated[str, typer.Option(help="Systems to measure, with commas between; without: all.")] = "",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Measured of each system.")] = 8.0,
    warm: Annotated[float, typer.Option(min=0, max=60, help="Seconds before that, not measured.")] = 4.0,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each system, taken in turns.")] = 1,
    events: Annotated[
        bool, typer.Option("--events", help="Instead: a stream dies, the rate falls, the line is cut; AMST alone.")
    ] = False,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
    lab_name: Annotated[str, typer.Option("--lab", help="Use this lab if it is up, else build it.")] = "transport",
    keep_lab: Annotated[bool, typer.Option("--keep-lab", help="Leave the lab up at the end.")] = False,
) -> None:
    """Measure goodput in the steady state: payload that reached the far program, per second."""
    from benchmarks.carrying.points import COLUMNS, EVENT_COLUMNS, parse_points, parse_systems, with_best
    from benchmarks.report import show

    wanted, systems = parse_points(points), parse_systems(only)
    with _lab(lab_name, wanted[0], keep_lab) as lab:
        if events:
            show("Bad moments on the line", _events(lab, wanted, warm, json), EVENT_COLUMNS)
            return
        rows = _measure(lab, wanted, systems, (warm, seconds), repeat, json)
    show("Goodput over emulated lines", with_best(rows), COLUMNS)


def _measure(
    lab: "Lab", points: "list[Point]", systems: list[str], times_s: tuple[float, float], repeat: int, file: Path | None
) -> "list[Row]":
    """All rows; `file` is written anew after each, so that a run that is broken off keeps what it has."""
    from benchmarks.carrying.points import row, with_best
    from benchmarks.carrying.rivals import servers
    from benchmarks.moving.run import line_change
    from benchmarks.report import write

    nodes = (lab.plan.nodes[0].name, lab.plan.nodes[1].name)
    line = lab.link(lab.plan.links[0].name)
    rows: list[Row] = []
    with servers(lab, nodes[1]) as key:
        for point in points:
            line.change(line_change(point.shape))
            for run in range(1, repeat + 1):
                for system in systems:
                    carried = _carry(lab, nodes, system, key, times_s)
                    note(f"{point.rate_mbit:g}/{point.rtt_ms:g}/{point.loss_pct:g} {system}: {carried.goodput_mbit}")
                    rows.append(row(point, system, run, carried))
                    if file is not None:
                        write("transport", with_best(rows), file)
    return rows


def _events(lab: "Lab", points: "list[Point]", warm_s: float, file: Path | None) -> "list[Row]":
    from benchmarks.carrying.events import measure
    from benchmarks.moving.run import line_change
    from benchmarks.report import write

    nodes = (lab.plan.nodes[0].name, lab.plan.nodes[1].name)
    line = lab.link(lab.plan.links[0].name)
    rows: list[Row] = []
    for point in points:
        line.change(line_change(point.shape))
        rows += measure(lab, nodes, line, point, warm_s)
        if file is not None:
            write("transport-events", rows, file)
    return rows


def _carry(lab: "Lab", nodes: tuple[str, str], system: str, key: Path, times_s: tuple[float, float]) -> "Carried":
    from benchmarks.carrying import amst, rivals
    from benchmarks.carrying.points import AMST, IPERF

    if system == AMST:
        return amst.carry(lab, nodes, *times_s)
    if system in IPERF:
        return rivals.iperf3(lab, nodes, system, *times_s)
    return rivals.copy(lab, nodes, system, key, *times_s)


@contextmanager
def _lab(name: str, point: "Point", keep: bool) -> "Iterator[Lab]":
    """Two hosts and a line between them, nothing running on them; one that was built here is removed unless `keep`."""
    from actors.errors import NotFound
    from actors.lab.lab import Lab
    from actors.lab.topology import default_topology

    try:
        lab = Lab.load(name)
    except NotFound:
        try:
            yield Lab.up(default_topology(name, point.shape), note, "hosts")
        finally:
            if not keep:
                with suppress(NotFound):
                    Lab.load(name).down()
        return
    try:
        yield lab
    finally:
        lab.restore_links()
