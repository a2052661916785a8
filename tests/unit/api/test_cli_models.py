"""``novacron models`` on a registry of its own; and what it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.cli.main import app as commands
from api.cli.model_registry import registry_root
from models.bandwidth import load_forecaster
from models.registry import Registry
from tests.unit.registry.conftest import card, evaluation


class Models:
    """Runs `novacron models` on one registry."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            "NOVACRON_MODELS": str(folder / "root"),
            "NOVACRON_MODEL_KEY": str(folder / "model.key"),
            "COLUMNS": "200",
        }
        self.registry = Registry(folder / "root", "bandwidth", key=folder / "model.key")

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(commands, ["models", *arguments], env=self._environment)

    def ok(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def refused(self, exit_code: int, *arguments: str) -> str:
        result = self(*arguments)
        assert result.exit_code == exit_code, (result.output, result.exception)
        assert isinstance(result.exception, SystemExit)
        return result.stderr


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Nothing comes with the package here: there is what a test published."""
    monkeypatch.setattr("models.registry.registry.shipped_folder", lambda kind: tmp_path / "shipped" / kind)
    return Models(tmp_path)


def test_from_publication_to_roll_back(models: Models) -> None:
    first = models.registry.publish({"w": b"1"}, card(evaluation(0.10))).version
    second = models.registry.publish({"w": b"2"}, card(evaluation(0.14))).version
    models.ok("promote", "bandwidth", first, "--force")  # over whatever comes with the package
    models.ok("shadow", "bandwidth", second)
    listed = models.ok("list", "bandwidth")
    assert "in use" in next(line for line in listed.splitlines() if first in line)
    assert "shadow" in next(line for line in listed.splitlines() if second in line)
    assert "1 of 1" in listed
    assert "A/5s/wape: 0.14" in models.refused(4, "promote", "bandwidth", second)
    assert "overruled: A/5s/wape: 0.14" in models("promote", "bandwidth", second, "--force").stderr
    assert second in models.ok("show", "bandwidth")
    assert f"bandwidth: {first} is in use." in models.ok("rollback", "bandwidth")
    told = json.loads(models.ok("history", "bandwidth", "--json"))
    assert [one["action"] for one in told] == ["publish", "publish", "promote", "shadow", "promote", "rollback"]
    assert "by force" in models.ok("history", "bandwidth")


def test_a_card_in_both_forms(models: Models) -> None:
    version = models.registry.publish({"w": b"1"}, card(evaluation(0.2))).version
    shown = models.ok("show", "bandwidth", version)
    assert "ewma 0.15" in shown
    assert "baseline ewma" in shown
    found = json.loads(models.ok("show", "bandwidth", version, "--json"))
    assert found["card"]["version"] == version
    assert found["objections"]


def test_what_is_not_there_and_what_is_damaged(models: Models, tmp_path: Path) -> None:
    assert "there is no bandwidth model" in models.refused(3, "show", "bandwidth", "20260101-00000000")
    version = models.registry.publish({"w": b"1"}, card()).version
    (tmp_path / "root" / "bandwidth" / "versions" / version / "w").write_bytes(b"2")
    assert "damaged" in models.refused(7, "promote", "bandwidth", version, "--force")
    assert "nothing to go back to" in models.refused(7, "rollback", "bandwidth")
    assert models("show", "weather").exit_code == 2


def test_a_version_goes_to_another_registry(models: Models, tmp_path: Path) -> None:
    version = models.registry.publish({"w": b"1"}, card()).version
    models.ok("export", "bandwidth", version, str(tmp_path / "other"))
    assert Registry(None, "bandwidth", shipped=tmp_path / "other").load().version == version


def test_where_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry_root(tmp_path) == tmp_path
    monkeypatch.setattr("api.cli.model_registry.NODE_STATE", tmp_path)
    assert registry_root(None) == tmp_path / "models"
    monkeypatch.setattr("api.cli.model_registry.NODE_STATE", tmp_path / "none")
    assert registry_root(None) == Path.home() / ".local" / "share" / "novacron" / "models"


def test_an_evaluation_is_written_and_bad_data_is_said(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no CSV" in models.refused(2, "evaluate", "bandwidth", "--data", str(tmp_path))
    seen = []
    monkeypatch.setattr(
        "models.bandwidth.evaluate.evaluate", lambda *given, **more: seen.append((given, more["quick"])) or {"rows": []}
    )
    models.ok("evaluate", "bandwidth", "--data", str(tmp_path), "--quick", "--json", str(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == {"rows": []}
    assert seen == [((tmp_path, None), True)]


def test_placement_rules_are_compared_on_a_trace(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("cpu,mem\n1,2\n")
    command = ("evaluate", "placement", "--trace", str(trace))
    assert "has the columns cpu, mem" in models.refused(2, *command)
    assert "give numbers above 0" in models.refused(2, *command, "--load", "0.7,-1")
    assert "give numbers above 0" in models.refused(2, *command, "--load", "high")
    seen = []
    monkeypatch.setattr(
        "models.placement.evaluate.evaluate",
        lambda *given, **more: seen.append((*given, more["windows"], more["seeds"])) or [{"policy": "first-fit"}],
    )
    models.ok(*command, "--nodes", str(trace), "--load", "0.9,1", "--windows", "3", "--json", str(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == {"rows": [{"policy": "first-fit"}]}
    assert seen == [(trace, trace, (0.9, 1.0), 3, 5)]


def test_placement_is_trained_on_traces_that_can_be_read(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("cpu,mem\n1,2\n")
    command = ("train", "placement", "--trace", str(trace), "--trace", str(trace), "--seed", "3", "--generations", "2")
    assert "has the columns cpu, mem" in models.refused(2, *command)
    trace.write_text("vcpu,mem_gb,arrive_s\n1,2,0\n1,2,9\n")
    assert "has no lifetimes" in models.refused(2, *command)


def test_a_researcher_needs_no_cluster(tmp_path: Path) -> None:
    """Nothing but the base and typer and rich may be imported; torch not before a model is used."""
    program = f"""
import sys
for name in ("ray", "pydantic_settings", "fastapi", "libvirt", "structlog", "numba", "zstandard", "psutil", "torch"):
    sys.modules[name] = None
from api.cli.main import app
app(["models", "list", "--registry", {str(tmp_path)!r}], standalone_mode=False)
assert "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_no_other_command_imports_torch() -> None:
    program = """
import sys
from typer.testing import CliRunner
from api.cli.main import app
helps = (["--help"], ["links", "--help"], ["models", "--help"], ["models", "promote", "--help"])
for command in (*helps, ["config", "schema"]):
    assert CliRunner().invoke(app, command).exit_code == 0, command
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_training_becomes_a_version_that_only_gates_or_force_put_to_use(models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    rows = [f"t{k},g{k // 2},{t},{50 + 10 * k + (t * 7 % 5)}" for k in range(20) for t in range(60)]
    (folder / "made.csv").write_text("trace_id,group,t,bw_mbps\n" + "\n".join(rows) + "\n")
    index = [f"t{k},g{k // 2}" for k in range(20)]
    (folder / "index.csv").write_text("trace_id,group\n" + "\n".join(index) + "\n")
    told = models.ok("train", "bandwidth", "--data", str(folder), "--updates", "5", "--members", "1", "--seed", "3")
    version = models.registry.versions()[-1].version
    assert version in told
    card = models.registry.card(version)
    assert (card.seed, card.settings["updates"], card.settings["members"]) == (3, 5, 1)
    assert {one.name.partition("/")[0] for one in card.evaluation.metrics} == {"made"}
    assert {one.promised for one in card.evaluation.calibration} == {0.9}
    again = models.ok("train", "bandwidth", "--data", str(folder), "--updates", "5", "--members", "1", "--seed", "3")
    assert version.partition("-")[2] in again  # the same seed, the same weights
    models.ok("promote", "bandwidth", version, "--force")
    assert load_forecaster(version, tmp_path / "root").version == version


def test_a_training_needs_groups_to_keep_apart(models: Models, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("trace_id,t,bw_mbps\n" + "".join(f"a,{t},5\n" for t in range(60)))
    assert "two groups" in models("train", "bandwidth", "--data", str(tmp_path)).stderr
