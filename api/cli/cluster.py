"""``novacron nodes``, ``cluster`` and ``status``."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, say, seconds, table

if TYPE_CHECKING:
    from actors.control.messages import MemberView
    from api.cli.client import Client


def nodes(context: typer.Context, json: Json = False) -> None:
    """List the nodes of every site."""
    with client(context) as api:
        sites = api.sites()
    if json:
        as_json(sites)
        return
    rows = [
        [
            one.node, one.site, one.state, one.address, str(one.cpus), one.accelerator,
            f"{one.free_mib} / {one.memory_mib} MiB", str(one.guests), seconds(one.age_s) if one.age_s else "now",
            "; ".join(one.warnings),
        ]
        for site in sites.sites
        for one in site.nodes
    ]  # fmt: skip
    columns = ["node", "site", "state", "address", "cpus", "accelerator", "free memory", "guests", "told", "warnings"]
    table(columns, rows, "No node answers.")
    for site in sites.sites:
        if site.state != "up":
            note(f"site {site.name} is {site.state}: {site.reason}")


def members(context: typer.Context, json: Json = False) -> None:
    """Show the members of the agreed control state; exit code 6 while no leader is known."""
    with client(context) as api:
        view = api.cluster()
    if json:
        as_json(view)
    else:
        state = f"led by {view.leader}" if view.leader else "without a leader: nothing can be agreed on"
        term = "view" if view.mode == "bft" else "term"
        say(f"{view.mode} {term} {view.term}, {state}; entry {view.commit} committed (as {view.node} sees it).")
        if view.configured not in ("auto", view.mode):
            say(f"{view.configured} is configured.")
        columns = ["number", "node", "site", "role", "state", "lag", "silent for"]
        table(columns, member_rows(view.members), "There are no members.")
    if not view.leader:
        raise typer.Exit(6)


def member_rows(found: "list[MemberView]") -> list[list[str]]:
    """Number, node, site, role, standing, lag and silence of each."""
    return [
        [
            str(one.number), one.node, one.site, one.role, _standing(one),
            str(one.lag) if one.lag >= 0 else "", seconds(one.silent_s) if one.silent_s >= 0 else "never heard",
        ]
        for one in found
    ]  # fmt: skip


def _standing(one: "MemberView") -> str:
    if one.caught:
        return f"excluded, it lied ({one.caught})"
    if one.change:
        return "leaves" if one.change == "leaves" else "joins, has no vote yet"
    if not one.votes:
        return "no member any more"
    return "leads" if one.leads else "follows"


def override(
    context: typer.Context,
    nodes: Annotated[list[str], typer.Argument(help="Nodes that run nothing any more.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you know; kept in the audit trail.")],
    risk: Annotated[str, typer.Option("--risk", help="What it risks, word by word; asked for when left out.")] = "",
) -> None:
    """Decree that nodes run nothing, so that their guests may be started elsewhere. You must be sure of it."""
    with client(context) as api:
        if not risk:
            sentence = _risk_of(api, nodes, reason)
            say(sentence)
            risk = typer.prompt("Type this sentence to go on")
        done = api.override(nodes, risk, reason)
    say(f"Decreed in entry {done.index}. {done.detail}")


def _risk_of(api: "Client", nodes: list[str], reason: str) -> str:
    from actors.control.decision import Refusal
    from actors.errors import StateRefused

    try:
        api.override(nodes, "", reason)
    except StateRefused as no:
        if no.refusal == Refusal.RISK_CHANGED:
            return str(no.fields["detail"])
        raise
    raise AssertionError("no decree is accepted without its risk")


def status(context: typer.Context, json: Json = False) -> None:
    """Show how far the node's start is and what is wrong with it; exit code 6 while it is not ready."""
    with client(context) as api:
        boot = api.readiness()
    if json:
        as_json(boot)
    else:
        say(f"{'Ready' if boot.ready else 'Not ready'} (phase {boot.phase}) after {seconds(boot.elapsed_s)}.")
        rows = [
            [one.name, one.phase, one.criticality, one.state, seconds(one.took_s), one.reason]
            for one in boot.components
        ]  # fmt: skip
        table(["component", "phase", "criticality", "state", "took", "reason"], rows, "Nothing has begun.")
    if not boot.ready:
        raise typer.Exit(6)
