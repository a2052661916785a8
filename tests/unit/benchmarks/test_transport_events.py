"""What the marks of a sink say about a bad moment."""

import pytest

from benchmarks.carrying.amst import Marks
from benchmarks.carrying.events import carried_between, recovered_s


def marks(rates: list[tuple[float, float]], step_s: float = 0.05) -> Marks:
    """Marks every `step_s` of a flow with (seconds, bytes per second) one after the other, from second 100 on."""
    at, count, made = 100.0, 0.0, [(100.0, 0)]
    for lasts_s, rate in rates:
        for _ in range(round(lasts_s / step_s)):
            at, count = at + step_s, count + rate * step_s
            made.append((at, round(count)))
    return made


def test_bytes_between_two_moments() -> None:
    flow = marks([(5, 1000), (5, 0), (5, 2000)])
    assert carried_between(flow, 100, 105) == pytest.approx(5000, abs=2)
    assert carried_between(flow, 101.02, 102.02) == pytest.approx(1000, abs=2)
    assert carried_between(flow, 104, 111) == pytest.approx(3000, abs=2)
    assert carried_between(flow, 0, 1000) == pytest.approx(15000, abs=2)


def test_recovery_is_when_half_a_second_carries_what_it_should() -> None:
    flow = marks([(5, 1000), (1.2, 0), (10, 1000)])
    assert recovered_s(flow, 105.0, 115.0, 1000.0) == pytest.approx(1.15, abs=0.1)
    assert recovered_s(marks([(5, 1000), (10, 100)]), 105.0, 115.0, 1000.0) is None
