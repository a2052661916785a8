"""Trees as they are served say what scikit-learn says; half of a member's word is theirs; what is none is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from models.bandwidth.folds import folds_of, of
from models.bandwidth.forest import Forest
from models.bandwidth.growing import arrays_of, grow
from models.bandwidth.inference import EDGES
from models.bandwidth.member import Member
from models.bandwidth.seeing import COLUMNS, FEATURES, LEVEL, SIMPLE_METHODS
from models.bandwidth.train import Examples, examples
from tests.unit.bandwidth.test_forecasting import SMALL, traces
from tests.unit.bandwidth.test_inference import drawn


def leaf(value: float = 0.0) -> Forest:
    """A single leaf: says the same of every link."""
    end = {"cut": np.array([np.inf]), "value": np.array([value])}
    return Forest({**dict.fromkeys(("roots", "depth", "seen", "below", "start"), np.zeros(1)), **end})


@pytest.fixture(scope="module")
def asked() -> Examples:
    return examples(traces(), SMALL)


@given(seed=st.integers(0, 2**31), blank=st.sampled_from([0.0, 0.2, 0.9]))
@settings(max_examples=10, deadline=None)
def test_it_is_what_scikit_learn_computes(seed: int, blank: float) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (300, FEATURES)).astype(np.float32)
    features[rng.random(features.shape) < blank] = np.nan
    used = np.sort(rng.permutation(FEATURES)[:20])
    model = HistGradientBoostingRegressor(
        max_iter=8, max_depth=7, min_samples_leaf=5, early_stopping=False, random_state=0
    )
    model.fit(features[:, used], np.nan_to_num(features[:, used[0]]) + rng.normal(0, 1, 300))
    more = rng.normal(0, 2, (200, FEATURES)).astype(np.float32)
    more[rng.random(more.shape) < 0.3] = np.nan
    met = np.concatenate([features, more])  # values at which is cut are met too
    np.testing.assert_allclose(Forest(arrays_of(model, used))(met), model.predict(met[:, used]), atol=1e-6)


def test_the_same_seed_grows_the_same_trees(asked: Examples) -> None:
    one, two = (grow(asked, SMALL).arrays for _ in range(2))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], name)


def test_trees_are_grown_of_the_training_groups_alone(asked: Examples) -> None:
    learn = folds_of(asked.dataset, asked.group, 3, seed=0) != 0
    spoiled = replace(asked, features=np.where(learn[:, None], asked.features, 1e6).astype(np.float32))
    one, two = (grow(of(each, learn), SMALL).arrays for each in (asked, spoiled))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], name)
    assert not np.array_equal(grow(spoiled, SMALL).arrays["cut"], grow(asked, SMALL).arrays["cut"])


def test_permuted_truths_leave_nothing_to_grow(asked: Examples) -> None:
    test = folds_of(asked.dataset, asked.group, 3, seed=0) == 0
    mixed = of(asked, ~test)
    mixed.truth[:] = np.random.default_rng(0).permutation(mixed.truth)
    unseen = of(asked, test)
    error = float(np.mean((grow(mixed, SMALL)(unseen.features) - unseen.truth) ** 2))
    assert error > 0.8 * float(np.var(unseen.truth))


def test_trees_know_more_than_the_last_value(asked: Examples) -> None:
    test = folds_of(asked.dataset, asked.group, 3, seed=0) == 0
    unseen = of(asked, test)
    told = grow(of(asked, ~test), SMALL)(unseen.features)
    assert np.mean(np.abs(told - unseen.truth)) < np.mean(np.abs(unseen.simple[:, 0] - unseen.truth))


def test_half_of_a_members_word_is_its_trees_and_all_of_it_about_one_cell() -> None:
    rng = np.random.default_rng(1)
    net = drawn(1).served()
    steps, where = rng.normal(0, 1, (1, 9, COLUMNS)).astype(np.float32), np.zeros(5, np.int64)
    at = np.array([8, 3, 1, 0, 0])
    features = rng.normal(0, 1, (5, FEATURES)).astype(np.float32)
    simple = rng.normal(0, 0.3, (5, SIMPLE_METHODS)).astype(np.float32)
    asked = (steps, where, at, features, simple)
    alone, told = net(*asked), Member(net, leaf(0.4))(*asked)
    np.testing.assert_array_equal(told[1], alone[1])
    middle = np.array([np.interp(0.5, cdf, EDGES) for cdf in alone[1]]) + alone[0]
    np.testing.assert_allclose(told[0] - alone[0], (0.4 - middle) * [0.5, 0.5, 0.5, 1, 1], atol=1e-6)


def test_a_level_unlike_all_that_were_met_is_hidden_from_the_trees() -> None:
    net = drawn(2).served()
    net.mean[LEVEL], net.scale[LEVEL] = 3.0, 1.0
    at_the_level = {
        "roots": np.zeros(1), "depth": np.ones(1), "seen": np.array([2 * LEVEL, 0, 0]),
        "cut": np.array([4.0, np.inf, np.inf]), "below": np.arange(1, 4) - [0, 1, 1], "value": np.array([0.0, 1, 2]),
        "start": np.zeros(1),
    }  # fmt: skip
    features = np.zeros((3, FEATURES), np.float32)
    features[:, LEVEL] = [3.0, 4.5, 9.0]  # known, known, far off
    asked = (np.zeros((1, 2, COLUMNS), np.float32), np.zeros(3, int), np.ones(3, int), features)
    simple = np.zeros((3, SIMPLE_METHODS), np.float32)
    moved = Member(net, Forest(at_the_level))(*asked, simple)[0] - Member(net, leaf())(*asked, simple)[0]
    np.testing.assert_allclose(moved, [0.5, 1.0, 0.5], atol=1e-6)


def test_what_is_no_tree_is_refused(asked: Examples) -> None:
    good = grow(asked, SMALL).arrays
    with pytest.raises(ValueError, match="cut is not there"):
        Forest({name: array for name, array in good.items() if name != "cut"})
    with pytest.raises(ValueError, match="cut has another shape"):
        Forest({**good, "cut": good["cut"][:-1]})
    ends = {"roots": len(good["seen"]), "depth": 99, "seen": 2 * FEATURES, "below": len(good["seen"]) - 1}
    for name, end in ends.items():
        array = good[name].copy()
        array[0] = end
        with pytest.raises(ValueError, match=f"{name} is out of range"):
            Forest({**good, name: array})
