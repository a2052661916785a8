"""Pure planning: from a topology to addresses, names and paths. Nothing here touches the machine."""

import ipaddress
from pathlib import Path
from typing import Literal

import msgspec

from actors.errors import Conflict
from actors.lab.topology import LabSite, LabTopology, Link

Emulator = Literal["wanlink", "netem"]
STATE_ROOT = Path("/var/lib/novacron-lab")
RUN_ROOT = Path("/run/novacron-lab")
# Each lab takes one /16: 10.77.0.0/16 if it is free on this machine, else the next ones.
SECOND_OCTETS = range(77, 98)
_LINK_THIRD_OCTET = 100
_MANAGEMENT_THIRD_OCTET = 200
TRANSPORT_PORT = 7443
API_PORT = 8443
RAY_PORT = 6379
LIBVIRT_TCP_PORT = 16509


class RouterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The router of one site: a network namespace with the site's bridge, its WAN lines and a way to this machine."""

    site: str
    holder: str
    subnet: str
    gateway: str
    host_interface: str
    host_address: str
    router_address: str


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One host. `number` counts from 1 inside the site; `state_dir` and `run_dir` are paths on this machine.

    `witness`: it is a member of the control state and nothing else, without libvirtd, Ray, API and guests.
    """

    name: str
    site: str
    number: int
    address: str
    host_uuid: str
    leads: bool
    witness: bool
    state_dir: Path
    run_dir: Path

    @property
    def holder(self) -> str:
        """Name of the process that holds the node's namespaces."""
        return f"node-{self.name}"

    @property
    def libvirtd_socket(self) -> Path:
        """The node's libvirtd as this machine's root namespace reaches it."""
        return self.run_dir / "libvirt" / "libvirt-sock"

    @property
    def libvirt_uri(self) -> str:
        """URI of the node's libvirtd for a client in this machine's root namespace."""
        return f"qemu+unix:///system?socket={self.libvirtd_socket}"

    @property
    def api_url(self) -> str:
        """Where the node's API answers, on nodes that lead their site; reachable from this machine."""
        return f"http://{self.address}:{API_PORT}"


class LinkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One WAN line. Direction `ab` goes from `site_a` to `site_b`."""

    name: str
    site_a: str
    site_b: str
    device: str
    address_a: str
    address_b: str
    control: Path
    rate_bps: int
    delay_us: int
    jitter_us: int
    loss_ppm: int
    queue_bytes: int


class LabPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `up` is going to make. `id` marks every process of this lab, see `actors.lab.processes`."""

    name: str
    id: str
    emulator: Emulator
    ray_cpus: int
    object_store_mib: int
    state_dir: Path
    run_dir: Path
    routers: list[RouterPlan]
    nodes: list[NodePlan]
    links: list[LinkPlan]

    @property
    def api_token_file(self) -> Path:
        """File on this machine whose first line is the bearer token of every site's API."""
        return self.state_dir / "api.token"

    @property
    def hosts(self) -> list[NodePlan]:
        """The nodes that run guests."""
        return [node for node in self.nodes if not node.witness]

    def router(self, site: str) -> RouterPlan:
        """The router of `site`."""
        return next(router for router in self.routers if router.site == site)

    def lead(self, site: str) -> NodePlan:
        """The first node of `site`."""
        return next(node for node in self.nodes if node.site == site and node.leads)

    def nodes_of(self, site: str) -> list[NodePlan]:
        """The nodes of `site`, the lead first."""
        return [node for node in self.nodes if node.site == site]


def encode_plan(plan: LabPlan) -> bytes:
    """JSON of `plan`."""
    return msgspec.json.encode(plan, enc_hook=str)


def decode_plan(raw: bytes) -> LabPlan:
    """The plan that `encode_plan` wrote."""
    return msgspec.json.decode(raw, type=LabPlan, dec_hook=lambda kind, value: kind(value))


