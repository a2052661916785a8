"""The pause, from events in any order."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.moving.switchover import Seen, completed_at, switchover


def seen(node: str, event: str, at: float, details: str = "") -> Seen:
    """One event."""
    return Seen(node=node, event=event, at=at, details=details)


MOVE = [
    seen("a", "MIGRATION", 1.0, '{"status":"setup"}'),
    seen("a", "STOP", 58.9),  # misjudged: too much was left
    seen("a", "RESUME", 59.0),
    seen("a", "STOP", 59.149),
    seen("b", "MIGRATION", 59.682, '{"status":"completed"}'),
    seen("a", "MIGRATION", 59.712, '{"status":"completed"}'),
    seen("b", "RESUME", 59.825),
    seen("b", "STOP", 70.0),  # somebody stops it later
    seen("b", "RESUME", 71.0),
]


@given(st.permutations(MOVE))
def test_the_last_stop_before_the_first_instruction_counts(events: Sequence[Seen]) -> None:
    found = switchover(events, "a", "b")
    assert found is not None
    assert (found.stopped_at, found.resumed_at) == (59.149, 59.825)
    assert round(found.pause_ms, 6) == 676.0
    assert completed_at(events, "a") == 59.712
    assert completed_at(events, "b") == 59.682


def test_a_move_that_was_given_up_has_no_pause() -> None:
    assert switchover([seen("a", "STOP", 1.0), seen("a", "RESUME", 2.0)], "a", "b") is None
    assert switchover([seen("b", "RESUME", 2.0)], "a", "b") is None
    assert switchover([seen("b", "RESUME", 2.0), seen("a", "STOP", 3.0)], "a", "b") is None
    assert switchover([], "a", "b") is None


def test_events_that_say_nothing_of_completion() -> None:
    odd = [seen("a", "MIGRATION", 1.0, details) for details in ("", "[]", '{"status":7}', '{"status":"active"}', "{")]
    assert completed_at(odd, "a") is None
