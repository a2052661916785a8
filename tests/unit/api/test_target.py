"""Where the command line finds its API and token."""

import uuid
from pathlib import Path

import pytest

from actors.errors import Conflict, TokenInvalid
from actors.lab.plan import encode_plan, make_plan
from actors.lab.topology import default_topology
from api.cli import target
from api.cli.target import Target, find


@pytest.fixture
def lab(tmp_path: Path) -> Target:
    """A lab's plan and token on disk."""
    plan = make_plan(default_topology(), uuid.uuid4().hex, 77, "wanlink", tmp_path, tmp_path / "run")
    plan.state_dir.mkdir()
    (plan.state_dir / "plan.json").write_bytes(encode_plan(plan))
    plan.api_token_file.write_text("of-the-lab\n")
    return Target(url=plan.nodes[0].api_url, token="of-the-lab")


def test_a_running_lab_is_found_by_itself(lab: Target, tmp_path: Path) -> None:
    assert find({}, lab_root=tmp_path) == lab


def test_the_environment_goes_before_the_lab(lab: Target, tmp_path: Path) -> None:
    environ = {"NOVACRON_URL": "http://api", "NOVACRON_TOKEN": "mine"}
    assert find(environ, lab_root=tmp_path) == Target(url="http://api", token="mine")


def test_the_command_line_goes_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\nmore\n")
    environ = {"NOVACRON_URL": "http://api", "NOVACRON_TOKEN": "mine"}
    assert find(environ, "http://other", file) == Target(url="http://other", token="from-file")
    named = {"NOVACRON_URL": "http://api", "NOVACRON_TOKEN_FILE": str(file)}
    assert find(named) == Target(url="http://api", token="from-file")


def test_a_labs_token_goes_to_no_other_url(lab: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "LOCAL_TOKEN_FILE", tmp_path / "none")
    with pytest.raises(TokenInvalid):
        find({"NOVACRON_URL": "http://api"}, lab_root=tmp_path)


def test_without_a_lab_this_hosts_node_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "api.token"
    file.write_text("of-the-node")
    monkeypatch.setattr(target, "LOCAL_TOKEN_FILE", file)
    assert find({}, lab_root=tmp_path) == Target(url=target.LOCAL_URL, token="of-the-node")


def test_a_lab_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "plan.json").write_text("{}")
    with pytest.raises(Conflict, match="default"):
        find({}, lab_root=tmp_path)
