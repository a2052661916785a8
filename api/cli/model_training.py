"""``novacron models train``: from recordings to a version in the registry."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.model_registry import Root, opened
from api.cli.output import say

if TYPE_CHECKING:
    from models.registry import Card

app = typer.Typer(no_args_is_help=True, help="Train a model and publish it as a version.")


@app.command()
def bandwidth(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Directory of CSVs: trace_id,t,bw_mbps,…")],
    index: Annotated[Path | None, typer.Option(exists=True, help="CSV of groups; else DIR/index.csv.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same one gives the same weights on a CPU.")] = 0,
    updates: Annotated[int, typer.Option(min=1, max=100_000, help="Steps of the training of each net.")] = 700,
    members: Annotated[int, typer.Option(min=1, max=8, help="Nets whose forecasts are averaged.")] = 3,
    notes: Annotated[str, typer.Option(help="For the card: whose the data are, under which licence.")] = "",
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
            args = Args(seed=seed, updates=updates)
            card = publish(registry, data, index, args, members, lambda *_: bar.update(1), notes)
        except ValueError as error:
            raise BadRequest(detail=str(error)) from error
        _tell(card, registry.objections(card.version))


@app.command()
def placement(
    trace: Annotated[
        list[Path],
        typer.Option(exists=True, dir_okay=False, help="CSV[.gz]: vcpu,mem_gb,arrive_s,life_s,… Repeatable"),
    ],
    seed: Annotated[int, typer.Option(min=0, help="The same one gives the same weights.")] = 0,
    generations: Annotated[int, typer.Option(min=1, max=10_000, help="Of the evolution strategy.")] = 40,
    windows: Annotated[int, typer.Option(min=1, help="Windows of each trace and load to learn on.")] = 6,
    root: Root = None,
) -> None:
    """Train on the first two fifths of each trace, compare with the rules on the rest, and publish."""
    from actors.errors import BadRequest, SetupMissing

    try:
        import cmaes  # noqa: F401 - before the minutes in which it is not needed yet
    except ModuleNotFoundError as error:
        raise SetupMissing(what=f"the package {error.name}: pip install 'novacron[research]'") from error
    from models.placement.learned.publish import publish
    from models.placement.learned.training import Args

    args = Args(seed=seed, generations=generations, windows=windows)
    with (
        opened(root, "placement") as registry,
        typer.progressbar(length=generations, label="training", file=sys.stderr) as bar,
    ):
        try:
            card = publish(registry, trace, args, progress=lambda *_: bar.update(1))
        except ValueError as error:
            raise BadRequest(detail=str(error)) from error
        _tell(card, registry.objections(card.version))


def _tell(card: "Card", against: list[str]) -> None:
    say(f"{card.kind}: {card.version} is published. `novacron models show {card.kind} {card.version}` has its figures.")
    say("Nothing speaks against promoting it." if not against else "Against promoting it:")
    for reason in against:
        say(f"  {reason}")
