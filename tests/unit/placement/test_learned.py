"""The learned score: training, the registry, and serving beside the rule."""

from dataclasses import replace

import numpy as np
import pytest

from models.placement import load_policy
from models.placement.cluster import Cluster, Guest, Node, Request
from models.placement.features import FEATURES, describe
from models.placement.hard_rules import HardRule
from models.placement.learned import SCORER
from models.placement.learned.publish import publish
from models.placement.learned.scorer import LIMITS, SCORED, Scorer, scorer_of
from models.placement.learned.training import Args, train
from models.placement.learned.view import features
from models.placement.policy import RULE, Choice, LearnedPolicy, Refusal
from models.placement.simulator import begin, place
from models.placement.slots import candidates, left_free
from models.placement.tables import make_guests, make_nodes
from models.registry import Registry, VersionInvalid, VersionUnknown
from tests.unit.placement.kit import some_guests
from tests.unit.registry.conftest import card

WIDE = {"low": np.full(len(LIMITS), 1e-6), "high": np.full(len(LIMITS), 1e9)}
TINY = Args(generations=2, population=4, windows=2, hosts=6, loads=(0.9,), period=(0.2, 0.6), checked=(0.5, 0.9))


def scorer(**weights):
    return Scorer(np.array([weights.get(name, 0.0) for name in SCORED]), **WIDE)


def node(name, site="left", cpus=16, used=0, free_mib=32_768, guests=()):
    return Node(name, site, "up", cpus, free_mib, vcpus_in_use=used, guests=guests, memory_mib=65_536)


REQUEST = Request("web", memory_mib=4096, vcpus=2)


