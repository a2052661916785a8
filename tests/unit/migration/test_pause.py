"""The account of a pause, and what the next one is expected to cost."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.hypervisor.messages import Switchover
from actors.migration.pause import WORK_MS, account, expected_fixed_ms
from actors.migration.stall import stall_of
from actors.migration.states import Job, State

MOVED = Job(
    id="m-1", guest="web", source="a", target="b", pause_budget_ms=300, created_at=1, since=1, state=State.COMPLETED,
    rtt_ms=50, stopped_at=100.0, pages_at=100.030, sent_at=100.040, delivered_at=100.075, loaded_at=100.085,
    resumed_at=100.200, predicted_pause_ms=230,
)  # fmt: skip


def test_where_the_time_went() -> None:
    seen = account(MOVED)
    assert (seen.total_ms, seen.predicted_ms) == (pytest.approx(200), 230)
    # 75 ms until the last byte was there, 25 of them on the way and 10 the device state's.
    assert seen.last_pages_ms == pytest.approx(40)
    assert seen.device_state_ms == pytest.approx(20)
    assert seen.round_trips_ms == pytest.approx(75)
    assert seen.resume_ms == pytest.approx(65)


def test_what_is_not_known_is_not_made_up() -> None:
    assert account(msgspec.structs.replace(MOVED, resumed_at=0.0)).total_ms == -1
    seen = account(msgspec.structs.replace(MOVED, delivered_at=0.0))
    assert (seen.total_ms, seen.last_pages_ms) == (pytest.approx(200), -1)


moments = st.floats(99.0, 102.0)


@given(moments, moments, moments, moments, moments, st.floats(0, 1000))
def test_parts_are_never_negative_and_add_up(
    pages: float, sent: float, got: float, loaded: float, resumed: float, rtt: float
) -> None:
    """Also when the two hosts' clocks disagree."""
    seen = account(
        msgspec.structs.replace(
            MOVED, pages_at=pages, sent_at=sent, delivered_at=got, loaded_at=loaded, resumed_at=resumed, rtt_ms=rtt
        )
    )
    parts = (seen.last_pages_ms, seen.device_state_ms, seen.round_trips_ms, seen.resume_ms)
    if seen.total_ms < 0:
        assert parts == (-1, -1, -1, -1)
    else:
        assert min(parts) >= -1e-9
        assert sum(parts) == pytest.approx(seen.total_ms, abs=1e-6)


def test_fixed_costs_are_guessed_once_and_then_remembered() -> None:
    assert expected_fixed_ms(50, []) == 75 + WORK_MS
    slower = msgspec.structs.replace(MOVED, resumed_at=100.300)
    odd = msgspec.structs.replace(MOVED, resumed_at=109.0)
    unknown = msgspec.structs.replace(MOVED, resumed_at=0.0)
    assert expected_fixed_ms(50, [unknown, MOVED, odd, slower]) == pytest.approx(260)


def test_no_stall_no_advice() -> None:
    assert stall_of(Switchover()) is None


def test_more_of_the_link_is_no_help_where_work_sets_the_pace() -> None:
    stall = stall_of(
        Switchover(stalled=True, budget_ms=300, needed_ms=790, needed_bytes=100, fitting_bytes=40, link_limited=False)
    )
    assert stall is not None
    assert (stall.pause_ms, stall.writes_share, stall.link_bytes_per_s) == (1000, 0.4, 0)
    assert "Mbit/s" not in str(stall)
