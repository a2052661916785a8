"""The rules of a guest's attributes, and drained nodes: where guests are made, moved and labelled."""

import pytest

from actors.control.commands import DrainNode
from actors.errors import BodyInvalid, NoPlacement, RuleBroken, Unreachable
from actors.hypervisor.messages import Attributes, GuestInfo, GuestSpec
from actors.migration.messages import CreateGuestAnywhere, JobView, LabelGuest, MoveRequest, Scope, Sites

HERE = Attributes(sites=("left",))
PAIR = Attributes(together=("pair",))
LONE = Attributes(apart=("web",))


def create(name, node="", **wanted):
    return CreateGuestAnywhere(spec=GuestSpec(name=name, attributes=Attributes(**wanted)), node=node)


def drain(cluster, node, draining=True):
    cluster.world.states.must(DrainNode(node=node, draining=draining), "operator:test")


@pytest.mark.parametrize(
    ("attributes", "other", "rule"),
    [
        (HERE, ("a2", Attributes()), "sovereignty"),
        (PAIR, ("a2", PAIR), "affinity"),
        (LONE, ("b1", LONE), "anti-affinity"),
    ],
)
async def test_a_move_by_hand_that_breaks_a_rule_is_refused_by_its_name(cluster, attributes, other, rule):
    cluster.agent("a1").put("web", attributes=attributes)
    cluster.agent(other[0]).put("other", attributes=other[1])
    with pytest.raises(RuleBroken, match=f"by the rule {rule}") as refused:
        await cluster.ask("submit", MoveRequest(guest="web", to="b1"), JobView)
    assert "novacron guest label" in refused.value.next_step
    assert not cluster.agent("a1").prepared


async def test_a_group_whose_others_follow_may_be_left(cluster):
    cluster.agent("a1").put("web", attributes=PAIR)
    cluster.agent("a1").put("db", attributes=PAIR)
    with pytest.raises(RuleBroken, match="lacks guests of pair"):
        await cluster.ask("submit", MoveRequest(guest="web", to="b1"), JobView)
    job = await cluster.ask("submit", MoveRequest(guest="web", to="b1", parted=("pair",)), JobView)
    assert (job.source, job.target) == ("a1", "b1")


async def test_a_group_that_may_be_where_nobody_answers_is_not_left(cluster):
    cluster.agent("a1").put("web", attributes=PAIR)
    cluster.world.cut.add("right")
    with pytest.raises(Unreachable, match="site right, which may have guests of pair"):
        await cluster.ask("submit", MoveRequest(guest="web", to="a2"), JobView)


async def test_a_drained_node_takes_no_guests(cluster):
    drain(cluster, "b1")
    left, right = (await cluster.ask("sites", Scope(), Sites)).sites
    assert [node.state for node in (*left.nodes, *right.nodes)] == ["up", "up", "draining"]
    with pytest.raises(RuleBroken, match="by the rule state: is draining"):
        await cluster.ask("submit", MoveRequest(guest="web", to="b1"), JobView)
    with pytest.raises(RuleBroken, match="is draining"):
        await cluster.ask("create_guest", create("new", "b1"), GuestInfo)
    with pytest.raises(NoPlacement, match="b1: is draining"):
        await cluster.ask("create_guest", create("new", sites=("right",)), GuestInfo)
    drain(cluster, "b1", draining=False)
    assert (await cluster.ask("create_guest", create("new", sites=("right",)), GuestInfo)).node == "b1"


async def test_without_a_majority_lists_go_on_and_no_node_is_called_drained(cluster):
    cluster.world.states.away = True
    left, _ = (await cluster.ask("sites", Scope(), Sites)).sites
    assert {node.state for node in left.nodes} == {"up"}


async def test_a_new_guest_goes_where_its_attributes_let_it(cluster):
    cluster.agent("b1").free_mib = 1000
    assert (await cluster.ask("create_guest", create("db", sites=("right",)), GuestInfo)).node == "b1"
    assert (await cluster.ask("create_guest", create("d1", apart=("d",)), GuestInfo)).node == "a1"
    assert (await cluster.ask("create_guest", create("d2", apart=("d",)), GuestInfo)).node == "a2"
    with pytest.raises(NoPlacement, match="holds d1 of d"):
        await cluster.ask("create_guest", create("d3", apart=("d",)), GuestInfo)
    with pytest.raises(RuleBroken, match="allowed are right"):
        await cluster.ask("create_guest", create("d4", "a1", sites=("right",)), GuestInfo)


async def test_the_rules_of_a_definition_count_as_those_that_are_said(cluster):
    xml = (
        "<domain><name>x1</name><memory unit='MiB'>64</memory><metadata>"
        "<n:placement xmlns:n='https://novacron.dev/xmlns/placement/1' sites='right'/></metadata></domain>"
    )
    request = CreateGuestAnywhere(spec=GuestSpec(name="x1", xml=xml))
    assert (await cluster.ask("create_guest", request, GuestInfo)).node == "b1"


async def test_labels_change_what_is_said_and_keep_the_rest(cluster):
    await cluster.ask("label_guest", LabelGuest(name="web", tenant="acme", near=("shop", "app")), GuestInfo)
    changed = await cluster.ask("label_guest", LabelGuest(name="web", near=()), GuestInfo)
    assert changed.attributes == Attributes(tenant="acme")
    cluster.agent("b1").put("db")
    there = await cluster.ask("label_guest", LabelGuest(name="db", sites=("right",)), GuestInfo)
    assert there.attributes == Attributes(sites=("right",))


async def test_a_rule_that_the_guest_breaks_where_it_is_is_no_label(cluster):
    cluster.agent("a1").put("db", attributes=LONE)
    with pytest.raises(RuleBroken, match="holds db of web"):
        await cluster.ask("label_guest", LabelGuest(name="web", apart=("web",)), GuestInfo)
    with pytest.raises(BodyInvalid, match="together with it and apart"):
        await cluster.ask("label_guest", LabelGuest(name="web", apart=("x",), together=("x",)), GuestInfo)
    assert cluster.agent("a1").guests_here["web"].attributes == Attributes()


async def test_placement_goes_on_to_a_node_that_has_the_disks(cluster):
    cluster.agent("a2").fail = "check_incoming"
    job = await cluster.ask("submit", MoveRequest(guest="web"), JobView)
    assert job.target == "b1"


async def test_where_no_node_has_the_disks_each_says_so(cluster):
    cluster.agent("a2").fail = "check_incoming"
    cluster.agent("b1").free_mib = 10
    with pytest.raises(NoPlacement, match=r"a2: .*vda is not there; a1: excl.*; b1: needs 1024 MiB") as refused:
        await cluster.ask("submit", MoveRequest(guest="web"), JobView)
    assert str(refused.value).count("a2") == 2  # its own words alone, not that it was excluded
    cluster.agent("b1").free_mib = 8192
    cluster.agent("b1").fail = "check_incoming"
    with pytest.raises(NoPlacement, match=r"a2: .*; b1: .*vda is not there"):
        await cluster.ask("submit", MoveRequest(guest="web"), JobView)
    assert not cluster.agent("a1").prepared