def test_training_is_the_same_for_the_same_seed_and_only_for_it():
    traces = [some_guests(count=600)]
    one, again, other = (train(traces, replace(TINY, seed=seed)).weights for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_version_is_published_with_figures_beside_the_rules(tmp_path):
    guests, path = some_guests(count=800), tmp_path / "trace.csv"
    columns = (guests.vcpus, guests.memory, guests.arrive, guests.leave - guests.arrive, guests.tenant)
    lines = [",".join(str(value) for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join(["vcpu,mem_gb,arrive_s,life_s,tenant", *lines]))
    registry = Registry(tmp_path / "root", "placement", key=tmp_path / "key", shipped=tmp_path / "none")
    told = []
    made = publish(registry, [path], TINY, windows=1, seeds=1, hosts=6, progress=lambda *given: told.append(given))
    assert [generation for generation, _ in told] == [1, 2]
    assert made.seed == TINY.seed
    names = [metric.name for metric in made.evaluation.metrics]
    assert {"trace/0.9/learned/rejected_cores", "trace/0.9/learned-blind/rejected_cores"} <= set(names)
    assert set(made.evaluation.metrics[0].baselines) == {"first-fit", "best-fit", "site-sticky"}
    policy = load_policy(made.version, tmp_path / "root")
    assert policy.version == made.version
    assert load_policy(None, tmp_path / "root").version == RULE  # published is not promoted


def test_what_is_no_scorer_is_refused(tmp_path):
    registry = Registry(tmp_path / "root", "placement", key=tmp_path / "key", shipped=tmp_path / "none")
    with pytest.raises(VersionUnknown):
        load_policy("20200101-00000000", tmp_path / "root")
    import io

    import torch

    content = io.BytesIO()
    torch.save({"weights": torch.zeros(3)}, content)
    made = registry.publish({SCORER: content.getvalue()}, card(kind="placement"))
    with pytest.raises(VersionInvalid, match="must have"):
        load_policy(made.version, tmp_path / "root")
    bad = scorer().tensors() | {"low": torch.full((len(LIMITS),), float("nan"))}
    with pytest.raises(ValueError, match="finite"):
        scorer_of(bad)
    assert np.array_equal(scorer_of(scorer(tight=2.0).tensors()).weights, scorer(tight=2.0).weights)


@pytest.mark.parametrize("seed", range(5))
def test_a_live_cluster_is_seen_as_the_simulator_sees_it(seed):
    rng = np.random.default_rng(seed)
    count, sites = 9, 3
    nodes = make_nodes(np.full(count, 64.0), np.full(count, 256.0), site=np.arange(count) * sites // count)
    total = 60
    vcpus = rng.choice([1.0, 2.0, 4.0, 8.0], total)
    leave = rng.uniform(1_000, 500_000, total)
    tenant = rng.integers(0, 5, total)
    guests = make_guests(np.arange(total, dtype=float), leave, vcpus, vcpus * 4, tenant=tenant)
    run, now, g = begin(nodes, guests, (0.0, 1.0)), 100.0, total - 1
    for each in range(g):
        place(run, each, int(rng.integers(0, count - 1)), 0, 0)  # the last node stays empty
    at, slots = np.empty(2 * count, np.int64), np.empty(2 * count, np.int64)
    found = candidates(nodes, run.state, guests, g, -1, 2 * count, at, slots)
    left, out = np.empty((found, 3)), np.empty((found, len(FEATURES)))
    left_free(nodes, run.state, guests, g, at[:found], slots[:found], left)
    describe(out, nodes, run.state, guests, g, now, at[:found], slots[:found], left)

    def guest(each):
        return Guest(str(each), str(tenant[each]), remaining_s=float(leave[each] - now))

    live = []
    for n in range(count):
        here = np.flatnonzero(run.state.where == n)
        used, gib = int(vcpus[here].sum()), float((vcpus[here] * 4).sum())
        mine = tuple(guest(each) for each in here)
        free_mib = int((256 - gib) * 1024)
        live.append(Node(f"n{n}", f"s{nodes.site[n]}", "up", 64, free_mib, used, guests=mine, memory_mib=262_144))
    request = Request("new", int(vcpus[g] * 4096), int(vcpus[g]), tenant=str(tenant[g]), remaining_s=leave[g] - now)
    seen = features(Cluster(live), request)[at[:found]]
    assert seen == pytest.approx(out[:, [FEATURES.index(name) for name in SCORED]], abs=1e-9)


def test_the_scorer_chooses_and_says_why():
    policy = LearnedPolicy(scorer(tight=-1.0, node_empty=-5.0), "20260101-00000000")
    cluster = Cluster([node("a", used=4), node("b"), node("c", used=12), node("d", used=15)])
    choice = policy.place(cluster, REQUEST)
    assert isinstance(choice, Choice)
    assert (choice.node, choice.by) == ("c", "20260101-00000000")
    assert "20260101-00000000" in choice.reason
    assert "most by node_empty" in choice.rejected["b"]
    assert "virtual CPUs are in use" in choice.rejected["d"]
    assert policy.place(Cluster(reversed(cluster.nodes)), REQUEST) == choice


def test_no_score_overrules_a_hard_rule():
    policy = LearnedPolicy(scorer(cpu_left=100.0), "v")
    cluster = Cluster([node("a"), node("b", used=10)])
    choice = policy.place(cluster, replace(REQUEST, exclude=frozenset({"a"})))
    assert choice.node == "b"
    refusal = policy.place(cluster, replace(REQUEST, exclude=frozenset({"a", "b"})))
    assert isinstance(refusal, Refusal)
    assert refusal.rule is HardRule.EXCLUDED
    assert policy.place(Cluster([]), REQUEST).rule is None


def test_the_rule_answers_where_the_scorer_was_not_trained():
    cluster = Cluster([node("a"), node("b", free_mib=8000)])
    small = Scorer(scorer(cpu_left=1.0).weights, np.array([1, 1, 64, 64, 30.0]), np.array([64, 128, 64, 256, 60.0]))
    choice = LearnedPolicy(small, "v").place(cluster, REQUEST)
    assert (choice.node, choice.by) == ("b", RULE)
    assert "the rule, since cpu 16 is far from the training's 64 to 64" in choice.reason
    unknown = Cluster([replace(node("a"), memory_mib=0)])
    assert "memory of a node is not known" in LearnedPolicy(scorer(), "v").place(unknown, REQUEST).reason


def test_a_tenant_stays_on_its_site_and_a_lasting_guest_goes_where_others_last():
    sticky = LearnedPolicy(scorer(tenant_elsewhere=-10.0, tight=-1.0), "v")
    mine = (Guest("db", "acme"),)
    cluster = Cluster([node("a", used=2, guests=mine), node("b", "right", used=14)])
    assert sticky.place(cluster, replace(REQUEST, tenant="acme")).node == "a"
    assert sticky.place(cluster, replace(REQUEST, tenant="other")).node == "b"
    lasting = LearnedPolicy(scorer(doublings=-1.0), "v")
    days = (Guest("old", remaining_s=400_000.0),)
    soon = (Guest("new", remaining_s=60.0),)
    mixed = (Guest("new", remaining_s=60.0), Guest("strange"))
    cluster = Cluster([node("a", used=2, guests=soon), node("b", used=2, guests=days)])
    assert lasting.place(cluster, replace(REQUEST, remaining_s=80_000.0)).node == "b"
    cluster = Cluster([node("a", used=2, guests=mixed), node("b", used=2, guests=soon)])
    assert lasting.place(cluster, replace(REQUEST, remaining_s=80_000.0)).node == "a"  # nothing is known there
