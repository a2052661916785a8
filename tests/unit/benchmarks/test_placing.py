"""What `novacron bench placement` holds real guests against: each check finds what it is there for."""

import pytest
from msgspec.structs import replace

from actors.hypervisor.messages import Attributes, GuestInfo
from actors.lab.topology import sites_apart
from actors.migration.messages import SweepMove, SweepView
from actors.placement.messages import PlannedMove, Standing
from benchmarks.placing.checks import Host, broken_rules, standing, strayed, unlike
from benchmarks.placing.plan import DRAINED, SITES, twelve

HOSTS = {"a": Host(site="x", vcpus=16), "b": Host(site="x", vcpus=16), "c": Host(site="y", vcpus=16)}


def guest(name, node, vcpus=1, **attributes):
    return GuestInfo(
        name=name, uuid="", node=node, site=HOSTS[node].site, state="running", memory_mib=128, vcpus=vcpus,
        attributes=Attributes(**attributes),
    )  # fmt: skip


GOOD = [
    guest("db", "a", together=("db",)),
    guest("cache", "a", together=("db",)),
    guest("one", "a", apart=("q",)),
    guest("two", "b", apart=("q",), sites=("x",)),
]


@pytest.mark.parametrize(
    ("at", "node", "says"),
    [
        (1, "c", "guests of db are on a, c"),
        (3, "a", "2 guests of q share a"),
        (3, "c", "two is in y, allowed are x"),
    ],
)
def test_a_guest_where_its_rules_forbid_it_is_found(at, node, says):
    assert broken_rules(GOOD, HOSTS) == []
    moved = [replace(one, node=node) if index == at else one for index, one in enumerate(GOOD)]
    assert broken_rules(moved, HOSTS) == [says]


def test_a_node_that_gives_more_than_it_may_is_found():
    assert broken_rules([guest("big", "a", vcpus=17)], HOSTS) == ["a gives 17 virtual CPUs of 16"]


def test_the_standing_is_counted_anew():
    guests = [
        guest("left", "a", vcpus=3, near=("chat",)),
        guest("right", "c", near=("chat",)),
        guest("other", "b", vcpus=8, near=("chat",), tenant="shop"),
        guest("till", "c", tenant="shop"),
    ]
    found = standing(guests, HOSTS)
    # Free: 13, 8 and 14, so 5 and 6 are outside blocks of 8, and all 35 outside those of 16.
    assert found.fragmentation_8 == pytest.approx(11 / 35)
    assert found.fragmentation_16 == pytest.approx(1.0)
    assert found.near_pairs == pytest.approx(2 / 3)
    assert found.split_pairs == pytest.approx(1.0)
    drained = {**HOSTS, "a": replace(HOSTS["a"], takes=False)}
    assert standing(guests, drained).fragmentation_8 == pytest.approx(6 / 22)
    assert unlike(found, found) == []
    assert unlike(found, replace(found, near_pairs=0.0)) == ["near_pairs is 0.0000, promised 0.6667"]


def test_a_guest_that_is_not_where_the_plan_has_it_is_found():
    plan = PlannedMove(
        guest="left", source="a", target="c", reason="", without="", gain_usd=0, cost_usd=0, expected_s=0,
        expected_bytes=0, expected_pause_ms=0,
    )  # fmt: skip
    stood = Standing(fragmentation_8=0, fragmentation_16=0, split_pairs=0, near_pairs=0, hot_nodes=0)
    sweep = SweepView(
        id="s-1", kind="rebalance", node="", state="completed", created_at=0,
        moves=[SweepMove(plan=plan, state="completed")], stays=[], before=stood, after=stood,
    )  # fmt: skip
    before = {"left": "a", "right": "c"}
    assert strayed(before, sweep, {"left": "c", "right": "c"}) == []
    assert strayed(before, sweep, before) == ["left is on a, promised c"]
    assert strayed(before, sweep, {"left": "c+a", "right": "c"}) == ["left is on c+a, promised c"]
    assert strayed(before, sweep, {"left": "c"}) == ["right is on no node, promised c"]
    failed = replace(sweep, moves=[SweepMove(plan=plan, state="failed", error="no line")])
    assert strayed(before, failed, before)[0] == "the move of left failed: no line"


def test_the_guests_have_every_rule_and_can_leave_the_drained_node():
    wanted, sites = twelve(), {site.name for site in sites_apart("x", SITES).sites}
    assert len({one.name for one in wanted}) == 12
    for kind in ("sites", "together", "apart", "near", "tenant"):
        assert any(getattr(one.attributes, kind) for one in wanted)
    home = DRAINED.rpartition("-")[0]
    for one in wanted:
        allowed = set(one.attributes.sites) or sites
        assert allowed - {home}
        assert not one.node or one.node.rpartition("-")[0] in allowed
