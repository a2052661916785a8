"""``novacron config``: check a file, print the schema."""

import os
from pathlib import Path
from typing import Annotated

import typer

from api.cli.output import as_json, note, say

app = typer.Typer(no_args_is_help=True, help="A node's configuration file.")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The YAML file.")],
) -> None:
    """Name every problem of FILE, under the overrides of the environment: file, line, field."""
    from actors.config.load import problems

    found = problems(file, os.environ)
    for problem in found:
        note(str(problem))
    if found:
        note(f"  → {found[0].next_step}")
        raise typer.Exit(found[0].exit_code)
    say(f"{file} is valid.")


@app.command()
def schema() -> None:
    """Print the JSON schema of the file, for editors."""
    from actors.config.load import json_schema

    as_json(json_schema())
