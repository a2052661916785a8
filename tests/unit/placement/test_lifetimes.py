"""Lifetimes learned from departures, and windows played with them."""

import numpy as np
import pytest

from models.placement.learned.lifetimes import Lifetimes
from models.placement.learned.replay import known_before, simulate_blind, simulate_predicted, without_the_past
from models.placement.rules import Rule
from models.placement.simulator import outcome, simulate
from models.placement.tables import make_guests
from models.placement.windows import Window
from tests.unit.placement.kit import some_guests, some_nodes

WINDOW = Window(some_nodes(), some_guests(), (40_000.0, 80_000.0))


def guests_of(lives, vcpus, tenant=None):
    count = len(lives)
    extra = {} if tenant is None else {"tenant": np.asarray(tenant)}
    return make_guests(np.arange(count, dtype=float), np.arange(count) + lives, vcpus, np.full(count, 4.0), **extra)


def test_a_shape_that_stays_longer_is_thought_to_stay_longer():
    vcpus = np.repeat([1.0, 8.0], 200)
    guests = guests_of(np.where(vcpus == 1, 300.0, 40_000.0), vcpus)
    lifetimes = Lifetimes.fit(guests, 1e6)
    left = lifetimes.remaining(lifetimes.kinds(guests), np.zeros(400))
    assert left.typical[0] < 600
    assert left.typical[-1] > 10_000
    assert np.all(left.low <= left.high)


def test_who_has_stayed_long_is_thought_to_stay_longer():
    rng = np.random.default_rng(1)
    lives = np.where(rng.random(600) < 0.8, 200.0, 100_000.0)
    guests = guests_of(lives, np.ones(600))
    lifetimes = Lifetimes.fit(guests, 1e6)
    kinds = lifetimes.kinds(guests)[:2]
    young, old = lifetimes.remaining(kinds, np.array([0.0, 3600.0])).typical
    assert old > 5 * young


def test_a_tenant_with_enough_guests_counts_for_itself_and_a_stranger_as_its_shape():
    tenant = np.repeat([0, 1], 300)
    guests = guests_of(np.where(tenant == 0, 200.0, 50_000.0), np.ones(600), tenant)
    lifetimes = Lifetimes.fit(guests, 1e6)
    asked = guests_of(np.ones(4), np.array([1.0, 1.0, 1.0, 99.0]), [0, 1, 7, 7])
    quick, slow, stranger, unknown = lifetimes.remaining(lifetimes.kinds(asked), np.zeros(4)).typical
    assert quick < stranger < slow
    assert unknown == pytest.approx(stranger, rel=0.3)


def test_guests_that_are_still_there_count_as_far_as_they_came():
    lives = np.concatenate([np.full(100, 300.0), np.full(100, 1e9)])
    guests = guests_of(lives, np.ones(200))
    lifetimes = Lifetimes.fit(guests, 5_000.0)
    only = Lifetimes.fit(guests_of(lives[:100], np.ones(100)), 5_000.0)
    row = lifetimes.kinds(guests)[:1]
    assert lifetimes.remaining(row, np.zeros(1)).typical[0] > 2 * only.remaining(row, np.zeros(1)).typical[0]


def test_only_what_is_known_by_then_counts():
    guests = some_guests()
    later = guests._replace(leave=np.where(guests.leave > 40_000, guests.leave + 1e6, guests.leave))
    kinds = Lifetimes.fit(guests, 40_000.0).kinds(guests)
    ages = np.zeros(len(kinds))
    now, other = (Lifetimes.fit(each, 40_000.0).remaining(kinds, ages).typical for each in (guests, later))
    assert np.array_equal(now, other)


def test_nobody_has_left():
    with pytest.raises(ValueError, match="no guest has left"):
        Lifetimes.fit(guests_of(np.full(3, 1e9), np.ones(3)), 10.0)
    early = WINDOW._replace(span=(1.0, 80_000.0))
    assert known_before(early) is None
    assert outcome(simulate_predicted(early, Rule.NILAS)) == outcome(simulate_blind(early, Rule.NILAS))


def test_rules_without_lifetimes_choose_the_same_however_they_are_played():
    plain = simulate(*WINDOW[:2], Rule.BEST_FIT, WINDOW.span)
    for run in (simulate_blind(WINDOW, Rule.BEST_FIT), simulate_predicted(WINDOW, Rule.BEST_FIT)):
        assert np.array_equal(run.placed, plain.placed)


def test_a_thought_is_kept_for_every_guest_that_is_there():
    run = simulate_predicted(WINDOW, Rule.NILAS, again_s=600.0)
    for node in range(len(WINDOW.nodes.cpu)):
        here = run.state.where == node
        assert run.state.exit[node] == pytest.approx(run.guests.expect[here].max(initial=0.0))


def test_the_past_can_be_left_out():
    short = without_the_past(WINDOW, 1.0)
    assert 0 < len(short.guests.arrive) < len(WINDOW.guests.arrive)
    assert short.guests.leave.min() > WINDOW.span[0] - 3600
