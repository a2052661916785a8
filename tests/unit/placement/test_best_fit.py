"""Best fit under hard rules."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.placement.best_fit import Candidate, Need, Rules, against, choose

RULES = Rules(headroom_mib=256, max_vcpus_per_cpu=4.0)
NODE = Candidate("n1", "left", "up", cpus=4, vcpus_in_use=0, free_mib=4096, machines=frozenset({"q35"}))
NEED = Need(memory_mib=1024, vcpus=2, machine="q35")


@pytest.mark.parametrize(
    ("need", "node", "says"),
    [
        (replace(NEED, exclude=frozenset({"n1"})), NODE, "present node"),
        (replace(NEED, site="right"), NODE, "in site left, not right"),
        (NEED, replace(NODE, state="degraded"), "is degraded"),
        (replace(NEED, machine="pc-99"), NODE, "no machine type pc-99"),
        (NEED, replace(NODE, free_mib=1279), "1279 MiB free"),
        (NEED, replace(NODE, vcpus_in_use=15), "15 of at most 16"),
    ],
)
def test_each_hard_rule_names_its_reason(need, node, says):
    assert says in against(need, node, RULES)
    choice = choose(need, [node], RULES)
    assert choice.node is None
    assert says in choice.rejected["n1"]


def test_exactly_enough_is_enough():
    assert against(NEED, replace(NODE, free_mib=1280, vcpus_in_use=14), RULES) == ""


def test_no_machine_type_and_no_site_mean_any():
    assert against(Need(memory_mib=1, vcpus=1), replace(NODE, machines=frozenset()), RULES) == ""


def test_takes_the_tightest_fit_and_says_why_not_the_others():
    nodes = [replace(NODE, name="big", free_mib=9000), replace(NODE, name="small", free_mib=2000)]
    choice = choose(NEED, nodes, RULES)
    assert choice.node == "small"
    assert "976 MiB stay free" in choice.reason
    assert choice.rejected == {"big": "would leave 7976 MiB free, small 976 MiB"}


nodes = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdef"),
        site=st.sampled_from(["left", "right"]),
        state=st.sampled_from(["up", "up", "down"]),
        cpus=st.integers(1, 8),
        vcpus_in_use=st.integers(0, 20),
        free_mib=st.integers(0, 4096),
        machines=st.sampled_from([frozenset({"q35"}), frozenset()]),
    ),
    unique_by=lambda node: node.name,
    max_size=6,
)


@given(nodes, st.randoms(), st.sampled_from(["", "left"]), st.sets(st.sampled_from("abc")))
def test_is_deterministic_breaks_no_rule_and_accounts_for_every_node(candidates, random, site, exclude):
    need = replace(NEED, site=site, exclude=frozenset(exclude))
    choice = choose(need, candidates, RULES)
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert choose(need, shuffled, RULES) == choice
    named = {*choice.rejected, *([choice.node] if choice.node else [])}
    assert named == {node.name for node in candidates}
    allowed = [node for node in candidates if not against(need, node, RULES)]
    assert (choice.node is None) == (not allowed)
    if choice.node:
        chosen = next(node for node in allowed if node.name == choice.node)
        assert all(chosen.free_mib <= node.free_mib for node in allowed)
