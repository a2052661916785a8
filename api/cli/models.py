"""``novacron models``: what was trained, what answers, what listens; on a registry's directory, without a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli import model_evaluation, model_training
from api.cli.context import Json
from api.cli.model_registry import Kind, Root, opened, registry_root
from api.cli.output import as_json, fields, note, say, table

if TYPE_CHECKING:
    from models.registry import Calibration, Card, Listed

app = typer.Typer(no_args_is_help=True, help="Versions of the learned models: train, compare, promote, roll back.")
app.add_typer(model_evaluation.app, name="evaluate")
app.add_typer(model_training.app, name="train")

KindArgument = Annotated[Kind, typer.Argument(metavar="KIND", help="bandwidth or placement.")]
VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="As `models list` names it.")]


@app.command("list")
def list_versions(
    kind: Annotated[Kind | None, typer.Argument(metavar="KIND", help="bandwidth or placement; without: both.")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """List every version with its role and its figures beside the best baseline's."""
    from models.registry import KINDS

    found: dict[str, list[Listed]] = {}
    for one in [kind] if kind else KINDS:
        with opened(root, one) as registry:
            found[one] = registry.versions()
    if json:
        as_json(found)
        return
    rows = [_row(one, listed) for one, versions in found.items() for listed in versions]
    table(["kind", "version", "role", "trained on", "by", "figures better than every baseline"], rows, "No model yet.")


def _row(kind: str, listed: "Listed") -> list[str]:
    role = " ".join(word for word in (listed.role, "(shipped)" if listed.shipped else "") if word)
    card = listed.card
    if card is None:
        return [kind, listed.version, role, "–", "–", listed.problem]
    return [kind, listed.version, role, card.data, card.created_by, _wins(card)]


def _wins(card: "Card") -> str:
    """How many of the figures that count are better than those of every baseline."""
    counted = [one for one in card.evaluation.metrics if one.gate and one.baselines]
    won = sum(
        one.value < min(one.baselines.values()) if one.better == "lower" else one.value > max(one.baselines.values())
        for one in counted
    )
    return f"{won} of {len(counted)}" if counted else "–"


@app.command()
def show(
    kind: KindArgument,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Without: the one in use.")] = None,
    root: Root = None,
    json: Json = False,
) -> None:
    """Show a version's card, its figures, and what speaks against promoting it."""
    with opened(root, kind) as registry:
        card = registry.load(version).card
        evaluations, against = registry.evaluations(card.version), registry.objections(card.version)
    if json:
        as_json({"card": card, "evaluations": evaluations, "objections": against})
        return
    fields(
        [
            ("version", card.version),
            ("made", f"{card.created_at} by {card.created_by}, code {card.code_version}, seed {card.seed}"),
            ("trained on", f"{card.data} ({card.data_hash[:12]})"),
            ("made from", ", ".join(card.parents)),
            ("settings", ", ".join(f"{name} {value}" for name, value in card.settings.items())),
            ("files", ", ".join(f"{name} ({entry.bytes} B)" for name, entry in card.files.items())),
            ("content", card.content_hash),
            ("notes", card.notes),
        ]
    )
    for one in evaluations:
        say("")
        say(f"On {one.data} ({one.data_hash[:12]}):")
        rows = [
            [
                m.name,
                f"{m.value:.4g}",
                m.better,
                ", ".join(f"{name} {value:.4g}" for name, value in m.baselines.items()),
            ]
            for m in one.metrics
        ]
        table(["figure", "value", "better", "baselines"], rows, "no figures")
        rows = [
            [c.name, f"{c.promised:.0%}", f"{c.covered:.1%}", _interval(c), f"{c.width:.2f}"] for c in one.calibration
        ]
        table(["band", "promises", "holds", "by chance", "width"], rows, "no bands")
    say("")
    say("Nothing speaks against promoting it." if not against else "Against promoting it:")
    for reason in against:
        say(f"  {reason}")


def _interval(band: "Calibration") -> str:
    """What the coverage might be on other groups of the same kind."""
    if band.low is None or band.high is None:
        return "–"
    return f"{band.low:.1%} to {band.high:.1%} ({band.groups} groups)"


@app.command()
def promote(
    kind: KindArgument,
    version: VersionArgument,
    force: Annotated[bool, typer.Option("--force", help="Also past the gates; the history keeps what spoke.")] = False,
    root: Root = None,
) -> None:
    """Have a version answer from now on, if it is better than what does and than every baseline."""
    with opened(root, kind) as registry:
        overruled = registry.promote(version, force=force)
    for reason in overruled:
        note(f"overruled: {reason}")
    say(f"{kind}: {version} is in use in {registry_root(root)}.")
    if kind == "bandwidth":
        say("The site whose lead node reads this registry takes it up within a minute.")


@app.command()
def rollback(kind: KindArgument, root: Root = None) -> None:
    """Go back to what answered before the last promotion."""
    with opened(root, kind) as registry:
        version = registry.rollback()
    say(f"{kind}: {version or 'no model'} is in use.")


@app.command()
def shadow(
    kind: KindArgument,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Without: none any more.")] = None,
    root: Root = None,
) -> None:
    """Have a version answer silently beside the one in use: it is scored and never heard."""
    with opened(root, kind) as registry:
        registry.shadow(version)
    say(f"{kind}: {version or 'nothing'} is in the shadow.")


@app.command()
def history(kind: KindArgument, root: Root = None, json: Json = False) -> None:
    """Show who changed what, oldest first."""
    with opened(root, kind) as registry:
        found = registry.history()
    if json:
        as_json(found)
        return
    rows = [
        [one.at, one.who, one.action + (" by force" if one.forced else ""), one.version or "–", one.detail]
        for one in found
    ]
    table(["when", "who", "what", "version", "detail"], rows, "Nothing was changed here yet.")


@app.command()
def export(
    kind: KindArgument,
    version: VersionArgument,
    folder: Annotated[Path, typer.Argument(file_okay=False, help="KIND's folder of the other registry, or a new one.")],
    root: Root = None,
) -> None:
    """Copy a version, as it was signed, into another registry's folder, and have it in use there."""
    with opened(root, kind) as registry:
        registry.export(version, folder)
    say(f"{kind}: {version} is in use in {folder}.")
