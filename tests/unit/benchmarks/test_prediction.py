"""The timing of a batch of forecasts, on few links."""

from pathlib import Path

from typer.testing import CliRunner

from api.cli.main import app
from benchmarks.report import read
from models.bandwidth import load_forecaster


def test_rows_of_every_forecaster(tmp_path: Path) -> None:
    path = tmp_path / "prediction.json"
    done = CliRunner().invoke(
        app, ["bench", "prediction", "--links", "3", "--rounds", "10", "--json", str(path)], catch_exceptions=False
    )
    assert done.exit_code == 0
    rows = read(path)
    assert [row["system"] for row in rows] == ["simple", "member", load_forecaster().version]
    for row in rows:
        assert row["links"] == 3
        assert 0 < row["p50_ms"] <= row["p99_ms"]
