"""``novacron lab``: a whole WAN on one machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json
from api.cli.output import as_json, fields, note, say, size, table

if TYPE_CHECKING:
    from actors.lab.line import Change, Way
    from actors.lab.status import LabStatus

app = typer.Typer(no_args_is_help=True, help="Sites, nodes and an emulated WAN on this machine (needs root).")
Lab = Annotated[str, typer.Option("--lab", help="The lab's name.")]


@app.command()
def up(
    topology: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file; without: two sites of one node.")
    ] = None,
    json: Json = False,
) -> None:
    """Build the lab and start NovaCron on its nodes."""
    from actors.lab.lab import up as build

    made = build(topology, note)
    _tell(made, json)


@app.command()
def status(name: Lab = "default", json: Json = False) -> None:
    """Show what is alive; exit code 6 unless all of it is well."""
    from actors.lab.lab import status as ask

    found = ask(name)
    _tell(found, json)
    if not found.healthy:
        raise typer.Exit(6)


@app.command()
def down(name: Lab = "default") -> None:
    """Remove exactly what `lab up` made."""
    from actors.lab.lab import down as remove

    say(f"lab {name} is gone, {remove(name)} processes were ended")


@app.command()
def link(
    name: Annotated[str, typer.Argument(help="The line's name, such as madrid-paris.")],
    shape: Annotated[str, typer.Option(help="RATE,RTT[,LOSS[,JITTER]], for example 100mbit,50ms,0%.")] = "",
    state: Annotated[str, typer.Option(help="pass, hole (drop silently) or cut (refuse).")] = "",
    direction: Annotated[str, typer.Option(help="both, ab or ba.")] = "both",
    lab: Lab = "default",
    json: Json = False,
) -> None:
    """Change a line while it runs, and show its counters."""
    from actors.lab.lab import link as change_line

    line = change_line(name, _change(shape, state, direction), lab)
    if json:
        as_json(line)
        return
    columns = ["way", "state", "rate", "delay", "jitter", "loss", "queued", "carried", "dropped"]
    table(columns, [_way("a → b", line.ab), _way("b → a", line.ba)], "")


def _change(shape: str, state: str, direction: str) -> "Change":
    import msgspec

    from actors.errors import BadRequest
    from actors.lab.line import Change
    from actors.lab.topology import parse_shape

    values: dict[str, object] = {"direction": direction, "state": state or None}
    if shape:
        asked = parse_shape(shape)
        values |= {
            "rate_bps": asked.rate_bps, "delay_us": asked.delay_us, "jitter_us": round(asked.jitter_ms * 1000),
            "loss_ppm": round(asked.loss_percent * 10_000), "queue_bytes": asked.queue_bytes,
        }  # fmt: skip
    try:
        return msgspec.convert(values, Change)
    except msgspec.ValidationError as error:
        raise BadRequest(detail=f"the line: {error}") from error


def _way(name: str, way: "Way") -> list[str]:
    rate = f"{way.rate_bps / 1e6:g} Mbit/s" if way.rate_bps else "unlimited"
    dropped = way.lost_packets + way.queue_drops + way.hole_drops + way.cut_drops
    return [
        name, way.state, rate, f"{way.delay_us / 1000:g} ms",
        f"{way.jitter_us / 1000:g} ms", f"{way.loss_ppm / 10_000:g} %", size(way.queued_bytes), size(way.out_bytes),
        f"{dropped} packets",
    ]  # fmt: skip


def _tell(lab: "LabStatus", json: bool) -> None:
    if json:
        as_json(lab)
        return
    fields([("lab", lab.name), ("state", lab.state_dir), ("token", lab.api_token_file), ("emulator", lab.emulator)])
    rows = [
        [
            node.name, node.site, node.address, "up" if node.running else "down",
            "none" if node.witness else node.libvirt or "up",
            "none" if node.witness else "up" if node.ray else "down",
            node.novacron or ("witness" if node.witness else "up"), node.api_url,
        ]
        for node in lab.nodes
    ]  # fmt: skip
    table(["node", "site", "address", "node is", "libvirt", "ray", "novacron", "api"], rows, "It has no nodes.")
    lines = [[link.name, f"{link.site_a}, {link.site_b}", link.problem or "up"] for link in lab.links]
    table(["link", "sites", "is"], lines, "It has no links.")