def make_plan(
    topology: LabTopology,
    lab_id: str,
    second_octet: int,
    emulator: Emulator,
    state_root: Path = STATE_ROOT,
    run_root: Path = RUN_ROOT,
) -> LabPlan:
    """Plan `topology`.

    Args:
        lab_id: 32 hexadecimal digits, new for every `up`.
        second_octet: the lab's addresses are 10.`second_octet`.0.0/16.
    """
    assert len(lab_id) == 32, "lab ids are uuid4 hex"
    state_dir, run_dir = state_root / topology.name, run_root / topology.name
    net = f"10.{second_octet}"
    routers = [_router(site, number, net, lab_id) for number, site in enumerate(topology.sites, 1)]
    nodes = [
        NodePlan(
            name=name,
            site=site.name,
            number=number,
            address=f"{net}.{site_number}.{10 + number}",
            host_uuid=_host_uuid(lab_id, site_number, number),
            leads=number == 1,
            witness=site.witness,
            state_dir=state_dir / "nodes" / name,
            run_dir=run_dir / name,
        )
        for site_number, site in enumerate(topology.sites, 1)
        for number, name in enumerate(site.node_names, 1)
    ]
    return LabPlan(
        name=topology.name,
        id=lab_id,
        emulator=emulator,
        ray_cpus=topology.ray_cpus,
        object_store_mib=topology.object_store_mib,
        state_dir=state_dir,
        run_dir=run_dir,
        routers=routers,
        nodes=nodes,
        links=[_link(link, number, net, run_dir) for number, link in enumerate(topology.links)],
    )


def _router(site: LabSite, number: int, net: str, lab_id: str) -> RouterPlan:
    return RouterPlan(
        site=site.name,
        holder=f"router-{site.name}",
        subnet=f"{net}.{number}.0/24",
        gateway=f"{net}.{number}.1",
        host_interface=f"nv{lab_id[:6]}m{number}",
        host_address=f"{net}.{_MANAGEMENT_THIRD_OCTET}.{4 * number + 1}",
        router_address=f"{net}.{_MANAGEMENT_THIRD_OCTET}.{4 * number + 2}",
    )


def _link(link: Link, number: int, net: str, run_dir: Path) -> LinkPlan:
    return LinkPlan(
        name=link.name,
        site_a=link.between[0],
        site_b=link.between[1],
        device=f"wan{number}",
        address_a=f"{net}.{_LINK_THIRD_OCTET}.{4 * number + 1}",
        address_b=f"{net}.{_LINK_THIRD_OCTET}.{4 * number + 2}",
        control=run_dir / f"link-{number}.sock",
        rate_bps=link.rate_bps,
        delay_us=link.delay_us,
        jitter_us=round(link.jitter_ms * 1000),
        loss_ppm=round(link.loss_percent * 10_000),
        queue_bytes=link.queue_bytes,
    )


def _host_uuid(lab_id: str, site: int, node: int) -> str:
    """A version-4 UUID that differs between nodes and labs; libvirt refuses one whose digits are all the same."""
    digits = f"{lab_id[:24]}{site:04x}{node:04x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def choose_second_octet(taken: list[str]) -> int:
    """The range to use on a machine whose routes have the destinations `taken`; what is no IPv4 prefix is passed over.

    A range that no route touches is best. One that only lies inside a wider route (a VPN's 10.0.0.0/8) will do: the
    lab's own routes are narrower, so they win, and nothing else of the wider one is hidden.

    Raises:
        Conflict: the machine has narrower routes into every range.
    """
    routes = [route for text in taken if (route := _ipv4_network(text)) is not None and route.prefixlen > 0]
    ranges = {octet: ipaddress.IPv4Network(f"10.{octet}.0.0/16") for octet in SECOND_OCTETS}
    usable = [o for o, own in ranges.items() if not any(route.subnet_of(own) for route in routes)]
    untouched = [o for o in usable if not any(route.overlaps(ranges[o]) for route in routes)]
    if not usable:
        raise Conflict(
            detail=f"{ranges[SECOND_OCTETS[0]]} to {ranges[SECOND_OCTETS[-1]]} are all in use on this machine"
        )
    return (untouched or usable)[0]


def _ipv4_network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        return None


def next_hops(plan: LabPlan, site: str) -> dict[str, LinkPlan]:
    """For every other site that can be reached from `site`: the line on which the shortest path to it starts."""
    found: dict[str, LinkPlan] = {}
    frontier: list[tuple[str, LinkPlan | None]] = [(site, None)]
    while frontier:
        here, first = frontier.pop(0)
        for link in plan.links:
            if here not in (link.site_a, link.site_b):
                continue
            there = link.site_b if here == link.site_a else link.site_a
            if there != site and there not in found:
                found[there] = first or link
                frontier.append((there, found[there]))
    return found
