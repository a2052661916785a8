"""The placement actor."""

import msgspec
import pytest

from actors.calls.messages import Caller, Reply
from actors.config.schema import Config
from actors.errors import NoPlacement, error_from
from actors.hypervisor.messages import Attributes, NodeFacts
from actors.placement.actor import PlacementPolicy
from actors.placement.messages import Neighbour, Place, Placed

CONFIG = Config.model_validate(
    {
        "node": {"name": "a1"},
        "topology": {"sites": [{"name": "left", "nodes": [{"name": "a1", "address": "10.0.0.1"}]}]},
        "placement": {"headroom_mib": 256, "max_vcpus_per_cpu": 2},
    }
)


def facts(node, free_mib, site="left"):
    return NodeFacts(
        node=node,
        site=site,
        state="up",
        address="10.0.0.1",
        cpus=2,
        cpu_model="x",
        arch="x86_64",
        memory_mib=8192,
        free_mib=free_mib,
        guests=0,
        machine_types=["q35"],
    )


async def place(request):
    caller = Caller(node="a1", site="left", same_site=True)
    raw = await PlacementPolicy(CONFIG).serve(caller, "place", msgspec.msgpack.encode(request))
    reply = msgspec.msgpack.decode(raw, type=Reply)
    if reply.error:
        raise error_from(reply.error, reply.fields)
    return msgspec.msgpack.decode(reply.body, type=Placed)


async def test_chooses_and_explains():
    nodes = [facts("a1", 4000), facts("b1", 2000, "right"), facts("b2", 1000, "right")]
    placed = await place(Place(guest="web", memory_mib=1024, vcpus=1, machine="q35", nodes=nodes, exclude=["a1"]))
    assert placed.node == "b1"
    assert "headroom" in placed.rejected["b2"]
    assert "present node" in placed.rejected["a1"]


async def test_running_guests_count_against_overcommit():
    others = [Neighbour(name="db", node="a1", vcpus=4)]
    request = Place(guest="web", memory_mib=1, vcpus=1, machine="", nodes=[facts("a1", 4000)], guests=others)
    with pytest.raises(NoPlacement, match="a1: 4 of at most 4"):
        await place(request)


async def test_no_node_at_all():
    with pytest.raises(NoPlacement, match="there is no node"):
        await place(Place(guest="web", memory_mib=1, vcpus=1, machine="", nodes=[]))


async def test_attributes_decide():
    nodes = [facts("a1", 4000), facts("b1", 8000, "right"), facts("b2", 9000, "right")]
    others = [Neighbour(name="db", node="b1", tenant="acme", groups=("db",))]

    async def chosen(**wanted):
        attributes = Attributes(**wanted)
        request = Place(
            guest="web", memory_mib=64, vcpus=1, machine="", nodes=nodes, guests=others, attributes=attributes
        )
        return (await place(request)).node

    assert await chosen() == "a1"
    assert await chosen(tenant="acme") == "b1"
    assert await chosen(together=("db",)) == "b1"
    assert await chosen(sites=("right",), apart=("db",)) == "b2"
    with pytest.raises(NoPlacement, match="allowed are far"):
        await chosen(sites=("far",))
