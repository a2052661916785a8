"""``novacron links``: how they are, what they measured, caps and forced modes."""

import csv
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, note, rate, say, seconds, size, table

if TYPE_CHECKING:
    from actors.migration.messages import LinkView
    from actors.transport.messages import LinkState
    from api.cli.client import Client

app = typer.Typer(invoke_without_command=True, help="Links of this site to other nodes.")
PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="The node it leads to.")]
NodeOption = Annotated[str, typer.Option(help="This end of it; without: the only node that has such a link.")]


@app.callback()
def links(
    context: typer.Context,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="Of every site, as their nodes last told.")] = False,
    json: Json = False,
) -> None:
    """List this site's links with their newest measurements and forecast."""
    if context.invoked_subcommand is not None:
        return
    if everywhere:
        _links_everywhere(context, json)
        return
    with client(context) as api:
        found = api.links()
    if json:
        as_json(found)
        return
    columns = [
        "link", "state", "mode", "streams", "round trip", "loss", "carried", "capacity", "cap", "forecast", "by",
        "error so far", "sent again", "refused peers",
    ]  # fmt: skip
    table(columns, [_link_row(one) for one in found.links], "This site has no links.")


def _links_everywhere(context: typer.Context, json: bool) -> None:
    with client(context) as api:
        found = api.links_everywhere()
    if json:
        as_json(found)
        return
    rows = [
        [
            f"{one.node} → {one.peer}", one.state, f"{one.mode} (forced)" if one.mode_forced else one.mode,
            str(one.streams), f"{one.rtt_ms:.1f} ms" if one.rtt_ms else "–", f"{one.loss:.2%}",
            rate(one.acked_bytes_per_s), rate(one.capacity_bytes_per_s) if one.capacity_bytes_per_s else "–",
            seconds(one.age_s),
        ]
        for one in found.links
    ]  # fmt: skip
    columns = ["link", "state", "mode", "streams", "round trip", "loss", "carried", "capacity", "told"]
    table(columns, rows, "No site has told of a link yet.")


@app.command()
def cap(
    context: typer.Context,
    peer: PeerArgument,
    mbit: Annotated[float, typer.Option(min=-1, help="Mbit/s; 0: no cap, -1: what the configuration says.")],
    node: NodeOption = "",
    json: Json = False,
) -> None:
    """Cap what is sent over a link, from now on and over restarts; peer calls and libvirt are not held back."""
    from actors.transport.messages import SteerLink

    with client(context) as api:
        _tell(api.steer_link(_node(api, peer, node), SteerLink(peer=peer, cap_mbit=mbit)), json)


@app.command()
def mode(
    context: typer.Context,
    peer: PeerArgument,
    forced: Annotated[
        Literal["auto", "datacenter", "hybrid", "internet"], typer.Argument(metavar="MODE", help="auto: as measured.")
    ],
    node: NodeOption = "",
    json: Json = False,
) -> None:
    """Force the mode of a link, or let measurements decide again."""
    from actors.transport.messages import SteerLink

    with client(context) as api:
        _tell(api.steer_link(_node(api, peer, node), SteerLink(peer=peer, mode=forced)), json)


