"""Addresses, names and paths, and the commands that make the network of them."""

import ipaddress
import itertools
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.config.schema import Config
from actors.errors import Conflict
from actors.lab import hostfiles, network, services
from actors.lab.plan import (
    SECOND_OCTETS,
    LabPlan,
    choose_second_octet,
    decode_plan,
    encode_plan,
    make_plan,
    next_hops,
)
from actors.lab.topology import LabSite, LabTopology, Link, default_topology

ID = "0123456789abcdef0123456789abcdef"


def plan_of(topology: LabTopology) -> LabPlan:
    """A plan in directories that nothing is written to."""
    return make_plan(topology, ID, 77, "wanlink", Path("/state"), Path("/run/lab"))


def chain(sites: int, nodes: int) -> LabTopology:
    """Sites in a row, each linked to the next."""
    names = [f"s{number}" for number in range(sites)]
    links = [Link(between=(a, b)) for a, b in itertools.pairwise(names)]
    return LabTopology(sites=[LabSite(name=name, nodes=nodes) for name in names], links=links)


def test_default_plan() -> None:
    plan = plan_of(default_topology())
    assert [(node.name, node.address, node.leads) for node in plan.nodes] == [
        ("london-1", "10.77.1.11", True),
        ("paris-1", "10.77.2.11", True),
    ]
    assert plan.nodes[0].libvirt_uri == "qemu+unix:///system?socket=/run/lab/default/london-1/libvirt/libvirt-sock"
    assert plan.nodes[0].api_url == "http://10.77.1.11:8443"
    assert plan.links[0].control == Path("/run/lab/default/link-0.sock")
    assert decode_plan(encode_plan(plan)) == plan


@given(st.integers(1, 50), st.integers(1, 16))
def test_addresses_names_and_uuids_never_clash(sites: int, nodes: int) -> None:
    plan = plan_of(chain(sites, nodes))
    addresses = [node.address for node in plan.nodes]
    addresses += [a for r in plan.routers for a in (r.gateway, r.host_address, r.router_address)]
    addresses += [a for link in plan.links for a in (link.address_a, link.address_b)]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network("10.77.0.0/16") for address in addresses)
    for node in plan.nodes:
        assert ipaddress.ip_address(node.address) in ipaddress.ip_network(plan.router(node.site).subnet)
    names = [router.host_interface for router in plan.routers]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 for name in names + [link.device for link in plan.links])
    uuids = {uuid.UUID(node.host_uuid) for node in plan.nodes}
    assert len(uuids) == len(plan.nodes)
    assert {found.version for found in uuids} == {4}


@given(st.integers(2, 12), st.data())
def test_routes_follow_the_shortest_way(sites: int, data: st.DataObject) -> None:
    plan = plan_of(chain(sites, 1))
    here = data.draw(st.integers(0, sites - 1))
    hops = next_hops(plan, f"s{here}")
    assert set(hops) == {f"s{there}" for there in range(sites)} - {f"s{here}"}
    for there, link in hops.items():
        towards = here + 1 if int(there[1:]) > here else here - 1
        assert {link.site_a, link.site_b} == {f"s{here}", f"s{towards}"}


def test_sites_without_a_way_get_no_route() -> None:
    plan = plan_of(LabTopology(sites=[LabSite(name="a"), LabSite(name="b")]))
    assert next_hops(plan, "a") == {}
    assert network.wan_route_lines(plan, "a") == []


def test_the_first_range_that_is_free_is_taken() -> None:
    assert choose_second_octet([]) == SECOND_OCTETS[0]
    assert choose_second_octet(["default", "192.168.1.0/24", "10.77.1.0/24", "10.78.200.5", "fe80::/64"]) == 79
    assert choose_second_octet(["10.7.0.0/16", "110.77.0.0/16"]) == 77
    with pytest.raises(Conflict, match="in use"):
        choose_second_octet([f"10.{octet}.0.0/16" for octet in SECOND_OCTETS])


@pytest.mark.parametrize(("wide", "chosen"), [("10.76.0.0/15", 78), ("10.64.0.0/11", 96), ("10.0.0.0/8", 77)])
def test_a_wider_route_is_avoided_where_there_is_room_beside_it(wide: str, chosen: int) -> None:
    assert choose_second_octet(["default", "::1", wide]) == chosen


def test_network_commands_of_the_default_lab() -> None:
    plan = plan_of(default_topology())
    london = plan.router("london")
    pids = {"node-london-1": 41, "node-paris-1": 42}
    assert network.router_lines(london, plan.nodes_of("london"), pids)[-2:] == [
        "link add n1 type veth peer name eth0 netns 41",
        "link set n1 master br0 up",
    ]
    assert "addr add 10.77.1.11/24 dev eth0" in network.node_lines(plan.nodes[0], london)
    assert network.host_lines(london, 40)[0] == "link add nv012345m1 type veth peer name mgmt netns 40"
    assert network.host_route_lines(london) == ["route add 10.77.1.0/24 via 10.77.200.6"]
    assert "addr add 10.77.100.1 peer 10.77.100.2 dev wan0" in network.line_end_lines(plan.links[0], "london")
    assert "addr add 10.77.100.2 peer 10.77.100.1 dev wan0" in network.line_end_lines(plan.links[0], "paris")
    assert network.wan_route_lines(plan, "paris") == ["route add 10.77.1.0/24 via 10.77.100.1 dev wan0"]


def test_node_configuration_is_valid_and_names_every_node() -> None:
    plan = plan_of(chain(3, 2))
    for node in plan.nodes:
        config = Config.model_validate(services.node_config(plan, node))
        assert config.site.name == node.site
        assert config.leads is node.leads
        assert [m.address for site in config.topology.sites for m in site.nodes] == [n.address for n in plan.nodes]


def test_ray_joins_the_lead_of_its_own_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_program", lambda name: f"/bin/{name}")
    plan = plan_of(chain(2, 2))
    head, worker = plan.nodes_of("s1")
    assert services.ray_command(plan, head)[:4] == ["/bin/ray", "start", "--head", "--port=6379"]
    assert f"--address={head.address}:6379" in services.ray_command(plan, worker)
    assert f"--node-ip-address={worker.address}" in services.ray_command(plan, worker)


def test_libvirt_never_ends_a_move_because_a_line_is_dark() -> None:
    node = plan_of(default_topology()).nodes[0]
    assert "keepalive_interval = -1" in hostfiles.libvirtd_conf(node)
    assert "keepalive_interval = -1" in hostfiles.qemu_conf()
    assert f'listen_addr = "{node.address}"' in hostfiles.libvirtd_conf(node)


def test_run_is_mounted_last_because_it_hides_where_it_comes_from() -> None:
    plan = plan_of(default_topology())
    lines = hostfiles.mount_script(plan.nodes[0]).splitlines()
    mounts = [line for line in lines if line.startswith("mount")]
    assert mounts[0] == "mount --make-rprivate /"
    assert mounts[-1] == "mount --bind /run/lab/default/london-1 /run"
    assert "mount --bind /state/default/nodes/london-1/tmp-ray /tmp/ray" in mounts
