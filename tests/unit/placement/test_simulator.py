"""The simulator: what it counts is what is there, and no rule breaks a hard rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.fragments import request_mix
from models.placement.rules import PLAIN, Rule, linear_weights
from models.placement.simulator import CLOSE, DENIED, FAIL, OPEN, Events, Run, advance, begin, outcome, play, simulate
from models.placement.tables import APART, DOMAINS, TOGETHER, make_guests, make_nodes
from tests.unit.placement.kit import some_guests, some_nodes

DAY = (0.0, 86_400.0)
KNOBS = PLAIN._replace(weights=linear_weights(cpu_left=-1.0, home=3.0))


def check(run: Run) -> None:
    """Recount everything from where the guests are."""
    nodes, guests, state = run.nodes, run.guests, run.state
    here = np.flatnonzero(state.where >= 0)
    cpu, memory = np.zeros_like(state.cpu), np.zeros_like(state.memory)
    for g in here:
        for cell in (0, 1) if state.slot[g] == 2 else (state.slot[g],):
            part = 2 if state.slot[g] == 2 else 1
            cpu[state.where[g], cell] += guests.vcpus[g] / part
            memory[state.where[g], cell] += guests.memory[g] / part
    total = np.where(np.arange(2)[None] < nodes.cells[:, None], nodes.cpu[:, None], 0)
    assert np.allclose(state.cpu + cpu, total)
    assert np.all(state.cpu > -1e-6)
    assert np.all(state.memory > -1e-6)
    assert np.all(state.gpu > -1e-6)
    assert state.sums[0] == pytest.approx(state.cpu.sum())
    assert state.sums[4] == pytest.approx((8 * np.floor((state.cpu + 1e-9) / 8)).sum())
    assert state.sums[6] == (np.bincount(state.where[here], minlength=len(nodes.cpu)) == 0).sum()
    assert np.all((guests.sites[here] >> nodes.site[state.where[here]]) & 1)
    assert np.all(guests.labels[here] & nodes.labels[state.where[here]] == guests.labels[here])
    for group in np.unique(guests.group[here]):
        members = here[guests.group[here] == group]
        where, bond = state.where[members], guests.bond[members][0]
        if group >= 0 and bond == TOGETHER:
            assert len(set(where)) == 1
        if group >= 0 and bond == APART:
            assert len(set(where)) == len(where)
        if group >= 0 and bond == DOMAINS:
            for rack in set(nodes.rack[where]):
                assert len(set(guests.domain[members[nodes.rack[where] == rack]])) == 1


def bonded_guests(seed: int):
    rng = np.random.default_rng(seed)
    group = rng.integers(-1, 12, 300)
    gpus = rng.choice([0, 0, 1, 2], 300)
    return some_guests(
        seed=seed,
        group=group,
        bond=np.where(group < 0, 0, group % 3 + 1),
        domain=rng.integers(0, 3, 300),
        sites=rng.choice([-1, -1, 1, 2, 6], 300),
        labels=rng.choice([0, 0, 0, 1], 300),
        gpus=gpus,
        share=np.where(gpus == 1, rng.choice([0.3, 0.5, 1.0], 300), 1.0 * gpus.clip(0, 1)),
    )


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(list(Rule)), st.integers(0, 1000))
def test_no_policy_breaks_a_hard_rule_and_the_books_are_right(rule, seed):
    guests = bonded_guests(seed)
    nodes = some_nodes()._replace(gpus=np.full(9, 4), labels=np.arange(9) % 2, rack=np.arange(9) // 2)
    knobs = KNOBS._replace(mix=request_mix(guests), seed=seed)
    events = Events(np.array([20_000.0, 30_000.0, 40_000.0]), np.array([2, 5, 2]), np.array([FAIL, CLOSE, OPEN]))
    run = begin(nodes, guests, DAY, events)
    for end in (50, 100, 200, 300):
        play(run, max(end - 100, 0) if end > 100 else end - 50, end, int(rule), knobs)
        check(run)
    advance(run, DAY[1], int(rule), knobs)
    check(run)
    result = outcome(run)
    assert 0 <= result.rejected_cores <= 1
    assert result.moves >= 0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(Rule.FIRST_FIT, 0), (Rule.BEST_FIT, 1), (Rule.WORST_FIT, 2), (Rule.ALIGNMENT, 1)],
)
def test_each_rule_of_thumb_takes_its_node(rule, expected):
    nodes = make_nodes(np.full(3, 16.0), np.full(3, 64.0))
    nodes = nodes._replace(held_cpu=np.array([[4.0, 0], [8.0, 0], [0.0, 0]]))
    run = simulate(nodes, make_guests(np.zeros(1), np.full(1, 9.0), np.full(1, 4.0), np.full(1, 4.0)), rule, (0, 10))
    assert run.placed[0] == expected


def test_nilas_puts_a_guest_where_others_stay_as_long():
    nodes = make_nodes(np.full(2, 16.0), np.full(2, 64.0))
    guests = make_guests(np.arange(3.0), np.array([1e3, 1e6, 1e6]), np.array([12.0, 12.0, 2.0]), np.full(3, 1.0))
    assert simulate(nodes, guests, Rule.NILAS, (0, 1e7)).placed[2] == 1
    assert simulate(nodes, guests, Rule.FIRST_FIT, (0, 1e7)).placed[2] == 0


def test_fgd_keeps_whole_gpus_whole():
    nodes = make_nodes(np.full(2, 64.0), np.full(2, 64.0), gpus=np.array([1, 1]))
    guests = make_guests(
        np.arange(4.0), np.full(4, 99.0), np.full(4, 1.0), np.full(4, 1.0),
        gpus=np.ones(4, int), share=np.array([0.5, 0.5, 1.0, 1.0]),
    )  # fmt: skip
    run = simulate(nodes, guests, Rule.FGD, (0, 10), PLAIN._replace(mix=request_mix(guests)))
    assert run.placed[0] == run.placed[1] != run.placed[2]
    assert run.placed[3] == DENIED
    assert outcome(run).gpu_allocated == pytest.approx((0.5 + 1 + 8 * 2) / 10 / 2)


def test_a_tenant_stays_on_its_site():
    guests = some_guests(count=60)._replace(vcpus=np.full(60, 1.0), memory=np.full(60, 1.0))
    assert outcome(simulate(some_nodes(), guests, Rule.SITE_STICKY, DAY)).split_pairs == 0
    assert outcome(simulate(some_nodes(), guests, Rule.RANDOM, DAY)).split_pairs > 0.4


def test_means_over_time_are_of_the_span_only():
    guests = make_guests(np.array([0.0, 50.0]), np.array([100.0, 150.0]), np.full(2, 8.0), np.full(2, 16.0))
    result = outcome(simulate(make_nodes(np.full(1, 16.0), np.full(1, 64.0)), guests, Rule.BEST_FIT, (50.0, 150.0)))
    assert result.cpu_allocated == pytest.approx((16 * 50 + 8 * 50) / 100 / 16)
    assert result.guests == 1


def test_maintenance_moves_guests_and_a_failure_restarts_them():
    guests = make_guests(np.zeros(2), np.full(2, 100.0), np.full(2, 8.0), np.full(2, 16.0))
    nodes = make_nodes(np.full(2, 16.0), np.full(2, 64.0))
    closing = Events(np.array([50.0]), np.array([0]), np.array([CLOSE]))
    moved = outcome(simulate(nodes, guests, Rule.BEST_FIT, (0, 100), events=closing))
    assert (moved.moves, moved.moved_gib, moved.lost) == (2, 32.0, 0)
    full = make_nodes(np.array([16.0, 8.0]), np.full(2, 64.0))
    dying = Events(np.array([50.0]), np.array([0]), np.array([FAIL]))
    died = outcome(simulate(full, guests, Rule.FIRST_FIT, (0, 100), events=dying))
    assert (died.restarts, died.lost) == (1, 1)


def test_refuses_guests_out_of_order_and_unknown_names():
    guests = some_guests(count=10)
    with pytest.raises(ValueError, match="make_guests"):
        begin(some_nodes(), guests._replace(arrive=guests.arrive[::-1].copy()), DAY)
    with pytest.raises(ValueError, match="no column colour"):
        make_guests(np.zeros(1), np.ones(1), np.ones(1), np.ones(1), colour=np.ones(1))
    with pytest.raises(ValueError, match="no feature luck"):
        linear_weights(luck=1.0)
