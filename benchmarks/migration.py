"""``novacron bench migration``: one guest, one line: QEMU's own ways to move a guest and NovaCron's, side by side."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from actors.hypervisor.messages import GuestSpec
    from actors.lab.lab import Lab
    from actors.lab.topology import Shape
    from benchmarks.moving.loads import NamedLoad
    from benchmarks.moving.run import Bench

app = typer.Typer(help="Moves a running guest over an emulated line with QEMU's own means and with NovaCron.")


@app.command()
def migration(
    link: Annotated[str, typer.Option(help="RATE,RTT[,LOSS[,JITTER]].")] = "100mbit,50ms,0%",
    guest_memory: Annotated[int, typer.Option(min=128, max=1 << 20, help="MiB.")] = 1024,
    loads: Annotated[str, typer.Option(help="What the guest does: light, heavy, kv, with commas between.")] = "light",
    load: Annotated[str, typer.Option(help="Instead of --loads: REGION_MIB,PAGES_PER_S,BYTES_EACH.")] = "",
    cache: Annotated[int, typer.Option(min=0, help="MiB of real files in the guest's page cache.")] = 320,
    only: Annotated[str, typer.Option(help="Systems to measure, with commas between; without: all.")] = "",
    stores: Annotated[
        str, typer.Option(help="What NovaCron's target knows: empty, image, visited, with commas between.")
    ] = "image",
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each system, taken in turns.")] = 1,
    pauses: Annotated[int, typer.Option(min=0, max=1000, help="Also move one guest so often to and fro.")] = 0,
    aim: Annotated[float, typer.Option(min=0, help="Seconds for qemu-raised; 0: NovaCron's median here.")] = 0.0,
    deadline: Annotated[float, typer.Option(min=10, help="Seconds after which a move is given up.")] = 600.0,
    budget_s: Annotated[float, typer.Option(min=0, help="Begin no measurement after so long; 0: no bound.")] = 0.0,
    zstd_level: Annotated[int, typer.Option(min=0, max=20, help="Of multifd+zstd; 0: find the best one.")] = 0,
    channels: Annotated[int, typer.Option(min=0, max=255, help="Of multifd; 0: find the best number.")] = 0,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Measure only what the file lacks.")] = False,
    lab_name: Annotated[str, typer.Option("--lab", help="Use this lab if it is up, else build it.")] = "bench",
    keep_lab: Annotated[bool, typer.Option("--keep-lab", help="Leave the lab up at the end.")] = False,
) -> None:
    """Measure total time, pause and bytes on the wire, and let the guest say whether it came through intact."""
    from actors.lab.guests import Load
    from actors.lab.topology import parse_shape
    from api.cli.guest_spec import lab_spec
    from benchmarks.moving.loads import parse_loads, parse_stores
    from benchmarks.moving.plan import by_lab, missing, tasks
    from benchmarks.moving.rivals import parse_systems
    from benchmarks.moving.rows import COLUMNS, with_speedup
    from benchmarks.moving.sheet import Sheet
    from benchmarks.report import read, show

    shape, wanted = parse_shape(link), parse_loads(loads, str(Load.parse(load)) if load else "")
    plan = tasks(wanted, parse_stores(stores), parse_systems(only), repeat, pauses)
    rows = read(json) if resume and json is not None else []

    def spec(name: str, load: "NamedLoad") -> "GuestSpec":
        return lab_spec(name, load.kind, guest_memory, load.load, cache, 0)

    for one in wanted:
        spec("bench", one)  # numbers that can't be are told before the lab is built
    until = time.monotonic() + (budget_s or float("inf"))
    sheet = Sheet(rows, json, str(shape), guest_memory, cache, (channels, zstd_level), pauses, aim, until, note)
    for images, group in by_lab(missing(plan, rows)):
        if time.monotonic() > until:
            break
        os.environ["NOVACRON_ENCODING__IMAGES"] = "true" if images else "false"  # for the lab built here
        name = lab_name if images else f"{lab_name}-empty"
        with _lab(name, shape, keep_lab) as lab, _bench(lab, shape, spec, deadline) as bench:
            sheet.measure(bench, group)
    show(f"Moves of a guest of {guest_memory} MiB over {shape}", with_speedup(sheet.rows), COLUMNS)
    if left := missing(plan, sheet.rows):
        note(f"{len(left)} of {len(plan)} measurements are left; --resume goes on with them")


@contextmanager
def _lab(name: str, shape: "Shape", keep: bool) -> "Iterator[Lab]":
    """The lab called `name`, with NovaCron on its nodes; one that was built here is removed unless `keep`."""
    from actors.errors import Conflict, NotFound
    from actors.lab.lab import Lab
    from actors.lab.topology import default_topology

    try:
        lab, made = Lab.load(name), False
    except NotFound:
        note("building two sites on this machine")
        lab, made = None, True
    if lab is not None and not lab.status().healthy:
        raise Conflict(detail=f"lab {name!r} is not well; `novacron lab status --lab {name}` says what is wrong")
    try:
        lab = lab or Lab.up(default_topology(name, shape), note, "novacron")
        yield lab
    finally:
        if made and not keep:
            with suppress(NotFound):
                Lab.load(name).down()
        elif not made and lab is not None:
            lab.restore_links()


@contextmanager
def _bench(
    lab: "Lab", shape: "Shape", spec: "Callable[[str, NamedLoad], GuestSpec]", deadline_s: float
) -> "Iterator[Bench]":
    """A bench between the first two sites that a line joins."""
    from actors.errors import Conflict
    from api.cli.client import Client
    from api.cli.target import Target
    from benchmarks.moving.run import Bench

    if not lab.plan.links:
        raise Conflict(detail=f"lab {lab.plan.name!r} has no line between two sites")
    link = lab.plan.links[0]
    nodes = (lab.plan.lead(link.site_a), lab.plan.lead(link.site_b))
    token = lab.plan.api_token_file.read_text(encoding="utf-8").strip()
    with ExitStack() as stack:
        apis = {node.name: stack.enter_context(Client(Target(url=node.api_url, token=token))) for node in nodes}
        yield Bench(lab, shape, spec, apis, (nodes[0].name, nodes[1].name), link.name, deadline_s, note)
