"""How a forecaster as it is served is asked, and what is told of it."""

import numpy as np
import pytest

from models.bandwidth.calibration import Levels
from models.bandwidth.data import Trace
from models.bandwidth.evaluate import Plan, served
from models.bandwidth.predict import Forecaster


def still(name: str, group: str, dataset: str = "made", length: int = 200, mbps: float = 40.0) -> Trace:
    return Trace(name, dataset, group, "unknown", 1.0, np.arange(length) + 1.0, np.full(length, mbps))


def test_about_so_many_moments_of_each_set_are_asked_whatever_their_traces() -> None:
    one = [still("a", "g", "one long trace", 400)]
    many = [still(f"b{i}", f"g{i}", "many traces") for i in range(100)]
    simple = Forecaster([], Levels.plain())
    rows = list(served(simple, one + many, {"one long trace": "x", "many traces": "x"}, Plan(moments=60)))
    asked = {(row["dataset"], row["method"]): row["questions"] for row in rows if row["horizon_s"] == 1.0}
    assert set(asked) == {(name, method) for name in ("one long trace", "many traces")
                          for method in ("served", "last", "ewma", "harmonic", "ols")}  # fmt: skip
    assert set(asked.values()) == {60}
    groups = {row["dataset"]: row["groups"] for row in rows}
    assert groups == {"one long trace": 1, "many traces": 10}


def test_on_a_link_that_holds_nobody_is_wrong() -> None:
    rows = list(served(Forecaster([], Levels.plain()), [still("a", "g")], {"made": "x"}, Plan(moments=30)))
    for row in rows:
        assert row["wape"] == pytest.approx(0, abs=0.02)  # the grid of a distribution is so coarse
        assert row["acc15"] == 1
    assert all(row["coverage90"] == 1 for row in rows if row["method"] == "served")
