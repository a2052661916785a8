"""Which policy answers in the cluster: the version in use, the rule, and who only listens."""

import io

import numpy as np
import pytest
import torch

from actors.control.model import Flag
from actors.flags.file import write_flags
from actors.placement.serving import LOOK_S, REST_S, Serving
from models.placement.cluster import Cluster, Node, Request
from models.placement.learned import SCORER
from models.placement.learned.scorer import LIMITS, SCORED, Scorer
from models.placement.policy import Refusal
from models.registry import Registry
from tests.unit.placement.test_policy import CONFIG, facts, place
from tests.unit.placement.test_policy import Place as Wanted
from tests.unit.registry.conftest import card

CLUSTER = Cluster([Node(name, "left", "up", 8, free, memory_mib=8192) for name, free in (("a", 4000), ("b", 2000))])
REQUEST = Request("web", memory_mib=512, vcpus=1)
REQUEST_TOO_LARGE = Request("big", memory_mib=100_000, vcpus=1)


class Clock:
    """Time that stands still; each look adds `step`."""

    def __init__(self):
        self.now, self.step = 0.0, 0.0

    def __call__(self):
        self.now += self.step
        return self.now


def registry(root):
    return Registry(root, "placement", key=root / "key")


def version(root, weight=1.0):
    """A version that likes the emptiest node best, unlike the rule."""
    weights = np.array([weight if name == "memory_left" else 0.0 for name in SCORED])
    content = io.BytesIO()
    torch.save(Scorer(weights, np.full(len(LIMITS), 1e-6), np.full(len(LIMITS), 1e9)).tensors(), content)
    return registry(root).publish({SCORER: content.getvalue()}, card(kind="placement")).version


def looked(serving, clock):
    clock.now += LOOK_S
    serving.refresh()
    return serving


def test_the_version_in_use_answers_and_the_rule_listens(tmp_path):
    clock, name = Clock(), version(tmp_path)
    serving = looked(Serving(tmp_path, clock), clock)
    answer, others = serving.choose(CLUSTER, REQUEST, on=True)
    assert (answer.node, answer.by, others) == ("b", "rule", {})
    registry(tmp_path).promote(name, force=True)
    answer, others = looked(serving, clock).choose(CLUSTER, REQUEST, on=True)
    assert (answer.node, answer.by, others) == ("a", name, {"rule": "b"})
    answer, others = serving.choose(CLUSTER, REQUEST, on=False)
    assert (answer.node, answer.by, others) == ("b", "rule", {name: "a"})


def test_a_shadow_listens_and_a_refusal_is_everybodys(tmp_path):
    clock, name = Clock(), version(tmp_path)
    registry(tmp_path).shadow(name)
    serving = looked(Serving(tmp_path, clock), clock)
    answer, others = serving.choose(CLUSTER, REQUEST, on=True)
    assert (answer.by, others) == ("rule", {name: "a"})
    answer, others = serving.choose(CLUSTER, REQUEST_TOO_LARGE, on=True)
    assert isinstance(answer, Refusal)
    assert others == {}


def test_a_slow_version_rests(tmp_path):
    clock, name = Clock(), version(tmp_path)
    registry(tmp_path).promote(name, force=True)
    serving = looked(Serving(tmp_path, clock), clock)
    clock.step = 1.0
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == name
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == "rule"
    clock.now += REST_S
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == name


def test_a_faulty_version_leaves_the_answer_to_the_rule(tmp_path, monkeypatch):
    clock, name = Clock(), version(tmp_path)
    registry(tmp_path).promote(name, force=True)
    serving = looked(Serving(tmp_path, clock), clock)
    with monkeypatch.context() as broken:
        broken.setattr("models.placement.policy.features", lambda *_: 1 / 0)
        answer, others = serving.choose(CLUSTER, REQUEST, on=True)
        assert (answer.node, answer.by, others) == ("b", "rule", {})
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == "rule"
    clock.now += REST_S
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == name


def test_a_faulty_shadow_is_let_go(tmp_path, monkeypatch):
    clock, name = Clock(), version(tmp_path)
    registry(tmp_path).shadow(name)
    serving = looked(Serving(tmp_path, clock), clock)
    monkeypatch.setattr("models.placement.policy.features", lambda *_: 1 / 0)
    answer, others = serving.choose(CLUSTER, REQUEST, on=True)
    assert (answer.by, others) == ("rule", {name: ""})
    assert serving.choose(CLUSTER, REQUEST, on=True)[1] == {}


def test_a_damaged_version_is_not_used(tmp_path):
    clock, name = Clock(), version(tmp_path)
    registry(tmp_path).promote(name, force=True)
    (tmp_path / "placement" / "versions" / name / SCORER).write_bytes(b"rubbish")
    serving = looked(Serving(tmp_path, clock), clock)
    assert serving.choose(CLUSTER, REQUEST, on=True)[0].by == "rule"


@pytest.mark.parametrize(("percent", "by", "node"), [(100, "version", "a1"), (0, "rule", "b1")])
async def test_the_flag_switches_the_cluster(tmp_path, monkeypatch, percent, by, node):
    name = version(tmp_path / "models")
    registry(tmp_path / "models").promote(name, force=True)
    write_flags(tmp_path, {"itp": Flag(component="itp", percent=percent)})
    config = CONFIG.model_copy(update={"node": CONFIG.node.model_copy(update={"state_dir": tmp_path})})
    monkeypatch.setattr("tests.unit.placement.test_policy.CONFIG", config)
    wanted = Wanted(
        guest="web", memory_mib=512, vcpus=1, machine="q35", nodes=[facts("a1", 4000), facts("b1", 2000, "right")]
    )
    placed = await place(wanted)
    assert (placed.node, placed.by) == (node, name if by == "version" else "rule")
    assert set(placed.others) == ({"rule"} if by == "version" else {name})
