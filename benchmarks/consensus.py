"""``novacron bench consensus``: consensus cores in a seeded world of faults, or real members beside etcd."""

from collections import Counter
from pathlib import Path
from time import monotonic, process_time
from typing import TYPE_CHECKING, Annotated

import typer

from actors.errors import BadRequest, Failed, SetupMissing
from api.cli.output import note, say

if TYPE_CHECKING:
    from benchmarks.agreeing.world import Outcome

app = typer.Typer(help="Tries the consensus cores against losing networks, crashes, torn writes and drifting clocks.")


@app.command()
def consensus(
    seeds: Annotated[int, typer.Option(min=1, help="How many runs, each of another seed.")] = 200,
    first: Annotated[int, typer.Option("--first", "--seed", min=0, help="The first seed.")] = 1,
    mode: Annotated[str, typer.Option(help="What is tried: raft, bft or switch.")] = "raft",
    budget_s: Annotated[float, typer.Option("--budget-s", min=0, help="Begin no run after so long; 0: no bound.")] = 0,
    trace: Annotated[bool, typer.Option("--trace", help="Print the last events of every run.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Instead: real members beside etcd, with sockets and syncs.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="With --live: how long each row is loaded.")] = 5.0,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
) -> None:
    """Run the seeds; the first that breaks a promise ends the run, with its trace and how to see it again."""
    if live:
        _live(seconds, json)
        return
    from benchmarks.agreeing.run import MODES, simulate
    from benchmarks.report import Row, show, write

    if mode not in MODES:
        raise BadRequest(detail=f"there is no mode {mode}; there are: {', '.join(MODES)}")
    total: Counter[str] = Counter()
    began_s, used_s, ran = monotonic(), process_time(), 0
    for seed in range(first, first + seeds):
        if budget_s and monotonic() - began_s > budget_s:
            break
        outcome = simulate(seed, MODES[mode], trace=trace)
        if trace:
            say("\n".join(outcome.trace))
        if outcome.broken:
            _tell(mode, simulate(seed, MODES[mode], trace=True))
        total.update(outcome.counts)
        ran += 1
        if ran % 1000 == 0:
            note(f"{ran} seeds")
    row: Row = {"mode": mode, "first": first, "seeds": ran, "failures": 0}
    row["seeds_per_cpu_s"] = round(ran / max(process_time() - used_s, 1e-9), 1)
    row |= dict(sorted(total.items()))
    if json is not None:
        write("consensus", [row], json)
    show("Consensus under faults", [{"what": what, "count": count} for what, count in row.items()], ["what", "count"])


def _live(seconds: float, json: Path | None) -> None:
    """Three and five members on a LAN and on 50 ms lines."""
    import asyncio

    from benchmarks.deciding.run import row
    from benchmarks.deciding.systems import SYSTEMS
    from benchmarks.report import Row, show, write

    rows: list[Row] = []
    for members in (3, 5):
        for rtt_ms in (0.0, 50.0):
            for system in SYSTEMS:
                try:
                    rows.append(asyncio.run(row(system, members, rtt_ms, seconds)))
                except SetupMissing as missing:
                    note(str(missing))
                    continue
                note(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    if json is not None:
        write("consensus-live", rows, json)
    show("Members beside etcd", rows, list(rows[0]))


def _tell(mode: str, outcome: "Outcome") -> None:
    """Show how the seed failed, and fail."""
    say("\n".join(outcome.trace))
    again = f"novacron bench consensus --mode {mode} --first {outcome.seed} --seeds 1 --trace"
    raise Failed(detail=f"seed {outcome.seed} broke a promise: {outcome.seen}\nSee it again with: {again}")
