"""The simulator notices when a safety rule is missing: each is taken away alone, and some seed breaks a promise."""

from itertools import chain

import pytest

from actors.consensus.raft.rules import Rules
from benchmarks.agreeing.raft import RaftMode
from benchmarks.agreeing.run import mutant, simulate
from tests.unit.consensus import mutants

SEEDS = 1000

NOTICED_BY: list[tuple[type[Rules], int]] = [
    (mutants.HalfIsEnough, 1),
    (mutants.ForgetsItsVote, 31),
    (mutants.HeedsOldTerms, 42),
    (mutants.VotesTwice, 7),
    (mutants.VotesForOldLogs, 5),
    (mutants.VotesWhileItHears, 261),
    (mutants.TakesWhatDoesNotFollow, 5),
    (mutants.TruncatesAlways, 16),
    (mutants.KeepsConflicts, 4),
    (mutants.CommitsOldTerms, 121),
    (mutants.BelievesTheCommit, 1),
    (mutants.AnswersBeforeItWrites, 2),
    (mutants.CountsWhatIsNotWritten, 3),
    (mutants.ChangesManyAtOnce, 96),
    (mutants.ChangesOverAChange, 4),
    (mutants.ChangesBeforeItBegins, 879),
    (mutants.NeverEndsItsLease, 36),
    (mutants.KeepsItsLeaseAfterATransfer, 81),
    (mutants.ReadsUnconfirmed, 81),
    (mutants.ReadsBeforeItBegins, 3),
    (mutants.LosesTheSnapshotsTerm, 4),
]
"""With a seed that noticed; when the simulator changes, the search goes on from the first."""


@pytest.mark.parametrize(("rules", "likely"), NOTICED_BY, ids=lambda value: getattr(value, "__name__", None))
def test_a_missing_rule_is_noticed(rules: type[Rules], likely: int) -> None:
    for seed in chain((likely,), range(1, SEEDS + 1)):
        if simulate(seed, mutant(rules())).broken:
            assert simulate(seed, RaftMode).broken == "", "the right rules break it, too"
            return
    pytest.fail(f"{SEEDS} seeds noticed nothing")
