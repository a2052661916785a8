"""``novacron audit``: what was agreed on, by whom and when."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, table

if TYPE_CHECKING:
    from actors.control.messages import TrailEntry

_SHOWN_CHARS = 100
_CHANGED = 7


def audit(
    context: typer.Context,
    guest: Annotated[str, typer.Option(help="Only what concerns this guest and its moves.")] = "",
    since: Annotated[int, typer.Option(min=0, help="Only what was done after this revision.")] = 0,
    json: Json = False,
) -> None:
    """Show every command that the members agreed on, oldest first; exit code 7 when the trail was changed."""
    entries: list[TrailEntry] = []
    after, count, missing, fault = 0, 1, 0, 0
    with client(context) as api:
        while after < count:
            page = api.audit(guest, since, after)
            entries += page.entries
            after, count, missing, fault = page.upto, page.count, missing + page.missing, fault or page.fault
    if json:
        as_json({"entries": entries, "count": count, "missing": missing, "fault": fault})
    else:
        rows = [
            [str(one.revision), _when(one.at_ms), one.by, one.command, one.subject, one.detail or _short(one.body)]
            for one in entries
        ]
        table(["revision", "at", "by", "command", "subject", "detail"], rows, "Nothing of it is in the trail.")
    if missing:
        note(f"{missing} entries are not at the member that answered: it began from another's snapshot.")
    if fault:
        note(f"Entry number {fault} does not follow from the one before it: the trail was changed.")
        raise typer.Exit(_CHANGED)


def _when(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000)) if at_ms else ""


def _short(body: dict[str, Any]) -> str:
    text = msgspec.json.encode(body).decode() if body else ""
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
