"""``novacron migrations``: list, show, set, cancel."""

from datetime import datetime
from typing import Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, say, seconds, size, table

app = typer.Typer(no_args_is_help=True, help="Moves, past and present.")
JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The migration's id.")]


@app.command("list")
def list_migrations(
    context: typer.Context,
    guest: Annotated[str, typer.Option(help="Of this guest only.")] = "",
    json: Json = False,
) -> None:
    """List the moves that this site knows, newest first."""
    with client(context) as api:
        found = api.jobs(guest)
    if json:
        as_json(found)
        return
    rows = [
        [
            job.id, job.guest, f"{job.source} → {job.target}", job.state, _clock(job.created_at), seconds(job.total_s),
            f"{job.pause_ms:.0f} ms" if job.pause_ms >= 0 else "–", size(job.progress.wire_bytes),
        ]
        for job in found.jobs
    ]  # fmt: skip
    table(["id", "guest", "way", "state", "begun", "took", "pause", "sent"], rows, "There are no migrations.")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@app.command()
def show(context: typer.Context, job: JobArgument, json: Json = False) -> None:
    """Show one move."""
    from api.cli.progress import summary

    with client(context) as api:
        found = api.job(job)
    if json:
        as_json(found)
    else:
        summary(found)


@app.command("set")
def set_(
    context: typer.Context,
    job: JobArgument,
    pause_ms: Annotated[int, typer.Option(min=1, max=60_000, help="Pause that the guest may feel from now on, about.")],
    json: Json = False,
) -> None:
    """Change the pause that a move under way may cause."""
    with client(context) as api:
        found = api.change_pause(job, pause_ms)
    if json:
        as_json(found)
    else:
        say(f"{found.id} may pause {found.guest} for about {found.pause_budget_ms} ms.")


@app.command()
def cancel(context: typer.Context, job: JobArgument, json: Json = False) -> None:
    """Cancel a move: the guest stays where it is."""
    with client(context) as api:
        found = api.cancel(job)
    if json:
        as_json(found)
    else:
        say(f"{found.id} of {found.guest} is {found.state}.")
