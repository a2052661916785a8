"""The checker of histories: against brute force, and on the textbook's cases."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.agreeing.history import Fate, Operation
from benchmarks.agreeing.linear import broken_keys, is_linearizable
from benchmarks.agreeing.machine import What


def op(what: What, asked: int, done: int, result: int = 0, value: int = 0, expected: int = 0) -> Operation:
    """One that was answered at `done`; 0: never."""
    made = Operation(1, 1, what, 1, value, expected, asked)
    if done:
        made.end(Fate.DONE, result, done)
    return made


def test_a_read_sees_what_was_put_before_it() -> None:
    put = op(What.PUT, 1, 2, value=7)
    assert is_linearizable([put, op(What.GET, 3, 4, 7)])
    assert not is_linearizable([put, op(What.GET, 3, 4, 0)])


def test_a_read_beside_a_put_may_see_either() -> None:
    put = op(What.PUT, 1, 9, value=7)
    assert is_linearizable([put, op(What.GET, 3, 4, 7)])
    assert is_linearizable([put, op(What.GET, 3, 4, 0)])
    assert not is_linearizable([put, op(What.GET, 3, 4, 7), op(What.GET, 5, 6, 0)])


def test_what_was_never_answered_may_happen_late_or_never() -> None:
    put = op(What.PUT, 1, 0, value=7)
    assert is_linearizable([put, op(What.GET, 3, 4, 0), op(What.GET, 5, 6, 7)])
    assert is_linearizable([put, op(What.GET, 3, 4, 0)])


def test_of_two_swaps_one_wins() -> None:
    def swaps(first: int, second: int) -> list[Operation]:
        return [op(What.SWAP, 1, 5, first, value=1), op(What.SWAP, 1, 5, second, value=2)]

    assert is_linearizable(swaps(1, 0))
    assert not is_linearizable(swaps(1, 1))
    assert not is_linearizable(swaps(0, 0))


def test_lost_operations_don_t_count() -> None:
    lost = Operation(1, 1, What.PUT, 1, 7, 0, 1)
    lost.end(Fate.LOST, 0, 2)
    assert broken_keys([lost, op(What.GET, 3, 4, 0)]) == []
    assert broken_keys([lost, op(What.GET, 3, 4, 7)]) == [1]


CALLS = st.tuples(
    st.sampled_from(What),
    st.integers(1, 12),
    st.integers(0, 6),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
)


@given(st.lists(CALLS, max_size=5))
def test_it_agrees_with_trying_every_order(calls: list[tuple[What, int, int, int, int, int]]) -> None:
    history = [
        op(what, asked, asked + took if took else 0, result, value, expected)
        for what, asked, took, result, value, expected in calls
        if took or what is not What.GET
    ]
    assert is_linearizable(history) == brute_force(history)


def brute_force(history: list[Operation]) -> bool:
    open_ = [call for call in history if call.fate is Fate.OPEN]
    done = [call for call in history if call.fate is Fate.DONE]
    subsets = range(1 << len(open_))
    return any(
        fits(order)
        for mask in subsets
        for order in permutations(done + [call for at, call in enumerate(open_) if mask >> at & 1])
    )


def fits(order: tuple[Operation, ...]) -> bool:
    value = 0
    for at, call in enumerate(order):
        if any(later.fate is Fate.DONE and later.done_us < call.asked_us for later in order[at + 1 :]):
            return False
        happens = call.what is What.PUT or (call.what is What.SWAP and value == call.expected)
        if call.fate is Fate.DONE and call.what is What.GET and call.result != value:
            return False
        if call.fate is Fate.DONE and call.what is What.SWAP and happens != bool(call.result):
            return False
        value = call.value if happens else value
    return True


@pytest.mark.parametrize("clients", [1, 3])
def test_a_long_history_is_quick_to_check(clients: int) -> None:
    history, value = [], 0
    for round_ in range(200):
        for client in range(clients):
            asked = round_ * 10 + client
            history.append(op(What.PUT, asked, asked + 5, value=round_ * clients + client + 1))
        value = round_ * clients + clients
        history.append(op(What.GET, round_ * 10 + 8, round_ * 10 + 9, value))
    assert is_linearizable(history)
