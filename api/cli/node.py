"""``novacron node``: run this host's part."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="This host's part of NovaCron.")


@app.command()
def run(
    config: Annotated[Path, typer.Option(help="The node's YAML file.")] = Path("/etc/novacron/node.yaml"),
) -> None:
    """Run this node until it is told to stop (SIGTERM)."""
    import asyncio

    from api.node import run_node

    asyncio.run(run_node(config))
