"""``novacron bench encoding``: recorded memory of real guests: NovaCron's layers beside other programs."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.output import note

app = typer.Typer(help="Encodes recorded memory of real guests with NovaCron's layers and with other programs.")


@app.command()
def encoding(
    guests: Annotated[str, typer.Option(help="Guests to record, with commas between; without: all.")] = "",
    only: Annotated[str, typer.Option(help="Systems to measure, with commas between; without: all.")] = "",
    guest_memory: Annotated[int, typer.Option(min=256, max=1 << 16, help="MiB.")] = 512,
    settle: Annotated[float, typer.Option(min=0, max=3600, help="Seconds of work before the first snapshot.")] = 20.0,
    apart: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between the two snapshots.")] = 5.0,
    cache: Annotated[int, typer.Option(min=8, max=4096, help="MiB that NovaCron's caches may hold.")] = 512,
    record: Annotated[bool, typer.Option("--record", help="Only make the recordings that are missing.")] = False,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
) -> None:
    """Measure ratio and speed of every layer and rival, on memory that real guests had; needs root, no lab."""
    from actors.lab.guests import build
    from api.cli.guest_spec import IMAGES
    from benchmarks.coding.recording import parse_guests, recorded
    from benchmarks.coding.rows import COLUMNS, parse_systems
    from benchmarks.coding.run import Bench
    from benchmarks.report import Row, show, write

    names, systems = parse_guests(guests), parse_systems(only)
    images = build(IMAGES)
    recordings = [recorded(name, guest_memory, settle, apart, images, note) for name in names]
    if record:
        return
    rows: list[Row] = []
    bench = Bench(systems, cache, note)
    for recording in recordings:
        for one in bench.rows(recording):
            rows.append(one)
            if json is not None:
                write("encoding", rows, json)
    show(f"Encodings of guests of {guest_memory} MiB", rows, COLUMNS)
