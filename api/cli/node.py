"""``novacron node``: run this host's part, in the foreground or in the background."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import sweeps
from api.cli.context import Json
from api.cli.output import as_json, fields, note, say, seconds, table

if TYPE_CHECKING:
    from actors.boot.status import BootStatus
    from actors.config.schema import Config

app = typer.Typer(no_args_is_help=True, help="This host's part of NovaCron; drain any node.")
app.command("drain")(sweeps.drain)
app.command("undrain")(sweeps.undrain)

ConfigFile = Annotated[Path, typer.Option("--config", help="The node's YAML file.")]
_CONFIG = Path("/etc/novacron/node.yaml")


@app.command()
def run(config: ConfigFile = _CONFIG) -> None:
    """Run this node until it is told to stop (SIGTERM)."""
    import asyncio

    from api.node import run_node

    asyncio.run(run_node(config))


@app.command()
def witness(config: ConfigFile = _CONFIG) -> None:
    """Be a member of the control state and nothing else, until told to stop (SIGTERM): no guests, no libvirt, no Ray.

    The third voice of two sites, on any small machine, in a site of its own with `witness: true` in every topology.
    """
    import asyncio

    from actors.witness.process import run_witness

    asyncio.run(run_witness(config))


@app.command()
def start(
    config: ConfigFile = _CONFIG,
    wait_s: Annotated[float, typer.Option("--wait-s", min=1.0, help="Seconds until it must be ready.")] = 180.0,
) -> None:
    """Run this node in the background; returns when it is ready, and fails when it is not going to be."""
    from actors.node import process

    settings = _load(config)
    before = process.find(settings.node.run_dir)
    log = settings.node.state_dir / "log" / "node.log"
    argv = [_novacron(), "node", "run", "--config", str(config.absolute())]
    boot = process.start(argv, settings.node.run_dir, log, wait_s)
    pid = process.find(settings.node.run_dir)
    if before is None:
        say(f"{settings.node.name} is ready after {seconds(boot.elapsed_s)}: process {pid}, log {log}")
    else:
        say(f"{settings.node.name} already runs and is ready: process {pid}")
    for one in boot.components:
        if one.state != "up":
            note(f"  it goes on without {one.name} ({one.state}): {one.reason}")


@app.command()
def stop(
    config: ConfigFile = _CONFIG,
    wait_s: Annotated[float, typer.Option("--wait-s", min=1.0, help="Seconds until it is killed.")] = 60.0,
) -> None:
    """End this node's process and its actors; nothing to do when it does not run.

    Guests keep running; where leases end by time (three sites, or a witness) they are paused after some seconds, and
    run on once the node is back. A node without guests gives its lease back, so that nobody waits for its end.
    """
    from actors.keeper.files import now_ms, read_order
    from actors.node import process

    settings = _load(config)
    order = read_order(settings.node.state_dir)
    ended = process.stop(settings.node.run_dir, wait_s)
    if ended == "killed":
        note(f"  it did not stop within {wait_s:g} s")
    say(f"{settings.node.name} is {ended}" if ended == "not running" else f"{settings.node.name} was {ended}")
    left = read_order(settings.node.state_dir) if order is not None else None
    if left is not None and left.pause_at_ms is not None:
        wait = max(0.0, left.pause_at_ms - now_ms()) / 1000
        note(f"  its lease ends in {wait:.0f} s: guests that run here are paused then, and run on once it is started")


@app.command()
def recover(
    lost: Annotated[list[str], typer.Option("--lost", help="A node that is lost for good; again for each.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you know; kept in the audit trail.")],
    risk: Annotated[str, typer.Option("--risk", help="What it risks, word by word; asked for when left out.")] = "",
    config: ConfigFile = _CONFIG,
) -> None:
    """Let this node's member, stopped, go on without the others, which are lost for good. The last resort."""
    from actors.control.members import FOLDER
    from actors.control.recovery import recovering
    from actors.errors import Conflict
    from actors.node import process

    settings = _load(config)
    if process.find(settings.node.run_dir) is not None:
        raise Conflict(detail=f"{settings.node.name} runs: `novacron node stop` first")
    with recovering(settings.node.state_dir / FOLDER, settings, tuple(lost)) as recovery:
        if not risk:
            say(recovery.risk)
            risk = typer.prompt("Type this sentence to go on")
        recovery.go_on(risk, reason)
    say(f"{settings.node.name} is the only member of the control state now. Start it: `novacron node start`.")


@app.command()
def status(config: ConfigFile = _CONFIG, json: Json = False) -> None:
    """Show this node's process and how far its start is; exit code 6 unless it runs and is ready."""
    from actors.node import process

    settings = _load(config)
    pid = process.find(settings.node.run_dir)
    boot = process.read_status(settings.node.run_dir)
    if json:
        as_json({"node": settings.node.name, "pid": pid, "boot": boot})
    else:
        _show(settings, pid, boot)
    if pid is None or boot is None or boot.phase != "ready":
        raise typer.Exit(6)


def _show(settings: "Config", pid: int | None, boot: "BootStatus | None") -> None:
    phase = "nothing has begun" if boot is None else f"{boot.phase}, {seconds(boot.elapsed_s)} after its start"
    fields(
        [
            ("node", settings.node.name),
            ("site", settings.site.name),
            ("process", "not running" if pid is None else str(pid)),
            ("phase" if pid is not None else "it was", phase),
        ]
    )
    if boot is not None:
        rows = [[one.name, one.phase, one.criticality, one.state, one.reason] for one in boot.components]
        table(["component", "phase", "criticality", "state", "reason"], rows, "It has no components.")


def _load(file: Path) -> "Config":
    from actors.config.load import load

    return load(file, os.environ)


def _novacron() -> str:
    """This very program, beside the Python that runs it."""
    import sys

    from actors.errors import SetupMissing

    program = Path(sys.executable).with_name("novacron")
    if not program.exists():
        raise SetupMissing(what=f"novacron beside {sys.executable} (install novacron[node])")
    return str(program)
