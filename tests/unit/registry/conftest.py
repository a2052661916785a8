"""A registry in a temporary directory, with a key of its own and nothing shipped."""

from pathlib import Path

import pytest

from models.registry import Calibration, Card, Evaluation, Metric, Registry


def evaluation(wape: float = 0.10, *, ewma: float = 0.15, covered: float = 0.90, data_hash: str = "d1") -> Evaluation:
    """One figure beside one baseline, and one band."""
    return Evaluation(
        data="tests' traces",
        data_hash=data_hash,
        metrics=[Metric(name="A/5s/wape", value=wape, baselines={"ewma": ewma})],
        calibration=[Calibration(name="A/5s", promised=0.9, covered=covered)],
    )


def card(of: Evaluation | None = None, **changed: object) -> Card:
    """A card as a trainer fills it in."""
    given = {
        "kind": "bandwidth",
        "created_at": "2026-11-25T03:00:00+00:00",
        "created_by": "tests",
        "code_version": "0.1.0",
        "data": "traces",
        "data_hash": "t1",
        "seed": 7,
        "evaluation": of or evaluation(),
    }
    return Card(**(given | changed))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return opened(tmp_path)


def opened(tmp_path: Path, **options: object) -> Registry:
    """Another handle of the same registry."""
    given = {"key": tmp_path / "me" / "model.key", "shipped": tmp_path / "shipped"}
    return Registry(tmp_path / "root", "bandwidth", **(given | options))
