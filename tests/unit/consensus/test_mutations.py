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
    (mutants.ForgetsItsVote, 119),
    (mutants.HeedsOldTerms, 1),
    (mutants.VotesTwice, 4),
    (mutants.VotesForOldLogs, 8),
    (mutants.TakesWhatDoesNotFollow, 1),
    (mutants.TruncatesAlways, 13),
    (mutants.KeepsConflicts, 1),
    (mutants.BelievesTheCommit, 1),
    (mutants.AnswersBeforeItWrites, 1),
    (mutants.CountsWhatIsNotWritten, 1),
    (mutants.ChangesManyAtOnce, 145),
    (mutants.ChangesOverAChange, 220),
    (mutants.NeverEndsItsLease, 1),
    (mutants.KeepsItsLeaseAfterATransfer, 1),
    (mutants.ReadsUnconfirmed, 162),
    (mutants.ReadsBeforeItBegins, 5),
    (mutants.LosesTheSnapshotsTerm, 11),
]
"""With a seed that noticed; when the simulator changes, the search goes on from the first."""


@pytest.mark.parametrize(("rules", "likely"), NOTICED_BY, ids=lambda value: getattr(value, "__name__", None))
def test_a_missing_rule_is_noticed(rules: type[Rules], likely: int) -> None:
    for seed in chain((likely,), range(1, SEEDS + 1)):
        if simulate(seed, mutant(rules())).broken:
            assert simulate(seed, RaftMode).broken == "", "the right rules break it, too"
            return
    pytest.fail(f"{SEEDS} seeds noticed nothing")
