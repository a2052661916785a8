"""What commands share: the way to their API, and their common options."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.target import find

if TYPE_CHECKING:
    from api.cli.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print JSON, with the keys of the REST API.")]
GuestName = Annotated[str, typer.Argument(metavar="GUEST", help="The guest's name.")]


class Options:
    """The options before the command.

    Args:
        url: of the API; '' looks for it.
        token_file: None looks for it.
    """

    def __init__(self, url: str, token_file: Path | None) -> None:
        self.url = url
        self.token_file = token_file


def client(context: typer.Context) -> "Client":
    """A client of the API that the options, the environment or a running lab name."""
    from api.cli.client import Client

    options: Options = context.obj
    return Client(find(os.environ, options.url, options.token_file))
