"""Nothing comes with the package here: what answers is what a test published."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.registry.registry.shipped_folder", lambda kind: tmp_path / "shipped" / kind)
