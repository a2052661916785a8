"""``novacron models train``: from recordings to a version in the registry."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.model_registry import Root, opened
from api.cli.output import say

app = typer.Typer(no_args_is_help=True, help="Train a model and publish it as a version.")


@app.command()
def bandwidth(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Directory of CSVs: trace_id,t,bw_mbps,…")],
    index: Annotated[Path | None, typer.Option(exists=True, help="CSV of groups; else DIR/index.csv.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same one gives the same weights on a CPU.")] = 0,
    updates: Annotated[int, typer.Option(min=1, max=100_000, help="Steps of the training of each net.")] = 700,
    members: Annotated[int, typer.Option(min=1, max=8, help="Nets whose forecasts are averaged.")] = 3,
    root: Root = None,
) -> None:
    """Train on four fifths of the groups, score on the others, and publish; `promote` puts it to use."""
    from actors.errors import BadRequest
    from models.bandwidth.publish import publish
    from models.bandwidth.train import Args

    with (
        opened(root, "bandwidth") as registry,
        typer.progressbar(length=updates * members, label="training", file=sys.stderr) as bar,
    ):
        try:
            card = publish(registry, data, index, Args(seed=seed, updates=updates), members, lambda *_: bar.update(1))
        except ValueError as error:
            raise BadRequest(detail=str(error)) from error
        against = registry.objections(card.version)
    say(f"bandwidth: {card.version} is published. `novacron models show bandwidth {card.version}` has its figures.")
    say("Nothing speaks against promoting it." if not against else "Against promoting it:")
    for reason in against:
        say(f"  {reason}")
