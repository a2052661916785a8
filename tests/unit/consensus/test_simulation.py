"""The simulator: a fixed set of seeds keeps every promise, a seed gives the same run again, and much happens."""

from collections import Counter

import pytest

from benchmarks.agreeing.raft import RaftMode
from benchmarks.agreeing.run import simulate

SEEDS = 200
PIECES = 10


@pytest.mark.parametrize("piece", range(PIECES))
def test_raft_keeps_its_promises(piece: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1 + piece, 1 + SEEDS, PIECES):
        outcome = simulate(seed, RaftMode)
        assert not outcome.broken, f"seed {seed}: {outcome.seen}"
        counts.update(outcome.counts)
    for needed in ("committed", "elections", "messages lost", "operations done", "compactions"):
        assert counts[needed] > 0, f"nothing of it happened: {needed}"


def test_the_seeds_meet_every_kind_of_fault() -> None:
    counts: Counter[str] = Counter()
    for seed in range(300, 340):
        counts.update(simulate(seed, RaftMode).counts)
    for needed in ("crash-all", "coup", "isolate-leader", "one-way", "pair", "split", "members added", "transfer"):
        assert counts[needed] > 0, f"nothing of it happened: {needed}"
    assert counts["torn writes"] > 0


@pytest.mark.parametrize("seed", [1, 2, 77])
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    first, second = simulate(seed, RaftMode, trace=True), simulate(seed, RaftMode, trace=True)
    assert first == second
    assert len(first.trace) > 100
    assert simulate(seed, RaftMode).counts == first.counts
