"""The search for what serves multifd+zstd best, against made-up machines."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.moving.rivals import Tuning
from benchmarks.moving.rows import Measured
from benchmarks.moving.tuning import CHANNELS, LEVELS, best, next_tuning, tell

Cost = dict[tuple[int, int], float | None]
ALL = [(channels, level) for channels in CHANNELS for level in LEVELS]
costs = st.fixed_dictionaries({key: st.none() | st.floats(1, 100) for key in ALL})


def search(cost: Cost, channels: int = 0, zstd_level: int = 0) -> list[tuple[Tuning, Measured]]:
    """Every tuning that is tried on a machine where tunings cost so much; None: does not finish."""
    tried: list[tuple[Tuning, Measured]] = []
    while (tuning := next_tuning(tried, channels, zstd_level)) is not None:
        tried.append((tuning, Measured(total_s=cost.get((tuning.channels, tuning.zstd_level), 1.0))))
        assert len(tried) <= len(CHANNELS) + len(LEVELS), "the search must end"
    return tried


@given(costs)
def test_the_search_is_short_and_never_repeats(cost: Cost) -> None:
    tried = [tuning for tuning, _ in search(cost)]
    assert len(set(tried)) == len(tried) == len(CHANNELS) + len(LEVELS) - 1


@given(costs)
def test_the_best_that_was_tried_wins(cost: Cost) -> None:
    tried = search(cost)
    finished = [measured.total_s for _, measured in tried if measured.total_s is not None]
    chosen = best(tried)
    assert (chosen is None) == (not finished)
    if chosen is not None:
        assert cost[chosen.channels, chosen.zstd_level] == min(finished)


@given(costs.filter(lambda cost: any(cost[n, LEVELS[0]] is not None for n in CHANNELS)))
def test_levels_are_tried_with_the_best_number_of_channels(cost: Cost) -> None:
    at_first_level = {n: found for n in CHANNELS if (found := cost[n, LEVELS[0]]) is not None}
    numbers = {tuning.channels for tuning, _ in search(cost)[len(CHANNELS) :]}
    assert all(at_first_level[n] == min(at_first_level.values()) for n in numbers & set(at_first_level))


def test_what_is_given_is_kept() -> None:
    assert {tuning.channels for tuning, _ in search({}, channels=16)} == {16}
    assert {tuning.zstd_level for tuning, _ in search({}, zstd_level=9)} == {9}
    assert [tuning for tuning, _ in search({}, 16, 9)] == [Tuning(channels=16, zstd_level=9)]


def test_what_was_tried_is_told() -> None:
    tried = [
        (Tuning(channels=2, zstd_level=1), Measured(total_s=16.14)),
        (Tuning(channels=4, zstd_level=1), Measured(failure="aborted")),
    ]
    assert tell(tried) == "level 1 × 2: 16.1 s; level 1 × 4: not finished"
