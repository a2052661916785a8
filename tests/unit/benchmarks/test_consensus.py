"""The command line of the consensus benchmark."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.errors import Failed
from api.cli.main import app
from benchmarks.agreeing import run
from benchmarks.agreeing.run import mutant
from tests.unit.consensus.mutants import HalfIsEnough

runner = CliRunner()


def test_it_runs_seeds_and_writes_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "consensus.json"
    found = runner.invoke(app, ["bench", "consensus", "--first", "7", "--seeds", "3", "--json", str(file)])
    assert found.exit_code == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["mode"], row["first"], row["seeds"], row["failures"]) == ("raft", 7, 3, 0)
    assert row["messages"] > 0


def test_a_failing_seed_shows_its_trace_and_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.MODES, "raft", mutant(HalfIsEnough()))
    found = runner.invoke(app, ["bench", "consensus", "--seeds", "50"])
    assert found.exit_code == Failed.exit_code
    assert " leads " in found.output
    assert "broke a promise" in found.output
    assert "novacron bench consensus --mode raft --first " in found.output


def test_an_unknown_mode_is_told() -> None:
    found = runner.invoke(app, ["bench", "consensus", "--mode", "paxos"])
    assert found.exit_code not in (0, 1)
    assert "paxos" in found.output
