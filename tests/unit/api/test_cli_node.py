"""`novacron node`: what it prints and its exit codes, up to a real start that fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from actors.node.process import find
from api.cli.main import app as commands

CONFIG = """
node: {{state_dir: {folder}/state, run_dir: {folder}/run, images_dir: {folder}/images}}
topology: {{sites: [{{name: here, nodes: [{{name: node-1, address: 127.0.0.1}}]}}]}}
api: {{token_file: {folder}/api.token}}
security: {{ca: {folder}/ca.pem, certificate: {folder}/node.pem, key: {folder}/node.key}}
"""
START_S = 120.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A node's file, without its name, for which there are no certificates, no token and no Ray."""
    file = tmp_path / "node.yaml"
    file.write_text(CONFIG.format(folder=tmp_path))
    return file


def novacron(*words: str) -> Result:
    return CliRunner().invoke(commands, list(words), env={"NOVACRON_NODE__NAME": "node-1"})


def test_status_of_a_host_without_a_node(config: Path) -> None:
    result = novacron("node", "status", "--config", str(config))
    assert result.exit_code == 6
    assert "not running" in result.stdout
    shown = novacron("node", "status", "--json", "--config", str(config))
    assert shown.exit_code == 6
    assert json.loads(shown.stdout) == {"node": "node-1", "pid": None, "boot": None}


def test_stopping_nothing_is_no_error(config: Path) -> None:
    result = novacron("node", "stop", "--config", str(config))
    assert (result.exit_code, result.stdout) == (0, "node-1 is not running\n")


def test_recovering_where_no_member_is_says_so_and_makes_nothing(config: Path) -> None:
    result = novacron("node", "recover", "--lost", "node-2", "--reason", "gone", "--config", str(config))
    assert result.exit_code != 0
    assert "member of the control state on node-1" in result.stderr
    assert not (config.parent / "state").exists()


def test_a_wrong_file_is_named_before_anything_starts(config: Path) -> None:
    config.write_text(config.read_text() + "colour: red\n")
    for command in ("start", "stop", "status"):
        result = novacron("node", command, "--config", str(config))
        assert result.exit_code == 2
        assert f"{config}:6: colour" in result.stderr
    assert not (config.parent / "run").exists()


def test_a_start_that_fails_says_why_and_leaves_nothing_running(config: Path) -> None:
    argv = [str(Path(sys.executable).with_name("novacron")), "node", "start", "--config", str(config)]
    environment = {**os.environ, "NOVACRON_NODE__NAME": "node-1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 7, done.stderr
    assert "failed to start" in done.stderr
    assert "ca.pem" in done.stderr or "api.token" in done.stderr, done.stderr
    assert find(config.parent / "run") is None
    assert (config.parent / "state" / "log" / "node.log").read_text().strip()
    status = novacron("node", "status", "--config", str(config))
    assert status.exit_code == 6
    assert "halted" in status.stdout
