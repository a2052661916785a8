"""``novacron``: every command's name and place."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from api.cli import (
    audit,
    ca,
    cluster,
    config,
    demo,
    facts,
    flags,
    guests,
    lab,
    links,
    members,
    migrate,
    migrations,
    node,
    store,
    sweeps,
)
from api.cli import models as model_versions
from api.cli.context import Options
from api.cli.group import Benchmarks, Commands
from api.cli.output import say

app = typer.Typer(
    cls=Commands,
    name="novacron",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Moves running QEMU/KVM guests between hosts and sites.",
)
app.add_typer(guests.app, name="guest")
app.command("migrate")(migrate.migrate)
app.add_typer(migrations.app, name="migrations")
app.command("rebalance")(sweeps.rebalance)
app.add_typer(sweeps.app, name="sweeps")
app.command("nodes")(cluster.nodes)
app.command("cluster")(cluster.members)
app.add_typer(members.app, name="member")
app.command("override")(cluster.override)
app.command("audit")(audit.audit)
app.add_typer(links.app, name="links")
app.add_typer(facts.app, name="facts")
app.add_typer(flags.app, name="flags")
app.command("status")(cluster.status)
app.add_typer(store.app, name="store")
app.add_typer(model_versions.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(node.app, name="node")
app.add_typer(ca.app, name="ca")
app.add_typer(lab.app, name="lab")
app.add_typer(typer.Typer(cls=Benchmarks, help="Measurements beside named rivals."), name="bench")
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"novacron {version('novacron')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="The API's URL, or NOVACRON_URL; a running lab is found without.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the API's token, or NOVACRON_TOKEN, NOVACRON_TOKEN_FILE.")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of every command that talks to the API."""
    context.obj = Options(url, token_file)


def main() -> None:
    """Entry point of the `novacron` program."""
    app()
