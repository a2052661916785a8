"""The EWMA and its empirical interval."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.bandwidth.baselines import LastValue
from models.bandwidth.ewma import Ewma
from models.bandwidth.forecast import QUANTILES
from models.bandwidth.interval import UNKNOWN_FACTOR


def fed(values, half_life_s=10.0, history_s=600.0, step_s=1.0):
    ewma = Ewma(half_life_s, history_s)
    for n, value in enumerate(values):
        ewma.observe(n * step_s, value)
    return ewma


def test_knows_nothing_before_the_first_sample():
    assert Ewma(10, 600).forecast(0, 30) is None


def test_one_sample_is_a_guess_as_wide_as_the_unknown_factor():
    point = fed([100.0]).forecast(0, 30)
    assert (point.mean, point.samples, point.errors) == (100, 1, 0)
    assert (point.low, point.high) == (pytest.approx(100 / UNKNOWN_FACTOR), pytest.approx(100 * UNKNOWN_FACTOR))


def test_half_life_is_the_age_at_which_a_sample_counts_half():
    ewma = Ewma(half_life_s=10, history_s=600)
    ewma.observe(0, 100)
    ewma.observe(10, 400)
    assert ewma.forecast(10, 5).mean == pytest.approx((100 * 0.5 + 400) / 1.5)


def test_a_step_is_followed_within_a_few_half_lives():
    point = fed([1000.0] * 100 + [100.0] * 60).forecast(159, 10)
    assert 100 <= point.mean < 120


def test_a_steady_link_gets_a_narrow_interval():
    point = fed([1000.0] * 120).forecast(119, 10)
    assert (point.low, point.mean, point.high) == (pytest.approx(1000), pytest.approx(1000), pytest.approx(1000))


def test_a_jumpy_link_gets_a_wider_one_at_short_horizons_than_at_long_ones():
    noise = np.random.default_rng(1).uniform(500, 1500, 400)
    ewma = fed(noise)
    near, far = ewma.forecast(399, 1), ewma.forecast(399, 60)
    assert near.high - near.low > 2 * (far.high - far.low)


def test_old_data_get_a_wider_interval():
    walk = np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.03, 500))) * 1000
    ewma = fed(walk)
    fresh, stale = ewma.forecast(499, 10), ewma.forecast(499 + 120, 10)
    assert stale.high / stale.low > fresh.high / fresh.low


def test_forgets_what_is_older_than_its_history():
    ewma = fed([1000.0] * 30, history_s=60)
    assert ewma.forecast(29 + 59, 10) is not None
    assert ewma.forecast(29 + 61, 10) is None


def test_quantiles_are_those_of_its_own_errors():
    values = np.random.default_rng(4).gamma(9, 100, 1500)
    ewma, below = Ewma(10, 600), []
    for n, value in enumerate(values):
        ewma.observe(float(n), value)
        if 100 <= n < len(values) - 1:
            below.append(np.array(ewma.forecast(float(n), 1).quantiles) > values[n + 1])
    assert np.mean(below, axis=0) == pytest.approx(QUANTILES, abs=0.05)


def test_interval_holds_what_it_promises_on_a_stationary_link():
    values = np.random.default_rng(3).gamma(9, 100, 1500)
    ewma, inside = Ewma(10, 600), []
    for n, value in enumerate(values):
        ewma.observe(float(n), value)
        if 100 <= n < len(values) - 20:
            point = ewma.forecast(float(n), 20)
            inside.append(point.low <= values[n + 1 : n + 21].mean() <= point.high)
    assert 0.72 <= np.mean(inside) <= 0.9


samples = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1e10, allow_subnormal=False)), min_size=1, max_size=60)


@given(samples, st.floats(0.1, 100), st.floats(0, 100), st.sampled_from([Ewma(5, 300), LastValue(300)]))
@example([(1.0, 1e-300), (1.0, 1e10), (1.0, 0.0)], 0.5, 0.0, LastValue(300))
def test_interval_is_finite_and_surrounds_the_forecast(steps, horizon_s, later_s, like):
    forecaster = Ewma(5, 300) if isinstance(like, Ewma) else LastValue(300)
    now = 0.0
    for gap, value in steps:
        now += gap
        forecaster.observe(now, value)
    point = forecaster.forecast(now + later_s, horizon_s)
    assert point is not None
    assert 0 <= point.low <= point.mean <= point.high < np.inf
    assert len(point.quantiles) == len(QUANTILES)
    assert all(0 <= lower <= higher < np.inf for lower, higher in pairwise(point.quantiles))


@given(samples)
def test_the_level_stays_within_what_was_seen(steps):
    ewma, now = Ewma(5, 1e6), 0.0
    for gap, value in steps:
        now += gap
        ewma.observe(now, value)
    values = [value for _, value in steps]
    assert min(values) * (1 - 1e-9) - 1e-9 <= ewma.forecast(now, 1).mean <= max(values) * (1 + 1e-9) + 1e-9
