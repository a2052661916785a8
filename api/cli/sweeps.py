"""``novacron node drain`` and ``undrain``, ``rebalance`` and ``sweeps``."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, say, seconds, size, table

if TYPE_CHECKING:
    from actors.migration.messages import SweepMove, SweepView
    from api.cli.client import Client

app = typer.Typer(no_args_is_help=True, help="Drains and rebalancings, past and present.")
_INTERRUPTED = 130
_LOOK_S = 1.0
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]
SweepName = Annotated[str, typer.Argument(metavar="ID", help="The drain's or rebalancing's id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the plan and do not wait for its moves.")]


def drain(
    context: typer.Context,
    node: NodeName,
    dry_run: DryRun = False,
    part_groups: Annotated[
        bool, typer.Option("--part-groups", help="Guests that share a node follow one another, apart for so long.")
    ] = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Let a node take no new guests and move those that it has elsewhere."""
    with client(context) as api:
        made = api.drain(node, dry_run=dry_run, part_groups=part_groups)
        _carry_out(api, made, dry_run or detach, json)


def undrain(context: typer.Context, node: NodeName) -> None:
    """Let a node take guests again; none is moved back."""
    with client(context) as api:
        api.undrain(node)
    say(f"{node} takes guests again.")


def rebalance(
    context: typer.Context,
    dry_run: DryRun = False,
    most: Annotated[int, typer.Option(min=0, max=10_000, help="Moves at most; 0: as the site has it.")] = 0,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Make the moves of one round that are worth more than they cost."""
    with client(context) as api:
        made = api.rebalance(dry_run=dry_run, most=most)
        _carry_out(api, made, dry_run or detach, json)


@app.command("list")
def list_sweeps(context: typer.Context, json: Json = False) -> None:
    """List those that the site's manager knows, newest first."""
    with client(context) as api:
        found = api.sweeps()
    if json:
        as_json(found)
        return
    rows = [[one.id, f"{one.kind} {one.node}".strip(), one.state, _count(one)] for one in found.sweeps]
    table(["id", "what", "state", "moves made"], rows, "There are no drains or rebalancings.")


@app.command()
def show(context: typer.Context, name: SweepName, json: Json = False) -> None:
    """Show one."""
    with client(context) as api:
        found = api.sweep(name)
    as_json(found) if json else _show(found)


@app.command()
def cancel(context: typer.Context, name: SweepName, json: Json = False) -> None:
    """Begin no more of its moves, and cancel those under way; a drained node stays drained."""
    with client(context) as api:
        found = api.cancel_sweep(name)
    as_json(found) if json else say(f"{found.id} is being cancelled: {_count(found)} moves were made.")


def _carry_out(api: "Client", made: "SweepView", only_plan: bool, json: bool) -> None:
    if not json:
        _show(made)
    if not only_plan:
        try:
            made = _follow(api, made, json)
        except KeyboardInterrupt:
            note(f"{made.id} goes on. `novacron sweeps show {made.id}` looks at it, `cancel` stops it.")
            raise typer.Exit(_INTERRUPTED) from None
    if json:
        as_json(made)
    elif made.ended_at:
        say(f"{made.id} is {made.state}: {_count(made)} moves were made.")
    if made.state in ("failed", "cancelled"):
        raise typer.Exit(7)


def _follow(api: "Client", view: "SweepView", json: bool) -> "SweepView":
    told = {move.plan.guest: move.state for move in view.moves}
    while view.state == "running":
        time.sleep(_LOOK_S)
        view = api.sweep(view.id)
        for move in view.moves:
            if told[move.plan.guest] != move.state:
                told[move.plan.guest] = move.state
                if not json:
                    say(_line(move))
    return view


def _line(move: "SweepMove") -> str:
    why = f": {move.error}" if move.error else ""
    return f"{move.plan.guest} {move.plan.source} → {move.plan.target} is {move.state} {move.job}".rstrip() + why


def _count(view: "SweepView") -> str:
    return f"{sum(move.state == 'completed' for move in view.moves)} of {len(view.moves)}"


def _show(view: "SweepView") -> None:
    what = f"drain of {view.node}" if view.node else "rebalancing"
    say(f"{what}: {len(view.moves)} moves, {len(view.stays)} guests stay ({view.id}, {view.state})")
    for number, move in enumerate(view.moves, 1):
        plan = move.plan
        say(f"{number}. {_line(move)}")
        worth = f"worth {plan.gain_usd:.2f} USD a day, costs {plan.cost_usd:.2f}"
        say(f"   {plan.reason}; {worth}; about {seconds(plan.expected_s)}, {size(plan.expected_bytes)}")
        say(f"   without: {plan.without}")
        if plan.parted:
            say(f"   it leaves {', '.join(plan.parted)} until the others follow")
    for stay in view.stays:
        rule = f" (rule {stay.rule})" if stay.rule else ""
        say(f"{stay.guest} stays on {stay.node}{rule}: {stay.reason}")
    before, after = view.before, view.after
    say(
        f"fragmentation at 8: {before.fragmentation_8:.3f} → {after.fragmentation_8:.3f}, at 16: "
        f"{before.fragmentation_16:.3f} → {after.fragmentation_16:.3f}; split pairs {before.split_pairs:.3f} → "
        f"{after.split_pairs:.3f}, talking ones {before.near_pairs:.3f} → {after.near_pairs:.3f}"
    )