@app.command()
def history(
    context: typer.Context,
    peer: PeerArgument,
    node: NodeOption = "",
    hours: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 1.0,
    hourly: Annotated[bool, typer.Option("--hourly", help="Means of hours, kept for a year, not of 10 s.")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header.")] = False,
    json: Json = False,
) -> None:
    """Show what a link measured, oldest first."""
    from actors.transport.messages import HistoryQuery, LinkPeriod

    span_s, after = (3600 if hourly else 10), time.time() - hours * 3600
    with client(context) as api:
        query = HistoryQuery(peer=peer, after=after, span_s=span_s, most=10_000)
        found = api.link_history(_node(api, peer, node), query)
    columns = LinkPeriod.__struct_fields__
    rows = [[str(getattr(one, name)) for name in columns] for one in found.periods]
    if json:
        as_json(found)
    elif csv_:
        csv.writer(sys.stdout).writerows([columns, *rows])
    else:
        table(list(columns), rows, "Nothing was measured in that time.")


@app.command()
def accuracy(context: typer.Context, json: Json = False) -> None:
    """Show what forecasts of each link were worth in the last hour, by who made them, beside the later truth."""
    with client(context) as api:
        found = api.accuracies()
    if json:
        as_json(found)
        return
    rows = [
        [
            f"{one.node} → {one.peer}", f"{one.horizon_s:g} s", one.role, one.method, one.version, str(one.truths),
            f"{one.wape:.1%}" if one.wape >= 0 else "–", f"{one.coverage:.0%}", f"{one.skill_ewma:+.1%}",
            f"{one.skill_last:+.1%}",
        ]
        for one in found.accuracies
    ]  # fmt: skip
    columns = [
        "link",
        "ahead",
        "role",
        "method",
        "version",
        "truths",
        "error",
        "in 80 % band",
        "over ewma",
        "over last",
    ]
    table(columns, rows, "No forecast has met its truth yet.")
    if found.reason:
        note(f"No model answers: {found.reason}.")


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(dir_okay=False, help="CSV to write, with the columns that models train on.")],
    node: Annotated[str, typer.Option(help="Links of this node only.")] = "",
    peer: Annotated[str, typer.Option(help="Links to this peer only.")] = "",
    days: Annotated[float, typer.Option(min=0.01, help="How far back.")] = 31.0,
) -> None:
    """Write what this site's links carried, second by second while they were busy, to FILE."""
    from actors.errors import Failed

    draft = file.with_name(f".{file.name}.part")
    try:
        with client(context) as api, draft.open("wb") as out:
            lines = 0
            for piece in api.recorded(node, peer, time.time() - days * 86_400):
                out.write(piece)
                lines += piece.count(b"\n")
        draft.replace(file)
    except OSError as error:
        raise Failed(detail=f"can't write {file}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    say(f"{max(0, lines - 1)} seconds of links in {file}.")


def _node(api: "Client", peer: str, node: str) -> str:
    """The node whose link to `peer` is meant."""
    from actors.errors import BadRequest, LinkUnknown

    if node:
        return node
    found = [one.link.node for one in api.links().links if one.link.peer == peer]
    if not found:
        raise LinkUnknown(link=peer)
    if len(found) > 1:
        raise BadRequest(detail=f"{', '.join(found)} all have a link to {peer}: name one with --node")
    return found[0]


def _tell(state: "LinkState", json: bool) -> None:
    if json:
        as_json(state)
        return
    forced = " (forced)" if state.mode_forced else ""
    cap = f"at most {rate(state.cap_bytes_per_s)}" if state.cap_bytes_per_s else "no cap"
    say(f"{state.node} → {state.peer}: mode {state.mode}{forced}, {cap}.")


def _link_row(view: "LinkView") -> list[str]:
    link, forecast = view.link, view.forecast
    last = link.samples[-1] if link.samples else None
    return [
        f"{link.node} → {link.peer}",
        link.state,
        f"{link.mode} (forced)" if link.mode_forced else link.mode,
        str(link.streams),
        f"{last.rtt_ms:.1f} ms" if last and last.rtt_ms else "–",
        f"{last.loss:.2%}" if last else "–",
        rate(last.acked_bytes) if last else "–",
        f"{rate(link.capacity_bytes_per_s)} ({link.capacity_source})" if link.capacity_bytes_per_s else "–",
        rate(link.cap_bytes_per_s) if link.cap_bytes_per_s else "–",
        f"{rate(forecast.mean)} ({forecast.low * 8 / 1e6:.0f}–{forecast.high * 8 / 1e6:.0f})" if forecast else "–",
        forecast.method if forecast else "–",
        f"{forecast.wape:.0%} of {forecast.truths}" if forecast and forecast.wape >= 0 else "–",
        size(link.resent_bytes),
        str(link.refused_peers),
    ]
