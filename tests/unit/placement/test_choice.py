"""The choice of a node: hard rules, the score, and the reasons."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.placement import load_policy
from models.placement.cluster import Cluster, Guest, Node, Request
from models.placement.hard_rules import HardRule
from models.placement.policy import Choice, Refusal
from models.registry import VersionUnknown

NODE = Node("n1", "left", "up", cpus=4, free_mib=4096, machines=frozenset({"q35"}))
REQUEST = Request("web", memory_mib=1024, vcpus=2, machine="q35")
DB = Guest("db-1", "acme", frozenset({"db"}))


def cluster(*nodes):
    return Cluster(nodes, headroom_mib=256, max_vcpus_per_cpu=4.0)


def place(request, *nodes):
    return load_policy().place(cluster(*nodes), request)


@pytest.mark.parametrize(
    ("rule", "request_", "node", "says"),
    [
        (
            HardRule.EXCLUDED,
            replace(REQUEST, exclude=frozenset({"n1"})),
            NODE,
            "excluded (the guest's present node, or one that refused it)",
        ),
        (HardRule.SITE, replace(REQUEST, site="right"), NODE, "in site left, not right"),
        (HardRule.SOVEREIGNTY, replace(REQUEST, sites=frozenset("ab")), NODE, "in site left, allowed are a, b"),
        (HardRule.STATE, REQUEST, replace(NODE, state="degraded"), "is degraded"),
        (HardRule.MACHINE, replace(REQUEST, machine="pc-99"), NODE, "has no machine type pc-99"),
        (HardRule.LABELS, replace(REQUEST, labels=frozenset({"ssd"})), NODE, "lacks the labels ssd"),
        (
            HardRule.ANTI_AFFINITY,
            replace(REQUEST, apart=frozenset({"db"})),
            replace(NODE, guests=(DB,)),
            "holds db-1 of db",
        ),
        (
            HardRule.MEMORY,
            REQUEST,
            replace(NODE, free_mib=1279),
            "needs 1024 MiB and 256 MiB of headroom, has 1279 MiB free",
        ),
        (
            HardRule.VCPUS,
            REQUEST,
            replace(NODE, vcpus_in_use=15),
            "15 of at most 16 virtual CPUs are in use, 2 more are needed",
        ),
    ],
)
def test_each_hard_rule_names_itself_and_its_reason(rule, request_, node, says):
    refusal = place(request_, node)
    assert isinstance(refusal, Refusal)
    assert refusal.rule is rule
    assert refusal.rejected == {"n1": says}
    assert refusal.reason.endswith(rule)


def test_affinity_binds_once_a_guest_of_the_group_is_somewhere():
    request = replace(REQUEST, together=frozenset({"db"}))
    full = replace(NODE, guests=(DB,), free_mib=1000)
    assert place(request, NODE).node == "n1"
    refusal = place(request, full, replace(NODE, name="n2"))
    assert refusal.rule is HardRule.MEMORY
    assert refusal.rejected["n2"] == "lacks guests of db"
    assert place(request, replace(full, free_mib=4096), replace(NODE, name="n2", free_mib=2000)).node == "n1"


def test_a_guest_that_moves_does_not_stand_in_its_own_way():
    here = replace(NODE, guests=(Guest("web", "acme", frozenset({"db"})),))
    other = replace(NODE, name="n2")
    for bond in ({"together": frozenset({"db"})}, {"apart": frozenset({"db"})}):
        assert place(replace(REQUEST, exclude=frozenset({"n1"}), **bond), here, other).node == "n2"
        assert place(replace(REQUEST, **bond), here).node == "n1"


def test_exactly_enough_is_enough():
    assert isinstance(place(REQUEST, replace(NODE, free_mib=1280, vcpus_in_use=14)), Choice)


def test_no_machine_type_and_no_site_mean_any():
    assert isinstance(place(Request("web", 1, 1), replace(NODE, machines=frozenset())), Choice)


def test_no_node_at_all():
    assert place(REQUEST) == Refusal(None, "there is no node")


def test_takes_the_tightest_fit_and_says_why_not_the_others():
    choice = place(REQUEST, replace(NODE, name="big", free_mib=9000), replace(NODE, name="small", free_mib=2000))
    assert choice.node == "small"
    assert choice.reason == "best fit of 2: 976 MiB stay free there"
    assert choice.rejected == {"big": "would leave 7976 MiB free, small 976 MiB"}


def test_a_known_tenant_stays_in_its_site_and_a_new_one_goes_to_the_freest():
    left, right = replace(NODE, vcpus_in_use=9), replace(NODE, name="n2", site="right", free_mib=2000)
    at_home = replace(left, guests=(DB,))
    request = replace(REQUEST, tenant="acme")
    choice = place(request, at_home, right)
    assert choice.node == "n1"
    assert choice.rejected == {"n2": "in site right, the tenant's guests go to left"}
    assert place(REQUEST, at_home, right).node == "n2"
    assert place(request, left, replace(right, free_mib=9000)).node == "n2"
    assert place(request, replace(at_home, vcpus_in_use=16), right).node == "n2"


def test_an_unknown_version_is_refused():
    with pytest.raises(VersionUnknown, match="no placement model '20261125-ab'"):
        load_policy("20261125-ab")


guests = st.lists(
    st.builds(
        Guest,
        name=st.sampled_from(["web", "g1", "g2"]),
        tenant=st.sampled_from(["", "acme", "other"]),
        groups=st.sets(st.sampled_from(["db", "app"])).map(frozenset),
    ),
    max_size=2,
).map(tuple)
nodes = st.lists(
    st.builds(
        Node,
        name=st.sampled_from("abcdef"),
        site=st.sampled_from(["left", "right", "far"]),
        state=st.sampled_from(["up", "up", "up", "down"]),
        cpus=st.integers(1, 8),
        vcpus_in_use=st.integers(0, 20),
        free_mib=st.integers(0, 4096),
        machines=st.sampled_from([frozenset({"q35"}), frozenset({"q35", "pc"}), frozenset()]),
        labels=st.sampled_from([frozenset(), frozenset({"ssd"})]),
        guests=guests,
    ),
    unique_by=lambda node: node.name,
    max_size=6,
)
requests = st.builds(
    Request,
    guest=st.just("web"),
    memory_mib=st.integers(1, 3000),
    vcpus=st.integers(1, 8),
    machine=st.sampled_from(["", "q35"]),
    site=st.sampled_from(["", "", "left"]),
    exclude=st.sets(st.sampled_from("abc"), max_size=2).map(frozenset),
    sites=st.sampled_from([frozenset(), frozenset({"left", "right"})]),
    labels=st.sampled_from([frozenset(), frozenset(), frozenset({"ssd"})]),
    tenant=st.sampled_from(["", "acme"]),
    together=st.sampled_from([frozenset(), frozenset(), frozenset({"db"})]),
    apart=st.sampled_from([frozenset(), frozenset({"app"})]),
)


def groups_of(node):
    return {group for guest in node.guests if guest.name != "web" for group in guest.groups}


def broken(request, node, all_nodes):
    """The hard rules that `node` breaks, written down a second time, one node at a time."""
    kept = {group for other in all_nodes for group in groups_of(other)}
    checks = {
        HardRule.EXCLUDED: node.name in request.exclude,
        HardRule.SITE: bool(request.site) and node.site != request.site,
        HardRule.SOVEREIGNTY: bool(request.sites) and node.site not in request.sites,
        HardRule.STATE: node.state != "up",
        HardRule.MACHINE: bool(request.machine) and request.machine not in node.machines,
        HardRule.LABELS: not request.labels <= node.labels,
        HardRule.AFFINITY: any(group in kept and group not in groups_of(node) for group in request.together),
        HardRule.ANTI_AFFINITY: bool(request.apart & groups_of(node)),
        HardRule.MEMORY: node.free_mib < request.memory_mib + 256,
        HardRule.VCPUS: node.vcpus_in_use + request.vcpus > node.cpus * 4,
    }
    return [rule for rule in HardRule if checks[rule]]


@given(nodes, requests)
def test_no_hard_rule_is_ever_broken_and_a_refusal_names_the_one_that_binds(given_nodes, request):
    answer = place(request, *given_nodes)
    against = {node.name: broken(request, node, given_nodes) for node in given_nodes}
    allowed = [node for node in given_nodes if not against[node.name]]
    named = {*answer.rejected, *([answer.node] if isinstance(answer, Choice) else [])}
    assert named == {node.name for node in given_nodes}
    if isinstance(answer, Choice):
        chosen = next(node for node in allowed if node.name == answer.node)
        rivals = [node for node in allowed if not request.tenant or node.site == chosen.site]
        assert all((chosen.free_mib, chosen.name) <= (node.free_mib, node.name) for node in rivals)
        return
    assert not allowed
    firsts = [list(HardRule).index(rules[0]) for rules in against.values()]
    assert answer.rule is (list(HardRule)[max(firsts)] if firsts else None)


@given(nodes, requests, st.randoms())
def test_the_order_of_the_nodes_changes_nothing(given_nodes, request, random):
    shuffled = list(given_nodes)
    random.shuffle(shuffled)
    assert place(request, *shuffled) == place(request, *given_nodes)


@given(nodes, st.lists(st.builds(replace, requests, guest=st.sampled_from(["web", "g1"])), min_size=2, max_size=4))
def test_one_cluster_answers_many_requests_alike(given_nodes, asked):
    shared, policy = cluster(*given_nodes), load_policy()
    assert [policy.place(shared, one) for one in asked] == [place(one, *given_nodes) for one in asked]
