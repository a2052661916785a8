"""The notebook runs from top to bottom on a small recording and prints its table."""

import math
import runpy
from pathlib import Path

import pytest

from models.bandwidth.evaluation import read_traces

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "bandwidth_baselines.py"


@pytest.fixture
def recording(tmp_path):
    rows = [
        f"{trace},{t},{80 + 20 * math.sin(t / 7 + trace) + (5 if t % 2 else -5)}"
        for trace in range(2)
        for t in range(90)
    ]
    path = tmp_path / "links.csv"
    path.write_text("trace_id,t,bw_mbps\n" + "\n".join(rows) + "\n")
    return path


def test_notebook_runs(recording, monkeypatch, capsys):
    monkeypatch.setenv("BANDWIDTH_CSV", str(recording))
    left = runpy.run_path(str(NOTEBOOK))
    assert "2 traces, 180 samples" in capsys.readouterr().out
    assert {(row["method"], row["horizon_s"]) for row in left["rows"]} == {
        (method, horizon_s) for method in ("ewma", "last-value") for horizon_s in (5.0, 30.0)
    }
    for row in left["rows"]:
        assert 0 < row["mape"] < 0.5
        assert 0 <= row["coverage"] <= 1
        assert row["forecasts"] > 0


def test_a_recording_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_text("trace_id,t,rate\n1,0,5\n")
    with pytest.raises(ValueError, match="bw_mbps"):
        read_traces(path)


def test_a_negative_rate_is_refused_with_its_line(tmp_path):
    path = tmp_path / "wrong.csv"
    path.write_text("trace_id,t,bw_mbps\n1,0,5\n1,1,-5\n")
    with pytest.raises(ValueError, match=r"wrong\.csv:3"):
        read_traces(path)
