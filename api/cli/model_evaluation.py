"""``novacron models evaluate``: a kind of model beside its opponents, on recordings."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.output import as_json, note, say

app = typer.Typer(no_args_is_help=True, help="Compare a kind of model with its opponents on recordings.")


@app.command()
def bandwidth(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Directory of CSVs: trace_id,t,bw_mbps,…")],
    index: Annotated[Path | None, typer.Option(exists=True, help="CSV of groups; else DIR/index.csv.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer updates and examples: a few minutes.")] = False,
    json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Write the report to this file.")] = None,
) -> None:
    """Cross-validate over groups for three seeds, beside every opponent; without --json the report is printed."""
    from actors.errors import BadRequest, SetupMissing

    try:
        from models.bandwidth.evaluate import evaluate
    except ModuleNotFoundError as error:
        raise SetupMissing(what=f"the package {error.name}: pip install 'novacron[research]'") from error
    try:
        report = evaluate(data, index, quick=quick, progress=note)
    except ValueError as error:
        raise BadRequest(detail=str(error)) from error
    if json is None:
        as_json(report)
        return
    import msgspec

    json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    say(f"The report is in {json}.")
