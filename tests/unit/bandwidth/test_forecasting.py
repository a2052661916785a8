"""Leaks, order, robustness and repetition of the learned forecaster; a training here takes seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bandwidth import load_forecaster
from models.bandwidth import predict as predicting
from models.bandwidth.calibration import Levels, kinds, order_of
from models.bandwidth.data import Trace, cells
from models.bandwidth.distribution import GRID, decide, quantiles
from models.bandwidth.features import SIMPLE, batch, simple_forecasts, truths, view
from models.bandwidth.fit import fit
from models.bandwidth.folds import folds_of, of
from models.bandwidth.module import Net
from models.bandwidth.predict import Forecaster, as_arrays, load_members
from models.bandwidth.train import Args, Examples, examples, train

torch.set_num_threads(1)
HORIZONS = np.array([1.0, 5.0, 15.0])
SMALL = Args(updates=60, questions=300, pieces_per_set=40, hidden=8, width=24, trees=30)


def traces(count: int = 12, length: int = 120, seed: int = 3) -> list[Trace]:
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        level = np.exp(rng.normal(3, 1) + np.cumsum(rng.normal(0, 0.05, length)))
        values = level * np.exp(rng.normal(0, 0.1, length))
        out.append(Trace(f"t{i}", "made", f"g{i // 2}", "unknown", 1.0, np.arange(length) + 1.0, values))
    return out


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return fit(traces(), SMALL, members=2)


@pytest.fixture(scope="module")
def asked() -> Examples:
    return examples(traces(), SMALL)


def test_changing_the_future_changes_nothing_that_is_seen() -> None:
    trace = traces(1)[0]
    rng = np.random.default_rng(0)
    later = trace.mbps.copy()
    later[40:] = rng.uniform(0, 1e4, len(later) - 40)
    rtt = rng.uniform(1, 100, len(later))
    rtt_later = rtt.copy()
    rtt_later[40:] = 1e5
    at = np.array([[0, 5, 20, 39]])
    views = [
        view(batch([(1.0, trace.t_s[:64], values[:64], {"rtt_ms": r[:64]})]), HORIZONS, at)
        for values, r in ((trace.mbps, rtt), (later, rtt_later))
    ]
    np.testing.assert_array_equal(views[0].features, views[1].features)
    np.testing.assert_array_equal(views[0].simple, views[1].simple)
    np.testing.assert_array_equal(views[0].steps[:, :40], views[1].steps[:, :40])


def test_what_is_seen_does_not_depend_on_the_links_beside_it() -> None:
    links = [(1.0, t.t_s[:n], t.mbps[:n], {}) for t, n in zip(traces(4), (1, 7, 30, 64), strict=True)]
    together = view(batch(links), HORIZONS)
    for i, link in enumerate(links):
        np.testing.assert_allclose(view(batch([link]), HORIZONS).features[0], together.features[i], atol=1e-9)


def test_a_ratio_is_all_that_is_seen_of_a_level() -> None:
    trace = traces(1)[0]
    views = [view(batch([(1.0, trace.t_s[:50], trace.mbps[:50] * k, {})]), HORIZONS) for k in (1.0, 100.0)]
    differ = np.flatnonzero(np.abs(np.nan_to_num(views[0].features - views[1].features)).max((0, 1, 2)) > 0.01)
    assert len(differ) == 1  # the level itself, which training hides half the time


def test_truths_are_means_after_the_moment_and_never_over_a_pause() -> None:
    t_s = np.array([1.0, 2, 3, 4, 30, 31, 32])
    found = truths(t_s, np.array([1.0, 2, 3, 4, 5, 6, 7]), 1.0, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(found[:, 0], [2, 3, 4, np.nan, 6, 7, np.nan])
    np.testing.assert_array_equal(found[:, 1], [2.5, 3.5, np.nan, np.nan, 6.5, np.nan, np.nan])


def test_rows_become_cells() -> None:
    step, t_s, mbps, extras = cells([3, 1, 2, 2.1, 9], [30, 10, 20, 40, np.nan], {"ping_ms": [3, 1, np.nan, 2, 0]})
    assert step == pytest.approx(0.9, abs=0.2)
    np.testing.assert_allclose(mbps[0], 10)
    assert len(t_s) == len(mbps) == len(extras["rtt_ms"]) < 5
    assert np.all(np.diff(t_s) > 0)


def test_simple_methods_by_hand() -> None:
    values = np.array([8.0, 4.0, 2.0, 4.0, 8.0])
    found = simple_forecasts(batch([(1.0, np.arange(5.0), values, {})]), np.array([1.0]))[0, 0, 0]
    by_name = dict(zip(SIMPLE, found, strict=True))
    level = values[0]
    for value in values[1:]:
        level += 0.3 * (value - level)
    assert by_name["last"] == 8
    assert by_name["ewma"] == pytest.approx(level)
    assert by_name["harmonic"] == pytest.approx(5 / np.sum(1 / values))
    assert by_name["mean3"] == pytest.approx(14 / 3)
    slope, start = np.polyfit(np.arange(5), values, 1)
    assert by_name["ols"] == pytest.approx(start + slope * 5)


def test_a_split_keeps_groups_whole(asked: Examples) -> None:
    fold = folds_of(asked.dataset, asked.group, 3, seed=0)
    assert set(fold) == {0, 1, 2}
    for group in np.unique(asked.group):
        assert len(set(fold[asked.group == group])) == 1


def test_scalers_are_of_the_training_groups_alone(asked: Examples) -> None:
    learn = folds_of(asked.dataset, asked.group, 3, seed=0) != 0
    spoiled = replace(asked, features=np.where(learn[:, None], asked.features, 1e6).astype(np.float32))
    one, two = (train(of(each, learn), replace(SMALL, updates=2)) for each in (asked, spoiled))
    for (name, left), right in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(left.nan_to_num(), right.nan_to_num()), name


def test_the_same_seed_gives_the_same_weights(asked: Examples) -> None:
    one, two, other = (train(asked, replace(SMALL, updates=5, seed=seed)) for seed in (1, 1, 2))
    states = [torch.cat([v.flatten().nan_to_num() for v in net.state_dict().values()]) for net in (one, two, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def _centres(net: Net, asked: Examples) -> np.ndarray:
    parts = (asked.steps, asked.piece, asked.at, asked.features, asked.simple)
    with torch.inference_mode():
        return net(*(torch.from_numpy(part) for part in parts))[0].numpy()


def test_permuted_truths_leave_nothing_to_learn(asked: Examples) -> None:
    test = folds_of(asked.dataset, asked.group, 3, seed=0) == 0
    rng = np.random.default_rng(0)
    mixed = replace(of(asked, ~test), truth=rng.permutation(asked.truth[~test]))
    unseen = of(asked, test)
    error = float(np.mean((_centres(train(mixed, SMALL), unseen) - unseen.truth) ** 2))
    assert error > 0.8 * float(np.var(unseen.truth))


def test_a_training_of_seconds_is_already_as_good_as_the_last_value(forecaster: Forecaster) -> None:
    errors: dict[str, list[float]] = {"net": [], "last": []}
    for trace in traces(20, seed=9):
        said = forecaster.predict(trace.mbps[:60], trace.t_s[:60], horizons_s=(15,))
        truth = trace.mbps[60:75].mean()
        errors["net"].append(abs(np.log(said.mean[0] / truth)))
        errors["last"].append(abs(np.log(trace.mbps[59] / truth)))
    assert np.mean(errors["net"]) < np.mean(errors["last"])


def test_a_stored_forecaster_answers_the_same(forecaster: Forecaster) -> None:
    again = Forecaster(*load_members(as_arrays(forecaster)))
    trace = traces(1)[0]
    one, two = (each.predict(trace.mbps, trace.t_s) for each in (forecaster, again))
    np.testing.assert_array_equal(one.quantiles, two.quantiles)


@pytest.mark.parametrize(("values", "bound"), [([50.0] * 30, True), ([50.0] * 4, False)])
def test_no_band_tops_the_best_that_was_seen_by_far(
    forecaster: Forecaster, values: list[float], bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "stretch", lambda heard, *_: np.full(heard.shape[:2], 40.0))  # bands beyond reason
    highest = forecaster.predict(values, np.arange(len(values))).quantiles[:, -1]
    assert np.all(highest <= 50 * 1.36) == bound


def test_a_version_from_before_trees_is_refused_with_what_to_do(forecaster: Forecaster) -> None:
    arrays = as_arrays(forecaster)
    old = {name.replace("member0/net/", "net0/"): one for name, one in arrays.items() if "member1" not in name}
    with pytest.raises(ValueError, match="train a version anew"):
        load_members({name: one for name, one in old.items() if "trees" not in name})


@given(
    values=st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan")), st.just(0.0)), min_size=1, max_size=90),
    gaps=st.lists(st.floats(0, 100), min_size=90, max_size=90),
    horizons=st.lists(st.floats(0.1, 600), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_any_history_gets_an_answer_in_order(
    forecaster: Forecaster, values: list[float], gaps: list[float], horizons: list[float]
) -> None:
    said = forecaster.predict(values, np.cumsum(gaps)[: len(values)], {"rtt_ms": [3.0], "moon": [1.0]}, horizons)
    assert said.mean.shape == (len(horizons),)
    assert said.quantiles.shape == (len(horizons), 7)
    if np.isfinite(values).any():
        assert np.all(np.isfinite(said.mean) & (said.mean >= 0))
        assert np.all(np.diff(said.quantiles, axis=1) >= 0)
    else:
        assert said.method == "none"


@pytest.mark.parametrize("wrong", [float("nan"), 1e11])
def test_one_bad_sample_long_ago_poisons_nothing(forecaster: Forecaster, wrong: float) -> None:
    values = np.full(80, 50.0) + np.sin(np.arange(80.0))
    spoiled = values.copy()
    spoiled[5] = wrong
    clean, after = (forecaster.predict(each, np.arange(80.0)).mean for each in (values, spoiled))
    np.testing.assert_allclose(after, clean, rtol=0.1)


@pytest.mark.parametrize("horizons", [(), (0.0,), (-1.0,), (float("nan"),)])
def test_a_horizon_must_be_positive(forecaster: Forecaster, horizons: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        forecaster.predict([1.0], [0.0], horizons_s=horizons)


def test_without_a_trained_version_the_simple_methods_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.registry.registry.shipped_folder", lambda kind: tmp_path / "shipped" / kind)
    simple = load_forecaster(registry=tmp_path)
    assert simple.version == "simple"
    said = simple.predict(np.full(40, 80.0), np.arange(40.0))
    np.testing.assert_allclose(said.mean, 80, rtol=0.02)
    assert np.all(np.diff(said.quantiles, axis=1) >= 0)
    wild = simple.predict(np.exp(np.random.default_rng(0).normal(4, 1, 40)), np.arange(40.0))
    wide, narrow = (each.quantiles[:, -1] / each.quantiles[:, 0] for each in (wild, said))
    assert np.all(wide[:3] > narrow[:3])  # far ahead, 40 samples tell little of either


def test_the_method_with_the_better_record_speaks() -> None:
    # Every second value is another: the last value is always wrong, long means are right.
    values = np.tile([10.0, 100.0], 32)
    said = Forecaster([], Levels.plain()).predict(values, np.arange(64.0), horizons_s=(10,))
    assert said.mean[0] == pytest.approx(55, rel=0.2)


def test_columns_must_fit(forecaster: Forecaster) -> None:
    with pytest.raises(ValueError, match="same number"):
        forecaster.predict([1.0, 2.0], [0.0])


def test_a_batch_answers_as_one_by_one_would(forecaster: Forecaster) -> None:
    links = [(t.mbps[:n], t.t_s[:n], None) for t, n in zip(traces(4), (1, 9, 40, 100), strict=True)]
    for one, link in zip(forecaster.predict_batch(links), links, strict=True):
        alone = forecaster.predict(*link)
        assert alone.method == one.method
        np.testing.assert_allclose(alone.mean, one.mean, rtol=1e-4)


def _normal(centre: float, spread: float) -> np.ndarray:
    return np.array([1 / (1 + np.exp(-1.702 * (GRID - centre) / spread))])


def test_the_decision_is_the_middle_of_a_symmetric_distribution() -> None:
    assert decide(_normal(0.3, 0.05))[0] == pytest.approx(0.3, abs=0.05)


def test_calibration_makes_bands_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.2, 4000)
    sure = np.repeat(_normal(0.0, 0.07), 4000, axis=0)
    ahead = np.full(4000, 5.0)
    levels = Levels.learn(order_of(sure[:2000], truth[:2000]), kinds(sure[:2000], ahead[:2000]), np.ones(2000))
    for table, low, high in ((Levels.plain(), 0.0, 0.6), (levels, 0.85, 0.95)):
        band = quantiles(sure[2000:], table.at(np.array([0.05, 0.95]), sure[2000:], ahead[2000:]))
        assert low <= np.mean((band[:, 0] <= truth[2000:]) & (truth[2000:] <= band[:, 1])) <= high
