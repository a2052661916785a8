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
    members: Annotated[str, typer.Option(help="With --live: how many members, BFT's from 4 on.")] = "3,5",
    rtts: Annotated[str, typer.Option(help="With --live: milliseconds of delay there and back.")] = "0,50",
    failovers: Annotated[int, typer.Option(min=1, help="With --live: how often the leader is killed.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="With --live: how long each row is loaded.")] = 5.0,
    json: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the rows to this file.")] = None,
) -> None:
    """Run the seeds; the first that breaks a promise ends the run, with its trace and how to see it again."""
    if live:
        _live(numbers(members), numbers(rtts), seconds, failovers, json)
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


def numbers(text: str) -> list[int]:
    """The numbers of a list with commas.

    Raises:
        BadRequest: it is none.
    """
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise BadRequest(detail=f"{text!r} is no list of numbers like 3,5") from error


def _live(members: list[int], rtts: list[int], seconds: float, failovers: int, json: Path | None) -> None:
    """Members on a LAN and on slow lines, one row after the other."""
    import asyncio
    from itertools import product

    from actors.config.schema import BFT_MEMBERS_MIN
    from benchmarks.deciding.run import row
    from benchmarks.deciding.systems import SYSTEMS
    from benchmarks.report import Row, show, write

    rows: list[Row] = []
    for count, rtt_ms, system in product(members, rtts, SYSTEMS):
        if SYSTEMS[system].mode == "bft" and count < BFT_MEMBERS_MIN:
            continue
        try:
            rows.append(asyncio.run(row(system, count, float(rtt_ms), seconds, failovers)))
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
