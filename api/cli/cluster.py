"""``novacron nodes``, ``links`` and ``status``."""

from typing import TYPE_CHECKING

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, rate, say, seconds, size, table

if TYPE_CHECKING:
    from actors.migration.messages import LinkView


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
            f"{one.free_mib} / {one.memory_mib} MiB", str(one.guests), "; ".join(one.warnings),
        ]
        for site in sites.sites
        for one in site.nodes
    ]  # fmt: skip
    columns = ["node", "site", "state", "address", "cpus", "accelerator", "free memory", "guests", "warnings"]
    table(columns, rows, "No node answers.")
    for site in sites.sites:
        if site.state != "up":
            note(f"site {site.name} is {site.state}: {site.reason}")


def links(context: typer.Context, json: Json = False) -> None:
    """List this site's links with their newest measurements and forecast."""
    with client(context) as api:
        found = api.links()
    if json:
        as_json(found)
        return
    columns = [
        "link",
        "state",
        "mode",
        "streams",
        "round trip",
        "carried",
        "forecast",
        "by",
        "sent again",
        "refused peers",
    ]
    table(columns, [_link_row(one) for one in found.links], "This site has no links.")


def _link_row(view: "LinkView") -> list[str]:
    link, forecast = view.link, view.forecast
    last = link.samples[-1] if link.samples else None
    return [
        f"{link.node} → {link.peer}",
        link.state,
        f"{link.mode} (forced)" if link.mode_forced else link.mode,
        str(link.streams),
        f"{last.rtt_ms:.1f} ms" if last and last.rtt_ms else "–",
        rate(last.acked_bytes) if last else "–",
        f"{rate(forecast.mean)} ({forecast.low * 8 / 1e6:.0f}–{forecast.high * 8 / 1e6:.0f})" if forecast else "–",
        forecast.method if forecast else "–",
        size(link.resent_bytes),
        str(link.refused_peers),
    ]


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
