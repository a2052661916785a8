"""What the keeper decides."""

from hypothesis import given
from hypothesis import strategies as st

from actors.keeper.engine import Act, Note, Order, Running, decide, noted, wait_ms

BOOT = "this boot"
times = st.floats(0, 1e9)


def order(pause_at_ms: float | None = 1000.0, boot: str = BOOT, answered: int = 0) -> Order:
    return Order(boot=boot, lease=7, pause_at_ms=pause_at_ms, answered=answered)


def test_it_pauses_from_the_deadline_on() -> None:
    assert decide(order(), BOOT, 999.9, node_runs=False) is Act.WAIT
    assert decide(order(), BOOT, 1000.0, node_runs=True) is Act.PAUSE
    assert decide(order(), BOOT, 1e9, node_runs=False) is Act.PAUSE


def test_a_lease_of_an_earlier_boot_has_run_out() -> None:
    """A guest that libvirt starts by itself after a reboot waits for a new lease."""
    assert decide(order(1e12, boot="an earlier one"), BOOT, 5.0, node_runs=False) is Act.PAUSE


@given(times, st.sampled_from([None, order(None), order(None, boot="an earlier one")]))
def test_a_lease_that_does_not_end_by_time_pauses_nobody(now_ms: float, given_order: Order | None) -> None:
    assert decide(given_order, BOOT, now_ms, node_runs=True) is Act.WAIT
    assert decide(given_order, BOOT, now_ms, node_runs=False) is Act.END


@given(times, times)
def test_it_never_sleeps_past_the_deadline(now_ms: float, pause_at_ms: float) -> None:
    waited = wait_ms(order(pause_at_ms), now_ms, 100.0)
    assert 0 < waited <= 100.0
    assert waited <= pause_at_ms - now_ms or now_ms >= pause_at_ms


def test_what_was_paused_is_noted_once_and_forgotten_when_answered() -> None:
    a, b = Running("a", "1"), Running("b", "2")
    note = noted(Note(), order(), [a])
    note = noted(note, order(), [a, b])
    assert [(paused.number, paused.guest, paused.lease) for paused in note.paused] == [(1, "a", 7), (2, "b", 7)]
    note = noted(note, order(answered=1), [])
    assert [paused.guest for paused in note.paused] == ["b"]
    note = noted(note, order(answered=2), [a])
    assert [(paused.number, paused.guest) for paused in note.paused] == [(3, "a")]


def test_a_note_that_was_lost_counts_on_from_what_was_answered() -> None:
    note = noted(Note(), order(answered=9), [Running("a", "1")])
    assert [paused.number for paused in note.paused] == [10]
