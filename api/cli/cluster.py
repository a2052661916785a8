"""``novacron nodes`` and ``status``."""

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, say, seconds, table


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
