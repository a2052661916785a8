"""``novacron facts``: what sites tell each other, and hints of the operator's own."""

import json as json_module
import time
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.context import Json, client
from api.cli.output import as_json, say, seconds, size, table

if TYPE_CHECKING:
    from actors.sync.messages import Fact
    from api.cli.client import Client

app = typer.Typer(invoke_without_command=True, help="What sites tell each other without having to agree.")
HintName = Annotated[str, typer.Argument(metavar="NAME", help="The hint's name.")]
_VALUE_CHARS = 100


@app.callback()
def facts(
    context: typer.Context,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so: node/, link/, series/, store/, hint/.")] = "",
    json: Json = False,
) -> None:
    """List the facts that this site knows, of itself and of the others."""
    if context.invoked_subcommand is not None:
        return
    with client(context) as api:
        found = _all(api, prefix)
    if json:
        as_json({"facts": found})
        return
    rows = [[one.key, seconds(one.age_s), one.writer, _short(one)] for one in found]
    table(["key", "age", "writer", "value"], rows, "Nothing is known yet.")


@app.command()
def state(context: typer.Context, json: Json = False) -> None:
    """Show how the exchange with each other site stands."""
    with client(context) as api:
        found = api.replica()
    if json:
        as_json(found)
        return
    off = "" if found.exchanging else "; nothing is exchanged, ASS is switched off"
    say(f"{found.facts} facts at site {found.site}, {found.refused} values not believed{off}.")
    rows = [
        [
            one.site, one.node, "yes" if one.reachable else "no", _ago(one.equal_at), str(one.comparisons),
            size(one.sent_bytes), size(one.received_bytes), str(one.refused), one.reason,
        ]
        for one in found.peers
    ]  # fmt: skip
    columns = ["site", "node", "reachable", "equal", "comparisons", "sent", "received", "refused", "reason"]
    table(columns, rows, "There is no other site.")


@app.command()
def hint(
    context: typer.Context,
    name: HintName,
    value: Annotated[str, typer.Argument(help="Up to 1,000 characters.")],
    json: Json = False,
) -> None:
    """Write a hint for every site; the newest write of any site stands."""
    with client(context) as api:
        made = api.put_hint(name, value)
    if json:
        as_json(made)
    else:
        say(f"{made.key} is {made.value!r}.")


@app.command()
def forget(context: typer.Context, name: HintName) -> None:
    """Remove a hint everywhere."""
    with client(context) as api:
        api.remove_hint(name)
    say(f"hint/{name} is removed.")


def _all(api: "Client", prefix: str) -> "list[Fact]":
    found: list[Fact] = []
    while True:
        part = api.facts(prefix, found[-1].key if found else "")
        found += part.facts
        if not part.more:
            return found


def _short(fact: "Fact") -> str:
    shown = fact.value[-1] if fact.kind == "series" else fact.value
    text = json_module.dumps(shown, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _ago(at: float) -> str:
    return f"{seconds(max(0.0, time.time() - at))} ago" if at else "not yet"
