"""Which moves may begin: never two that rest on one another, never too many, and all in the end."""

from hypothesis import given
from hypothesis import strategies as st

from actors.migration.sweep_order import startable
from actors.placement.messages import PlannedMove

nodes = st.sampled_from("abcd")
groups = st.lists(st.sampled_from("pqr"), max_size=2, unique=True).map(tuple)


def move(guest, source, target, groups=()):
    return PlannedMove(
        guest=guest, source=source, target=target, reason="", without="", gain_usd=0.0, cost_usd=0.0, expected_s=0.0,
        expected_bytes=0.0, expected_pause_ms=0.0, groups=groups,
    )  # fmt: skip


plans = st.lists(st.builds(move, st.just("g"), nodes, nodes, groups), max_size=8)


def test_what_frees_room_and_what_a_group_ties_goes_first():
    plan = [move("x", "a", "b"), move("y", "c", "a"), move("z", "a", "b", ("p",)), move("w", "a", "d", ("p",))]
    assert startable(plan, ["planned"] * 4, 4) == [0, 2]
    assert startable(plan, ["completed", "planned", "failed", "planned"], 4) == [1, 3]


@given(plans, st.integers(1, 4), st.randoms())
def test_all_are_made_in_the_end_and_none_beside_what_it_rests_on(plan, at_once, random):
    states = ["planned"] * len(plan)
    while "planned" in states or "moving" in states:
        for index in startable(plan, states, at_once):
            states[index] = "moving"
        moving = [index for index, state in enumerate(states) if state == "moving"]
        assert 0 < len(moving) <= at_once
        for later in moving:
            for earlier in (one for one in range(later) if states[one] in ("moving", "planned")):
                assert plan[earlier].source != plan[later].target
                assert not set(plan[earlier].groups) & set(plan[later].groups)
        states[random.choice(moving)] = random.choice(["completed", "failed"])
