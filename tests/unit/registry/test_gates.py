"""The gates, one by one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.registry import Calibration, Evaluation, Metric
from models.registry.gates import objections


def evaluated(*metrics: Metric, calibration: tuple[Calibration, ...] = (), data_hash: str = "d") -> Evaluation:
    return Evaluation(data="d", data_hash=data_hash, metrics=list(metrics), calibration=list(calibration))


def metric(value: float, name: str = "m", **more: object) -> Metric:
    return Metric(name=name, value=value, **({"baselines": {"ewma": 1.0}} | more))


def test_better_than_everything_passes() -> None:
    assert objections(evaluated(metric(0.8)), evaluated(metric(0.9)), "v") == []
    assert objections(evaluated(metric(0.8)), None, None) == []


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (evaluated(), "no figure that counts"),
        (evaluated(metric(0.5, gate=False)), "no figure that counts"),
        (evaluated(metric(0.5, baselines={})), "no baseline"),
        (evaluated(metric(1.0)), "not better than baseline ewma"),
        (evaluated(metric(0.5), metric(1.03, "n")), "n: 1.03, baseline ewma: 1"),
        (evaluated(metric(math.nan)), "m: nan"),
        (evaluated(metric(0.8, better="higher")), "m: 0.8"),
        (evaluated(metric(0.5), calibration=(Calibration(name="A", promised=0.9, covered=0.8),)), "80.0%"),
        (evaluated(metric(0.5), calibration=(Calibration(name="A", promised=0.9, covered=math.nan),)), "promises 90%"),
    ],
)
def test_each_gate_speaks(candidate: Evaluation, why: str) -> None:
    assert any(why in reason for reason in objections(candidate, None, None))


def test_a_little_worse_somewhere_is_let_pass_when_it_is_better_over_all() -> None:
    assert objections(evaluated(metric(0.5), metric(1.01, "n")), None, None) == []
    assert objections(evaluated(metric(0.5), metric(1.01, "n", tolerance=0.0)), None, None)


def test_the_one_in_use_must_have_every_figure_on_the_same_data() -> None:
    new = evaluated(metric(0.5), metric(0.5, "n"))
    assert "lacks n" in objections(new, evaluated(metric(0.9)), "v")[0]
    assert "same data" in objections(new, evaluated(metric(0.9), data_hash="e"), "v")[0]
    assert "same data" in objections(new, None, "v")[0]


@given(st.floats(-10, 10), st.sampled_from(["lower", "higher"]))
def test_nothing_passes_against_itself(value: float, better: str) -> None:
    one = evaluated(Metric(name="m", value=value, better=better, baselines={"same": value}))
    assert objections(one, one, "v")
