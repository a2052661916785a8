"""BFT mode in the simulator: fixed seeds keep every promise whatever the liars do; without a rule some seed doesn't."""

from collections import Counter
from functools import partial
from itertools import chain

import pytest

from actors.consensus.bft import Rules
from benchmarks.agreeing.bft import KINDS, BftMode
from benchmarks.agreeing.run import simulate
from benchmarks.agreeing.world import World
from tests.unit.consensus.bft import mutants

SEEDS = 100
PIECES = 10
SEARCHED = 1000

NOTICED_BY: list[tuple[type[Rules], int]] = [
    (mutants.TwoFAreEnough, 1),
    (mutants.OneCheckpointIsEnough, 21),
    (mutants.BelievesAnySignature, 6),
    (mutants.ComparesNoDigests, 41),
    (mutants.VotesAgain, 88),
    (mutants.ForgetsItsVotes, 11),
    (mutants.IgnoresWhatWasCertified, 64),
    (mutants.LetsBlocksSkip, 34),
]
"""With a seed that noticed; when the simulator changes, the search goes on from the first."""


@pytest.mark.parametrize("piece", range(PIECES))
def test_whatever_f_members_say_the_others_agree(piece: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1 + piece, 1 + SEEDS, PIECES):
        outcome = simulate(seed, BftMode)
        assert not outcome.broken, f"seed {seed}: {outcome.seen}"
        counts.update(outcome.counts)
    for needed in ("committed", "elections", "messages lost", "operations done", "compactions", "blink"):
        assert counts[needed] > 0, f"nothing of it happened: {needed}"


def test_the_seeds_meet_every_lie_in_groups_of_four_and_seven() -> None:
    told: Counter[str] = Counter()
    for seed in range(1, 1 + SEEDS):
        world = World(seed, BftMode)
        told[f"{len(world.founders.voters)} members, {len(world.liars)} lie"] += 1
        assert isinstance(world.mode, BftMode)
        told.update(kind for lies in world.mode.lies.values() for kind in lies)
    assert set(KINDS) < set(told)
    assert {"4 members, 0 lie", "4 members, 1 lie", "7 members, 2 lie"} < set(told)


def test_liars_are_caught() -> None:
    caught = 0
    for seed in range(200, 230):
        world = World(seed, BftMode)
        world.run()
        assert isinstance(world.mode, BftMode)
        caught += len(world.mode.accused)
    assert caught > 0


@pytest.mark.parametrize("seed", [51130])
def test_seeds_that_failed_once_pass(seed: int) -> None:
    """51130: whoever had caught a liar fell before anybody else knew, and remembered nothing."""
    assert simulate(seed, BftMode).broken == ""


def test_a_seed_gives_the_same_run_again() -> None:
    assert simulate(3, BftMode, trace=True) == simulate(3, BftMode, trace=True)


@pytest.mark.parametrize(("rules", "likely"), NOTICED_BY, ids=lambda value: getattr(value, "__name__", None))
def test_a_missing_rule_is_noticed(rules: type[Rules], likely: int) -> None:
    for seed in chain((likely,), range(1, SEARCHED + 1)):
        if simulate(seed, partial(BftMode, rules=rules())).broken:
            assert simulate(seed, BftMode).broken == "", "the right rules break it, too"
            return
    pytest.fail(f"{SEARCHED} seeds noticed nothing")
