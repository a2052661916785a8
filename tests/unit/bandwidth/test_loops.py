"""The compiled loops give what plain numpy would, written out here the slow way."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bandwidth.data import Trace, cells
from models.bandwidth.distribution import GRID, NEAR, decide, on_grid, quantiles
from models.bandwidth.features import LEVEL, SIMPLE, batch, horizon_cells, truths, view
from models.bandwidth.inference import EDGES
from models.bandwidth.reckoning import past_answers

HORIZONS = np.array([1.0, 5.0, 15.0])
FLOOR, FLOOR_MBPS = 0.02, 0.01


def _links(seed: int, count: int = 6) -> list[tuple[float, np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        n = int(rng.integers(1, 65))
        values = np.exp(rng.normal(3, 1, n)) * (rng.random(n) > 0.1)
        t_s = np.cumsum(np.where(rng.random(n) < 0.1, 9.0, 1.0))
        rtt = np.where(rng.random(n) < 0.2, np.nan, rng.uniform(1, 90, n))
        out.append((1.0, t_s, values, {"rtt_ms": rtt}))
    return out


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ratios_and_past_errors_by_hand(seed: int) -> None:
    links = _links(seed)
    b = batch(links)
    v = view(b, HORIZONS)
    for row, (_, t_s, values, extras) in enumerate(links):
        last = len(values) - 1
        level, floor = values[-5:].mean(), FLOOR * values.mean() + FLOOR_MBPS
        seen = v.features[row, 0]
        np.testing.assert_allclose(v.level[row, 0], level, atol=1e-9)
        ratio = np.log((values[-1] + floor) / (level + floor))
        np.testing.assert_allclose(seen[0, 0], np.clip(ratio, -5, 5), atol=1e-6)
        np.testing.assert_allclose(seen[:, LEVEL], np.log(level + 0.01), atol=1e-9)
        rtt = max(extras["rtt_ms"][-1], 0.05) if np.isfinite(extras["rtt_ms"][-1]) else np.nan
        np.testing.assert_allclose(seen[0, LEVEL + 2], np.log(rtt))
        told = _ewma(values)
        for h, ahead in enumerate(horizon_cells(HORIZONS, b.step_s)[row]):
            errors = [
                abs(np.log((values[t + 1 : t + ahead + 1].mean() + under) / (told[t] + under)))
                for t in range(max(0, last - ahead + 1 - 16), max(0, last - ahead + 1))
                if np.all(np.diff(t_s[t : t + ahead + 1]) <= 2.5)
                for under in [FLOOR * values[: t + 1].mean() + FLOOR_MBPS]
            ]
            np.testing.assert_allclose(v.error[row, 0, h], (sum(errors) + 0.5) / (len(errors) + 2), rtol=1e-6)


def _ewma(values: np.ndarray) -> list[float]:
    level, out = float(values[0]), []
    for value in values:
        level += 0.3 * (value - level)
        out.append(level)
    return out


@given(
    rows=st.lists(st.tuples(st.floats(0, 50), st.floats(-1, 100) | st.just(float("nan"))), min_size=1, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_cells_by_hand(rows: list[tuple[float, float]]) -> None:
    step, at, means, extras = cells([t for t, _ in rows], [v for _, v in rows], {"rtt_ms": [t for t, _ in rows]})
    good = sorted(((t, v) for t, v in rows if v >= 0), key=lambda row: row[0])
    spacing = sorted(d for d in np.diff([t for t, _ in good[:65]]) if d > 0)
    assert step == (min(max(spacing[len(spacing) // 2], 0.5), 60.0) if spacing else 1.0)
    by_cell: dict[float, list[tuple[float, float]]] = {}
    for t, v in good:
        by_cell.setdefault(float(np.rint((t - good[0][0]) / step)), []).append((t, v))
    np.testing.assert_allclose(at, [each[-1][0] for each in by_cell.values()])
    np.testing.assert_allclose(means, [np.mean([v for _, v in each]) for each in by_cell.values()])
    np.testing.assert_allclose(extras["rtt_ms"], [np.mean([t for t, _ in each]) for each in by_cell.values()])


def _distributions(seed: int, count: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(len(EDGES) - 1, 0.3), count)
    whole = np.concatenate([np.zeros((count, 1)), np.cumsum(shares, 1)], 1).clip(0, 1)
    centre = rng.normal(0, 1, count)
    return centre, whole, on_grid([(centre, whole)], EDGES)


def test_a_distribution_is_laid_on_the_grid_straight_between_its_edges() -> None:
    centre, whole, found = _distributions(1)
    wanted = [np.interp(GRID, at + EDGES, each) for at, each in zip(centre, whole, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    several = on_grid([(centre, whole), (centre + 0.1, whole)], EDGES)
    np.testing.assert_allclose(several, (found + on_grid([(centre + 0.1, whole)], EDGES)) / 2, atol=1e-12)


def test_quantiles_and_the_cheapest_point_by_hand() -> None:
    _, _, cdf = _distributions(2)
    middle = np.exp((GRID[:-1] + GRID[1:]) / 2)
    orders = np.array([0.05, 0.5, 0.95])
    for each, told, band in zip(cdf, decide(cdf), quantiles(cdf, orders), strict=True):
        shares = np.diff(each)
        error = np.abs(middle[:, None] - np.exp(GRID)[None, :]).T @ shares / (shares @ middle + 1e-9)
        held = np.interp(GRID - np.log1p(-NEAR), GRID, each) - np.interp(GRID - np.log1p(NEAR), GRID, each)
        cost = 3.0 * error - held
        assert cost[np.abs(GRID - told).argmin()] <= cost.min() + 1e-9
        # What lies off the grid is taken for its end.
        np.testing.assert_allclose(np.interp(band, GRID, each), orders.clip(each[0], each[-1]), atol=1e-6)


def test_the_record_of_earlier_answers_by_hand() -> None:
    rng = np.random.default_rng(4)
    mbps = rng.uniform(10, 100, (1, 30))
    at, ahead = np.array([[29, 28, 20, 3, 3]]), np.array([[1, 5]])
    level, floor = rng.uniform(10, 100, (1, 5)), np.full((1, 5), 0.5)
    points, simple = rng.normal(0, 0.3, (1, 5, 2)), rng.normal(0, 0.3, (1, 5, 2, len(SIMPLE)))
    expects = rng.uniform(0, 2, (1, 5, 2))
    count, errors, expected = np.zeros((1, 2)), np.zeros((1, 2, 1 + len(SIMPLE))), np.zeros((1, 2))
    past_answers(mbps, ahead, at, level, floor, points, simple, expects, count, errors, expected)
    wanted: list[list[np.ndarray]] = [[], []]
    told = np.zeros(2)
    for p, start in ((1, 28), (2, 20), (3, 3)):
        for h, n in enumerate((1, 5)):
            if start + n <= 29:
                truth = np.log((mbps[0, start + 1 : start + n + 1].mean() + 0.5) / (level[0, p] + 0.5))
                told[h] += min(expects[0, p, h], 1.0)
                wanted[h].append(np.minimum(np.abs(np.append(points[0, p, h], simple[0, p, h]) - truth), 1.0))
    assert count[0].tolist() == [len(each) for each in wanted] == [3, 2]
    np.testing.assert_allclose(errors[0], [np.sum(each, 0) for each in wanted])
    np.testing.assert_allclose(expected[0], told)


def test_truths_of_a_trace_are_not_seen() -> None:
    trace = Trace("t", "made", "g", "unknown", 1.0, np.arange(40.0), np.arange(40.0) + 1)
    seen = view(batch([(1.0, trace.t_s[:20], trace.mbps[:20], {})]), HORIZONS).features
    longer = view(batch([(1.0, trace.t_s, trace.mbps, {})]), HORIZONS, np.array([[19]])).features
    np.testing.assert_array_equal(seen, longer)
    assert np.isfinite(truths(trace.t_s, trace.mbps, 1.0, HORIZONS)[19]).all()
