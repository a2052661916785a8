"""cluster.yaml has what Ray and our own rules ask for; that it works is tests/e2e/test_ray_up.py's business."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "cluster.yaml"
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(FILE)
    return loaded


def test_ray_takes_it(cluster: dict[str, Any]) -> None:
    filled = prepare_config(copy.deepcopy(cluster))
    validate_config(filled)
    (kind,) = filled["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_every_host_is_asked_for(cluster: dict[str, Any]) -> None:
    workers = cluster["provider"]["worker_ips"]
    assert cluster["min_workers"] == cluster["max_workers"] == len(workers)
    assert cluster["provider"]["head_ip"] not in workers


@pytest.mark.parametrize("key", STARTS)
def test_a_host_ends_what_runs_and_then_starts_ray_and_the_node(cluster: dict[str, Any], key: str) -> None:
    commands = cluster[key]
    stop, start, node = commands[-3:]
    assert stop == "novacron node stop && ray stop"
    assert node == "novacron node start"
    for option in ("--node-ip-address=$3", "--disable-usage-stats", "--object-store-memory=104857600"):
        assert option in start.split()
    assert start.startswith("set -- $SSH_CONNECTION; ")
    assert ("RAY_enable_autoscaler_v2=0 ray start --head" in start) is key.startswith("head")


def test_head_and_workers_differ_in_ray_start_only(cluster: dict[str, Any]) -> None:
    head, workers = (cluster[key] for key in STARTS)
    assert [n for n, pair in enumerate(zip(head, workers, strict=True)) if pair[0] != pair[1]] == [2]


def test_login_shells_have_path_token_and_name(cluster: dict[str, Any]) -> None:
    (profile,) = cluster["setup_commands"]
    for word in ("PATH=/opt/novacron/.venv/bin:$PATH", "RAY_AUTH_MODE=token", "NOVACRON_NODE__NAME=$(hostname -s)"):
        assert word in profile
    (token,) = re.findall(r"RAY_AUTH_TOKEN_PATH=([^\s']+)", profile)
    assert token in cluster["file_mounts"]


def test_every_key_is_explained() -> None:
    """There is a comment above each key, or above the group of keys without a blank line that it stands in."""
    lines = FILE.read_text().splitlines()
    keys = [n for n, line in enumerate(lines) if re.match(r" *[a-z_/][\w./]*:", line)]
    assert len(keys) > 15
    for n in keys:
        group = lines[: n + 2]
        start = max((i for i in range(n) if not group[i].strip()), default=0)
        assert any(line.lstrip().startswith("#") for line in group[start:]), f"line {n + 1}: {lines[n]}"
