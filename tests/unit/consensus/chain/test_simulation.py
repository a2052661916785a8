"""Switches in the simulator: fixed seeds keep every promise; without a rule some seed doesn't."""

from collections import Counter
from functools import partial
from itertools import chain

import pytest

from actors.consensus.chain import Protocol, Rules
from benchmarks.agreeing.run import simulate
from benchmarks.agreeing.switch import SwitchMode
from benchmarks.agreeing.world import World
from tests.unit.consensus.chain import mutants

SEEDS = 60
PIECES = 6
SEARCHED = 1000

NOTICED_BY: list[tuple[type[Rules], int]] = [
    (mutants.BeginsBeforeTheSwitchIsCommitted, 1),
    (mutants.CommitsPastTheSwitch, 30),
    (mutants.TakesMessagesOfOtherParts, 31),
    (mutants.HandsOutAgain, 31),
    (mutants.BeginsWithOldMembers, 43),
    (mutants.ForgetsPartsThatAreNeeded, 1),
]
"""With a seed that noticed; when the simulator changes, the search goes on from the first."""


@pytest.mark.parametrize("piece", range(PIECES))
def test_switches_lose_and_repeat_nothing(piece: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1 + piece, 1 + SEEDS, PIECES):
        outcome = simulate(seed, SwitchMode)
        assert not outcome.broken, f"seed {seed}: {outcome.seen}"
        counts.update(outcome.counts)
    for needed in ("committed", "parts begun", "messages lost", "operations done", "compactions", "members added"):
        assert counts[needed] > 0, f"nothing of it happened: {needed}"


def test_the_seeds_switch_both_ways_with_and_without_liars() -> None:
    met: Counter[str] = Counter()
    for seed in range(1, 31):
        world = World(seed, SwitchMode)
        world.run()
        assert isinstance(world.mode, SwitchMode)
        for protocol, _ in world.mode.begun.values():
            met[f"to {protocol.name}, {'some' if world.liars else 'none'} lie"] += 1
    assert set(met) == {f"to {protocol.name}, {who} lie" for protocol in Protocol for who in ("some", "none")}


@pytest.mark.parametrize("seed", [2455, 2813])
def test_seeds_that_failed_once_pass(seed: int) -> None:
    assert simulate(seed, SwitchMode).broken == ""


def test_a_seed_gives_the_same_run_again() -> None:
    assert simulate(3, SwitchMode, trace=True) == simulate(3, SwitchMode, trace=True)


@pytest.mark.parametrize(("rules", "likely"), NOTICED_BY, ids=lambda value: getattr(value, "__name__", None))
def test_a_missing_rule_is_noticed(rules: type[Rules], likely: int) -> None:
    for seed in chain((likely,), range(1, SEARCHED + 1)):
        if simulate(seed, partial(SwitchMode, rules=rules())).broken:
            assert simulate(seed, SwitchMode).broken == "", "the right rules break it, too"
            return
    pytest.fail(f"{SEARCHED} seeds noticed nothing")
