"""What is made of forecasts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.migration.decisions import (
    AHEAD_S,
    LATER_S,
    SURE_SHARE_MIN,
    UNKNOWN_S,
    Outlook,
    aim_of,
    horizon_s,
    quantile,
    sure_rate,
)
from actors.migration.eta import Left, time_left
from actors.prediction.messages import Forecast

RATES = [5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0]


def forecast(mean=50.0, quantiles=RATES, samples=10):
    return Forecast(
        mean=mean, low=10.0, high=90.0, horizon_s=1, method="ewma", samples=samples, streams=6, quantiles=quantiles
    )


def aim(outlook, cap=0.0):
    return aim_of(outlook, pause_ms=300, fixed_ms=100, rtt_ms=50, cap=cap)


def test_quantiles_lie_on_a_line_between_those_told():
    assert quantile(forecast(), 0.1) == 10
    assert quantile(forecast(), 0.175) == pytest.approx(17.5)
    assert quantile(forecast(quantiles=[]), 0.5) == 50, "a predictor of an older version tells three"


def test_the_pause_goes_by_the_next_second_and_the_pace_by_the_time_left():
    outlook = Outlook(soon=forecast(mean=55.0), later=forecast(mean=60.0))
    assert (aim(outlook).link_bytes_per_s, aim(outlook).sure_bytes_per_s) == (60, 50)


def test_outages_leave_something_to_count_on():
    outlook = Outlook(soon=forecast(quantiles=[0.0] * 4 + [75.0, 90.0, 95.0]))
    assert sure_rate(outlook) == pytest.approx(SURE_SHARE_MIN * 50)


def test_nothing_known_is_nothing_told():
    for outlook in (Outlook(), Outlook(soon=forecast(samples=0), later=forecast(samples=0))):
        assert (aim(outlook).link_bytes_per_s, aim(outlook).sure_bytes_per_s) == (0, 0)
        assert aim(outlook, cap=30.0).link_bytes_per_s == 0


def test_a_cap_of_the_job_bounds_both():
    capped = aim(Outlook(soon=forecast(), later=forecast()), cap=7.0)
    assert (capped.link_bytes_per_s, capped.sure_bytes_per_s) == (7, 7)


def test_as_far_ahead_as_the_move_lasts():
    assert horizon_s(UNKNOWN_S) == AHEAD_S
    assert (horizon_s(0.5), horizon_s(20.0), horizon_s(1e4)) == (LATER_S[0], 20.0, LATER_S[1])


lefts = st.builds(
    Left, wire_bytes=st.floats(0, 1e10), dirty_bytes_per_s=st.floats(0, 1e9), work_s=st.floats(0, 1e4),
    again=st.booleans(),
)  # fmt: skip
rates = st.lists(st.floats(1.0, 1e9), min_size=3, max_size=3).map(sorted).map(lambda r: (r[1], r[0], r[2]))


@given(lefts, rates)
def test_the_band_surrounds_the_eta(left, link):
    expected, low, high = time_left(left, link)
    assert 0 <= low <= expected * (1 + 1e-9) and expected <= high * (1 + 1e-9)


@given(lefts, rates, st.floats(1.1, 10))
def test_a_wider_forecast_gives_a_wider_band(left, link, factor):
    _, low, high = time_left(left, link)
    _, lower, higher = time_left(left, (link[0], link[1] / factor, link[2] * factor))
    assert lower <= low and higher >= high


def test_what_comes_again_takes_longer():
    calm = Left(wire_bytes=1e6, dirty_bytes_per_s=0.0, work_s=0.0, again=True)
    busy = Left(wire_bytes=1e6, dirty_bytes_per_s=5e5, work_s=0.0, again=True)
    link = (1e6, 1e6, 1e6)
    assert time_left(busy, link)[0] == pytest.approx(2 * time_left(calm, link)[0])
