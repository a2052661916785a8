"""``novacron bench migration``: one guest, one line: QEMU's own ways to move a guest and NovaCron's, side by side."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from api.cli.output import note

if TYPE_CHECKING:
    from actors.hypervisor.messages import GuestSpec
    from actors.lab.lab import Lab
    from actors.lab.topology import Shape
    from benchmarks.moving.rivals import Tuning
    from benchmarks.moving.rows import Setting
    from benchmarks.moving.run import Bench
    from benchmarks.report import Row

app = typer.Typer(help="Moves a running guest over an emulated line with QEMU's own means and with NovaCron.")


class Store(StrEnum):
    """What the target's store knows when NovaCron moves the guest."""

    image = "image"
    empty = "empty"


_TUNED: Final = "qemu-multifd-zstd"
_CHANNELS, _ZSTD_LEVEL = 4, 1  # where nothing was given or found


@app.command()
def migration(
    link: Annotated[str, typer.Option(help="RATE,RTT[,LOSS[,JITTER]].")] = "100mbit,50ms,0%",
    guest_memory: Annotated[int, typer.Option(min=128, max=1 << 20, help="MiB.")] = 1024,
    load: Annotated[str, typer.Option(help="REGION_MIB,PAGES_PER_S,BYTES_EACH.")] = "64,2000,64",
    cache: Annotated[int, typer.Option(min=0, help="MiB of real files in the guest's page cache.")] = 320,
    only: Annotated[str, typer.Option(help="Systems to measure, with commas between; without: all.")] = "",
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Runs of each system, taken in turns.")] = 1,
    deadline: Annotated[float, typer.Option(min=10, help="Seconds after which a move is given up.")] = 600.0,
    zstd_level: Annotated[int, typer.Option(min=0, max=20, help="Of multifd+zstd; 0: find the best one.")] = 0,
    channels: Annotated[int, typer.Option(min=0, max=255, help="Of multifd; 0: find the best number.")] = 0,
    store: Annotated[
        Store, typer.Option(help="Whether NovaCron's ends may refer to the disk image both have.")
    ] = Store.image,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
    lab_name: Annotated[str, typer.Option("--lab", help="Use this lab if it is up, else build it.")] = "bench",
    keep_lab: Annotated[bool, typer.Option("--keep-lab", help="Leave the lab up at the end.")] = False,
) -> None:
    """Measure total time, pause and bytes on the wire, and let the guest say whether it came through intact."""
    from actors.hypervisor.messages import GuestSpec
    from actors.lab.guests import Load
    from actors.lab.topology import parse_shape
    from api.cli.guest_spec import lab_spec
    from benchmarks.moving.rivals import parse_systems
    from benchmarks.moving.rows import COLUMNS, Setting, with_speedup
    from benchmarks.report import show

    systems, shape = parse_systems(only), parse_shape(link)
    setting = Setting(link=str(shape), load=str(Load.parse(load)), memory_mib=guest_memory, cache_mib=cache)

    def spec(name: str) -> GuestSpec:
        return lab_spec(name, "memory", guest_memory, setting.load, cache, 0)

    if store is Store.empty:  # for the lab built here
        os.environ |= {"NOVACRON_ENCODING__IMAGES": "false", "NOVACRON_ENCODING__STORE_MIB": "0"}
    spec("bench")  # numbers that can't be are told before the lab is built
    with _lab(lab_name, shape, keep_lab) as lab, _bench(lab, shape, spec, deadline) as bench:
        rows = _measure(bench, setting, systems, repeat, (channels, zstd_level), json)
    show(
        f"Moves of a guest of {guest_memory} MiB over {setting.link}, load {setting.load}", with_speedup(rows), COLUMNS
    )


def _measure(
    bench: "Bench", setting: "Setting", systems: list[str], repeat: int, given: tuple[int, int], file: Path | None
) -> "list[Row]":
    """All rows; `file` is written anew after each, so that a run that is broken off keeps what it has."""
    from benchmarks.moving.rows import row, with_speedup
    from benchmarks.report import write

    tunings, tried = _tunings(bench, setting, systems, given)
    rows: list[Row] = []
    for run in range(1, repeat + 1):
        for system in systems:
            measured, judged = bench.measure(system, run, tunings[system])
            rows.append(row(setting, system, run, tunings[system], measured, judged, tried.get(system, "")))
            if file is not None:
                write("migration", with_speedup(rows), file)
    return rows


def _tunings(
    bench: "Bench", setting: "Setting", systems: list[str], given: tuple[int, int]
) -> "tuple[dict[str, Tuning], dict[str, str]]":
    """What each system is told, and for multifd+zstd what was tried to find it."""
    from benchmarks.moving.rivals import RIVALS, Tuning
    from benchmarks.moving.tuning import best, next_tuning, tell

    channels, level = given
    tried: dict[str, str] = {}
    if _TUNED in systems and not (channels and level):
        found = bench.tune(_TUNED, lambda so_far: next_tuning(so_far, *given))
        tried[_TUNED] = tell(found)
        winner = best(found)
        if winner is not None:
            channels, level = winner.channels, winner.zstd_level
            note(f"{_TUNED}: zstd level {level} and {channels} channels served it best, of {tried[_TUNED]}")
    channels, level = channels or _CHANNELS, level or _ZSTD_LEVEL
    tunings = {rival: Tuning.of(rival, setting.memory_mib, channels, level) for rival in RIVALS}
    return {system: tunings[system] if system in RIVALS else Tuning() for system in systems}, tried


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
def _bench(lab: "Lab", shape: "Shape", spec: "Callable[[str], GuestSpec]", deadline_s: float) -> "Iterator[Bench]":
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
