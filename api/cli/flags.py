"""``novacron flags``: which components are on, where and for how many."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, say, table

if TYPE_CHECKING:
    from actors.flags.messages import ShownFlag

app = typer.Typer(invoke_without_command=True, help="Rollout flags of the six components, agreed on and audited.")
Component = Annotated[str, typer.Argument(metavar="COMPONENT", help="amst, hde, pba, ass, acp or itp.")]
Reason = Annotated[str, typer.Option(help="Stands in the audit trail.")]


@app.callback()
def flags(context: typer.Context, json: Json = False) -> None:
    """List the flags, and what off means for each."""
    if context.invoked_subcommand is not None:
        return
    with client(context) as api:
        found = api.flags()
    if json:
        as_json(found)
        return
    rows = [
        [one.component, _how_far(one), ", ".join(one.nodes_on), ", ".join(one.nodes_off), one.effect]
        for one in found.flags
    ]
    table(["component", "on", "nodes on", "nodes off", "where it is off"], rows, "There are no components.")
    if not found.agreed:
        note("No majority of the control state's members answers: these are the last known flags, and what holds.")


@app.command("set")
def set_flag(
    context: typer.Context,
    component: Component,
    percent: Annotated[int, typer.Option(min=0, max=100, help="Of guests, links or sites.")] = 100,
    on: Annotated[list[str] | None, typer.Option(help="A node that has it for all; may be repeated.")] = None,
    off: Annotated[list[str] | None, typer.Option(help="A node that does not have it; may be repeated.")] = None,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Say how far a component is rolled out; without options: everywhere again."""
    body: dict[str, object] = {"percent": percent, "nodes_on": on or [], "nodes_off": off or [], "reason": reason}
    _set(context, component, body, json)


@app.command()
def kill(context: typer.Context, component: Component, reason: Reason = "", json: Json = False) -> None:
    """Switch a component off everywhere, within seconds; `flags set` switches it on again."""
    _set(context, component, {"killed": True, "reason": reason}, json)


def _set(context: typer.Context, component: str, body: dict[str, object], json: bool) -> None:
    with client(context) as api:
        made = api.set_flag(component, body)
    if json:
        as_json(made)
        return
    say(f"{made.component}: {_how_far(made)}. Where it is off: {made.effect}.")


def _how_far(flag: "ShownFlag") -> str:
    return "killed" if flag.killed else f"{flag.percent} %"
