"""``novacron member``: who keeps the agreed control state."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import DeadlineExceeded
from api.cli.cluster import member_rows
from api.cli.context import Json, client
from api.cli.output import as_json, say, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.control.messages import MemberView
    from api.cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Members of the agreed control state: nodes that keep it and vote.")
Node = Annotated[str, typer.Argument(metavar="NODE", help="A node of the topology.")]
Wait = Annotated[float, typer.Option("--wait-s", min=0.0, help="Seconds until it must be done; 0: don't wait.")]
_LOOK_S = 1.0


@app.command("list")
def list_members(context: typer.Context, json: Json = False) -> None:
    """List the members: who leads, who lags, who joins."""
    with client(context) as api:
        found = api.members()
    if json:
        as_json({"members": found})
        return
    table(["number", "node", "site", "role", "state", "lag", "silent for"], member_rows(found), "There are no members.")


@app.command()
def add(context: typer.Context, node: Node, wait_s: Wait = 60.0, json: Json = False) -> None:
    """Have a node, which must run, be a member too: it fetches the state, and votes once it has caught up."""
    with client(context) as api:
        done = api.add_member(node)
        if wait_s:
            _wait(api, wait_s, lambda found: any(_votes(one, done.number) for one in found), f"the vote of {node}")
    if json:
        as_json(done)
    else:
        say(f"{node} is member {done.number}{'' if wait_s else ', and votes once it has caught up'}.")


@app.command()
def remove(
    context: typer.Context,
    node: Node,
    lost: Annotated[bool, typer.Option("--lost", help="Its host or disk is lost, so it is no voice already.")] = False,
    wait_s: Wait = 60.0,
    json: Json = False,
) -> None:
    """Take the member on a node out for good, also one whose disk is lost. Its number is never used again."""
    with client(context) as api:
        done = api.remove_member(node, lost=lost)
        if wait_s:
            _wait(api, wait_s, lambda found: all(one.number != done.number for one in found), f"the end of {node}")
    if json:
        as_json(done)
    else:
        say(f"{node} is {'no member any more' if wait_s else 'being taken out'} (it was number {done.number}).")


def _votes(one: "MemberView", number: int) -> bool:
    return one.number == number and one.votes and not one.change


def _wait(api: "Client", wait_s: float, done: "Callable[[list[MemberView]], bool]", what: str) -> None:
    until = time.monotonic() + wait_s
    while not done(api.members()):
        if time.monotonic() > until:
            raise DeadlineExceeded(
                what=f"{what} (it was agreed on and goes on; see `novacron member list`)", deadline_s=wait_s
            )
        time.sleep(_LOOK_S)
