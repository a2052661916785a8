"""``novacron migrate``."""

import uuid
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import GuestName, client
from api.cli.output import as_json, as_json_line, note, say

if TYPE_CHECKING:
    from actors.migration.messages import JobView
    from api.cli.client import Client

_INTERRUPTED = 130


class IfStalled(StrEnum):
    """What becomes of a stalled move."""

    wait = "wait"
    cancel = "cancel"


def migrate(
    context: typer.Context,
    guest: GuestName,
    to: Annotated[str, typer.Option(help="Node; placement chooses if it is not said.")] = "",
    pause_ms: Annotated[
        int | None,
        typer.Option(min=1, max=60_000, help="Pause that the guest may feel, about; else as the site has it."),
    ] = None,
    max_mbit: Annotated[float, typer.Option(min=0, help="Mbit/s that the move takes at most; 0: no cap.")] = 0.0,
    if_stalled: Annotated[
        IfStalled, typer.Option(help="What becomes of a move that brings no progress for two rounds.")
    ] = IfStalled.wait,
    detach: Annotated[bool, typer.Option("--detach", help="Print the migration and do not wait for it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Move a running guest to another node and show how far it is."""
    from actors.migration.messages import MoveRequest

    # With a key the request can be repeated when its answer is lost, and stays one move.
    request = MoveRequest(
        guest=guest, to=to, pause_ms=pause_ms or 0, if_stalled=if_stalled.value, max_mbit=max_mbit,
        key=str(uuid.uuid4()),
    )  # fmt: skip
    with client(context) as api:
        job = api.submit(request)
        if detach:
            as_json(job) if json else say(f"{job.id}: {job.guest} goes from {job.source} to {job.target}.")
            return
        ended = _interruptible(api, job, json)
    _conclude(ended, json)


def follow(api: "Client", job: "JobView", json: bool) -> "JobView":
    """Show the job's events until it has ended, and return how it then is."""
    from api.cli.progress import display

    if json:
        for event in api.events(job.id):
            as_json_line(event)
    else:
        with display() as shown:
            for event in api.events(job.id):
                shown.show(event.job, event.at)
    return api.job(job.id)


def _interruptible(api: "Client", job: "JobView", json: bool) -> "JobView":
    try:
        return follow(api, job, json)
    except KeyboardInterrupt:
        note(f"{job.guest} keeps moving. `novacron migrations show {job.id}` looks at it, `cancel` stops it.")
        raise typer.Exit(_INTERRUPTED) from None


def _conclude(job: "JobView", json: bool) -> None:
    """The summary; raises what went wrong with the move, so that the exit code says it."""
    import msgspec

    from actors.errors import MoveFailed, error_from
    from api.cli.progress import COMPLETED, summary

    if not json:
        # What went wrong is said once, as the error.
        summary(msgspec.structs.replace(job, message="", next_step=""))
    if job.state == COMPLETED:
        return
    if job.error:
        raise error_from(job.error, job.error_fields)
    raise MoveFailed(job=job.id, state=job.state, reason=job.message or "it was cancelled")
