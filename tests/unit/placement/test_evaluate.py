"""The comparison of ways to choose a node."""

import csv

import numpy as np
import pytest

from models.placement.evaluate import POLICIES, evaluate, interval
from models.placement.windows import Shape
from tests.unit.placement.kit import some_guests


@pytest.fixture
def trace(tmp_path):
    guests, path = some_guests(count=800), tmp_path / "trace.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["vcpu", "mem_gb", "arrive_s", "life_s", "tenant"])
        life = guests.leave - guests.arrive
        rows.writerows(zip(guests.vcpus, guests.memory, guests.arrive, life, guests.tenant, strict=True))
    return path


def test_a_flat_row_for_each_load_and_policy(trace, tmp_path):
    rows = evaluate(trace, loads=(0.7, 1.1), windows=2, seeds=2, hosts=9, shape=Shape(2, 16.0, 40.0))
    assert [(row["load"], row["policy"]) for row in rows] == [(load, name) for load in (0.7, 1.1) for name in POLICIES]
    by = {(row["load"], row["policy"]): row for row in rows}
    for row in rows:
        assert row["windows"] == 4
        assert row["rejected_cores_low"] <= row["rejected_cores"] <= row["rejected_cores_high"]
        assert row["decision_p50_us"] <= row["decision_p99_us"]
        assert all(isinstance(cell, str | int | float) for cell in row.values())
        if row["policy"] not in ("predicted-lifetimes", "true-lifetimes"):
            assert row["rejected_cores_over_best_rule"] >= 0
    assert by[0.7, by[0.7, "random"]["best_rule"]]["rejected_cores_over_best_rule"] == 0
    assert by[0.7, "site-sticky"]["split_pairs_over_site_sticky"] == 0
    assert by[0.7, "best-fit"]["rejected_cores"] > by[1.1, "best-fit"]["rejected_cores"]
    assert by[0.7, "first-fit"]["rejected_cores_over_first_fit"] == 0
    assert by[1.1, "site-sticky"]["split_pairs"] < by[1.1, "random"]["split_pairs"]
    assert by[1.1, "site-sticky"]["split_usd"] < by[1.1, "random"]["split_usd"]


def test_nodes_can_be_given(trace, tmp_path):
    nodes = tmp_path / "nodes.csv"
    nodes.write_text("cpu,memory_gib,cells,site\n32,128,1,0\n64,256,1,1\n")
    rows = evaluate(trace, nodes, loads=(0.9,), windows=1, seeds=1, hosts=6)
    assert 3 <= rows[0]["hosts"] <= 9


def test_an_interval_holds_the_mean_and_narrows():
    values = np.random.default_rng(1).normal(5, 1, 400)
    wide, narrow = interval(values[:20]), interval(values)
    assert narrow[0] < values.mean() < narrow[1]
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
