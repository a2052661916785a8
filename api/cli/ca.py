"""``novacron ca``: the cluster's own certificate authority."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.output import say

app = typer.Typer(no_args_is_help=True, help="Certificates by which nodes know each other.")
Folder = Annotated[Path, typer.Option("--dir", help="The authority's folder; keep its ca.key off the nodes.")]


@app.command()
def init(folder: Folder = Path("novacron-ca")) -> None:
    """Make the cluster's authority."""
    from actors.security.authority import create_authority

    say(f"made {create_authority(folder)}; every node needs a copy (security.ca)")


@app.command()
def rotate(folder: Folder = Path("novacron-ca")) -> None:
    """Replace the authority's key; nodes trust certificates of the old one until the next rotation."""
    from actors.security.authority import rotate as rotate_key

    made = rotate_key(folder)
    say(f"made {made}, new and old; copy it to every node, then issue each node anew")


@app.command()
def issue(
    node: Annotated[str, typer.Argument(help="The node's name in the topology.")],
    site: Annotated[str, typer.Option(help="Its site.")],
    folder: Folder = Path("novacron-ca"),
) -> None:
    """Issue a certificate to NODE."""
    from actors.security.authority import issue as issue_to

    made = issue_to(folder, node, site)
    say(f"made {made.certificate} and {made.key}; copy both to {node} (security.certificate, security.key)")
