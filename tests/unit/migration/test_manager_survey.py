"""Sites, guests and links through the manager, also while somebody is away."""

import time

import pytest

from actors.calls.messages import Empty
from actors.errors import BadRequest, GuestBusy, GuestExists, GuestUnknown, NodeUnknown, Refused, Unreachable
from actors.hypervisor.messages import GuestInfo, Guests, GuestSpec, GuestXml
from actors.migration.messages import (
    CreateGuestAnywhere,
    EndTarget,
    GuestAction,
    GuestQuery,
    JobView,
    Links,
    MoveRequest,
    RaiseTarget,
    Receive,
    Scope,
    Sites,
    TargetJob,
)
from actors.transport.messages import LinkSample
from tests.unit.migration.site import Calls


async def test_every_site_with_its_nodes(cluster):
    answer = await cluster.ask("sites", Scope(), Sites)
    assert {site.name: [node.node for node in site.nodes] for site in answer.sites} == {
        "left": ["a1", "a2"],
        "right": ["b1"],
    }
    assert {site.state for site in answer.sites} == {"up"}


async def test_an_unreachable_site_and_a_dead_agent_are_shown_with_the_reason(cluster):
    cluster.world.cut.add("right")
    cluster.world.down.add(("agent", "a2"))
    left, right = (await cluster.ask("sites", Scope(), Sites)).sites
    assert (right.state, right.nodes[0].node, right.nodes[0].state) == ("unreachable", "b1", "down")
    assert "no route" in right.reason
    a2 = next(node for node in left.nodes if node.node == "a2")
    assert a2.state == "down"
    assert "died" in a2.warnings[0]


async def test_this_site_alone(cluster):
    answer = await cluster.ask("sites", Scope(everywhere=False), Sites)
    assert [site.name for site in answer.sites] == ["left"]
    assert not [entry for entry in cluster.world.log if entry[1] == "b1"]


async def test_guests_of_all_sites_and_who_was_silent(cluster):
    cluster.agent("b1").put("db")
    answer = await cluster.ask("guests", Scope(), Guests)
    assert {(guest.name, guest.node) for guest in answer.guests} == {("web", "a1"), ("db", "b1")}
    cluster.world.cut.add("right")
    answer = await cluster.ask("guests", Scope(), Guests)
    assert ([guest.name for guest in answer.guests], answer.silent) == (["web"], ["site right"])


async def test_of_two_copies_the_running_one_is_the_guest(cluster):
    cluster.agent("b1").put("web", "incoming")
    assert (await cluster.ask("guest", GuestQuery(name="web"), GuestInfo)).node == "a1"


async def test_nobody_is_called_unknown_while_a_site_is_silent(cluster):
    with pytest.raises(GuestUnknown):
        await cluster.ask("guest", GuestQuery(name="db"), GuestInfo)
    cluster.world.cut.add("right")
    with pytest.raises(Unreachable, match="site right, which may have guest db"):
        await cluster.ask("guest", GuestQuery(name="db"), GuestInfo)


def spec(name, node="", **more):
    return CreateGuestAnywhere(spec=GuestSpec(name=name, **more), node=node)


async def test_create_on_a_chosen_a_named_and_another_sites_node(cluster):
    cluster.agent("a2").free_mib = 2048
    assert (await cluster.ask("create_guest", spec("one"), GuestInfo)).node == "a2"
    assert (await cluster.ask("create_guest", spec("two", "a1"), GuestInfo)).node == "a1"
    assert (await cluster.ask("create_guest", spec("three", "b1"), GuestInfo)).node == "b1"
    with pytest.raises(NodeUnknown):
        await cluster.ask("create_guest", spec("four", "zz"), GuestInfo)


async def test_a_name_is_unique_over_all_sites(cluster):
    cluster.agent("b1").put("db", "shut-off")
    with pytest.raises(GuestExists, match="b1"):
        await cluster.ask("create_guest", spec("db"), GuestInfo)
    cluster.world.cut.add("right")
    with pytest.raises(Unreachable, match="that the name new is free"):
        await cluster.ask("create_guest", spec("new"), GuestInfo)


async def test_actions_reach_guests_of_both_sites(cluster):
    cluster.agent("b1").put("db")
    paused = await cluster.ask("guest_action", GuestAction(name="web", action="pause"), GuestInfo)
    assert (paused.node, paused.state) == ("a1", "paused")
    stopped = await cluster.ask("guest_action", GuestAction(name="db", action="stop", grace_s=1), GuestInfo)
    assert (stopped.node, stopped.state) == ("b1", "shut-off")


async def test_bad_actions(cluster):
    with pytest.raises(BadRequest, match="resize"):
        await cluster.ask("guest_action", GuestAction(name="web", action="resize"), GuestInfo)
    with pytest.raises(GuestUnknown):
        await cluster.ask("guest_action", GuestAction(name="nobody", action="stop"), GuestInfo)
    cluster.agent("a1").hold = True
    await cluster.ask("submit", MoveRequest(guest="web", to="b1"), JobView)
    with pytest.raises(GuestBusy):
        await cluster.ask("guest_action", GuestAction(name="web", action="stop"), GuestInfo)


async def test_links_come_with_forecasts_once_something_was_measured(cluster):
    links = (await cluster.ask("links", Empty(), Links)).links
    assert [(link.link.node, link.forecast) for link in links] == [("a1", None), ("a2", None)]
    now = time.time()
    cluster.service("transport", "a1").samples = [
        LinkSample(
            at=now - 5 + n, rtt_ms=50, jitter_ms=1, sent_bytes=10**7, acked_bytes=10**7, busy_share=1, retransmits=0
        )
        for n in range(5)
    ]
    sampler = cluster.service("manager", "a1")._sampler
    await sampler.carry("a1")
    await sampler.carry("a1")
    forecast = (await cluster.ask("links", Empty(), Links)).links[0].forecast
    assert (forecast.mean, forecast.samples, forecast.method) == (10**7, 5, "ewma")


async def test_a_peer_names_only_its_own_sources_and_our_targets(cluster):
    calls = Calls("b1", cluster.world)
    manager = calls.central("manager", "left")
    guest = GuestXml(info=cluster.agent("a1").guests_here["web"], xml="<domain/>")
    with pytest.raises(Refused, match="a2"):
        await calls.call(manager, "receive", Receive(job="m", source="a2", target="a1", guest=guest), Empty, 5.0)
    with pytest.raises(NodeUnknown):
        await calls.call(manager, "target_status", TargetJob(job="m", guest="web", target="b1"), Empty, 5.0)
    with pytest.raises(Refused):
        await calls.call(manager, "jobs", Empty(), Empty, 5.0)


async def test_a_third_site_has_no_say_in_a_job(cluster):
    calls = Calls("b1", cluster.world)
    manager = calls.central("manager", "left")
    cluster.service("manager", "a1")._led_by["m"] = "elsewhere"
    about = TargetJob(job="m", guest="web", target="a1")
    with pytest.raises(Refused, match="another site"):
        await calls.call(manager, "target_status", about, Empty, 5.0)
    end = EndTarget(job="m", guest="web", target="a1", roll_back=True)
    with pytest.raises(Refused, match="another site"):
        await calls.call(manager, "end_target", end, Empty, 5.0)
    first = RaiseTarget(job="m", target="a1", raised=True)
    with pytest.raises(Refused, match="another site"):
        await calls.call(manager, "raise_target", first, Empty, 5.0)
