"""Calibration on groups that the member asked about them never saw, all of them, each alike."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bandwidth import fit as fitting
from models.bandwidth.calibration import CALIBRATED, KINDS, Levels
from models.bandwidth.features import LONGEST
from models.bandwidth.fit import fit
from models.bandwidth.folds import balance, folds_of
from models.bandwidth.forest import Forest
from models.bandwidth.member import Member
from models.bandwidth.metrics import coverage_interval
from models.bandwidth.moments import draw
from models.bandwidth.predict import Forecaster
from models.bandwidth.train import Examples
from tests.unit.bandwidth.test_forecasting import SMALL, traces
from tests.unit.bandwidth.test_forest import leaf
from tests.unit.bandwidth.test_inference import drawn

ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), min_size=1, max_size=60)


@given(rows=ROWS, folds=st.integers(1, 5), seed=st.integers(0, 99))
def test_groups_are_whole_and_every_set_is_spread(rows: list[tuple[str, int]], folds: int, seed: int) -> None:
    dataset, group = np.array([a for a, _ in rows]), np.array([f"{a}{g}" for a, g in rows])
    fold = folds_of(dataset, group, folds, seed)
    np.testing.assert_array_equal(fold, folds_of(dataset, group, folds, seed))
    for name in np.unique(group):
        assert len(set(fold[group == name])) == 1
    for name in np.unique(dataset):
        groups = len(np.unique(group[dataset == name]))
        counts = [len(np.unique(group[(dataset == name) & (fold == k)])) for k in range(folds)]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == groups


@given(rows=ROWS)
def test_every_task_counts_alike_and_in_it_every_group(rows: list[tuple[str, int]]) -> None:
    task, group = np.array([a for a, _ in rows]), np.array([str(g) for _, g in rows])
    weights = balance(task, group)
    for name in np.unique(task):
        here = task == name
        assert weights[here].sum() == pytest.approx(1)
        sums = [weights[here & (group == one)].sum() for one in np.unique(group[here])]
        np.testing.assert_allclose(sums, sums[0])


@pytest.mark.parametrize("members", [1, 2, 3])
def test_each_group_is_judged_by_a_net_that_never_saw_it(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    saw: list[set[str]] = []
    judged: dict[str, list[int]] = {}
    nets = [drawn(seed) for seed in range(members)]
    trees: list[Forest] = []

    def train(data: Examples, *_: object) -> object:
        saw.append(set(data.group))
        return nets[len(saw) - 1]

    def grow(data: Examples, *_: object) -> Forest:
        assert set(data.group) == saw[-1]
        trees.append(leaf())
        return trees[-1]

    def orders(self: Forecaster, links: object, horizons: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
        (member,) = self.members
        who = next(
            i for i, one in enumerate(nets) if np.array_equal(one.served().arrays["mean"], member.net.mean, True)
        )
        assert member.trees is trees[who]
        judged.setdefault(now[0], []).append(who)
        return np.where(np.isfinite(truth), 0.5, np.nan), np.zeros(truth.shape, int)

    now = [""]

    def drawing(some: list, *rest: object) -> Iterator[object]:
        for each in draw(some, *rest):
            now[0] = f"{each.trace.dataset}/{each.trace.group}"
            yield each

    monkeypatch.setattr(fitting, "train", train)
    monkeypatch.setattr(fitting, "grow", grow)
    monkeypatch.setattr(fitting, "draw", drawing)
    monkeypatch.setattr(Forecaster, "orders", orders)
    fit(traces(), SMALL, members)
    every = {f"made/g{i}" for i in range(6)}
    assert len(saw) == members
    for group, by in judged.items():
        assert len(set(by)) == 1
        assert group not in saw[by[0]]
    if members > 1:
        assert set(judged) == every
        assert set.union(*saw) == every
    else:
        assert set(judged) | saw[0] == every


def test_one_group_alone_is_learned_from_and_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster = fit(traces(2), SMALL.__class__(updates=2, questions=50, hidden=4, width=8), members=2)
    assert len(forecaster.members) == 2
    assert not np.array_equal(forecaster.levels.table, Levels.plain().table)


@pytest.mark.parametrize("members", [0, 1])
def test_an_order_is_that_of_the_band_that_is_served(members: int) -> None:
    made = [Member(drawn(seed, times=0.3).served(), leaf()) for seed in range(members)]
    forecaster = Forecaster(made, Levels.plain())
    horizons = np.array([1.0, 5.0, 30.0])
    links = [(trace.mbps[:n], trace.t_s[:n], None) for trace, n in zip(traces(3), (1, 20, 100), strict=True)]
    said = forecaster.predict_batch(links, horizons)
    highest = np.array([[np.inf], *([1.3 * mbps[-LONGEST:].max()] for mbps, _, _ in links[1:])])  # bands end above it
    for place, level in enumerate(said[0].levels):
        truth = np.array([one.quantiles[:, place] for one in said])
        order, kind = forecaster.orders(links, horizons, truth)
        np.testing.assert_allclose(order[(truth > 0.1) & (truth < highest)], level, atol=0.01)
        assert kind.shape == truth.shape
    order, _ = forecaster.orders(links, horizons, np.full((3, 3), np.nan))
    assert np.isnan(order).all()


def test_a_group_with_many_truths_does_not_decide() -> None:
    # Nine groups of 10 truths in the middle, one of 9,000 at the upper end.
    order = np.concatenate([np.full(90, 0.5), np.full(9000, 0.999)])
    group = np.concatenate([np.repeat(np.arange(9), 10), np.full(9000, 9)]).astype(str)
    levels = Levels.learn(order, np.zeros(len(order), int), balance(np.full(len(order), "task"), group))
    assert levels.table[0, list(CALIBRATED).index(0.75)] == pytest.approx(0.5, abs=0.01)
    assert levels.table.shape == (KINDS, len(CALIBRATED))


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_levels_rise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = Levels.learn(rng.random(50), rng.integers(KINDS, size=50), rng.random(50) + 0.01)
    assert np.all(np.diff(levels.table, axis=1) >= 0)
    assert np.all((levels.table > 0) & (levels.table < 1))


def test_few_groups_say_little_of_a_coverage() -> None:
    truth = np.ones(400)
    held = np.arange(400) % 10 > 0  # of each group nine in ten
    bands = np.stack([np.where(held, 0.5, 2.0), np.where(held, 1.5, 3.0)], axis=1)
    alike = coverage_interval(bands, truth, np.repeat(np.arange(8), 50))
    assert alike["coverage90_low"] == alike["coverage90_high"] == pytest.approx(0.9)
    apart = coverage_interval(bands[np.argsort(held)], truth, np.repeat(np.arange(8), 50))  # of one group nearly none
    assert apart["coverage90_low"] < 0.75
    assert apart["coverage90_high"] == pytest.approx(1)
