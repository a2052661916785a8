"""What placement is asked about, as its models take it: nodes with their guests, and a guest's hard rules."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from actors.hypervisor.messages import GuestInfo, NodeFacts
from actors.placement.messages import Neighbour
from models.placement.cluster import Cluster, Guest, Node, Request
from models.placement.hard_rules import HardRule, first_broken, rule_of, wording

WITH_MEMORY = frozenset({"running", "paused", "incoming"})
DRAINING = "draining"


def drained(nodes: Iterable[NodeFacts], draining: Collection[str]) -> list[NodeFacts]:
    """The same, with the state `DRAINING` where a node that is up takes no guests."""
    return [replace(node, state=DRAINING) if node.node in draining and node.state == "up" else node for node in nodes]


def neighbours(guests: Iterable[GuestInfo]) -> list[Neighbour]:
    """Every guest where it is; one under a move is at both ends."""
    return [
        Neighbour(
            name=guest.name,
            node=guest.node,
            vcpus=guest.vcpus if guest.state in WITH_MEMORY else 0,
            tenant=guest.attributes.tenant,
            groups=guest.attributes.together + guest.attributes.apart,
        )
        for guest in guests
    ]


def nodes_of(facts: Iterable[NodeFacts], guests: Iterable[Neighbour]) -> list[Node]:
    """The nodes with their guests."""
    here: defaultdict[str, list[Neighbour]] = defaultdict(list)
    for guest in guests:
        here[guest.node].append(guest)
    return [
        Node(
            name=one.node,
            site=one.site,
            state=one.state,
            cpus=one.cpus,
            free_mib=one.free_mib,
            vcpus_in_use=sum(guest.vcpus for guest in here[one.node]),
            machines=frozenset(one.machine_types),
            guests=_guests(here[one.node]),
            memory_mib=one.memory_mib,
        )
        for one in facts
    ]


def objection(
    guest: GuestInfo,
    to: str,
    site_of: Mapping[str, str],
    guests: Iterable[Neighbour],
    *,
    draining: Collection[str] = (),
    parted: Collection[str] = (),
) -> tuple[HardRule, str] | None:
    """The rule of its attributes that keeps `guest` from node `to`, and why; None where none does.

    `site_of`: every node's site. `parted`: groups from whose other guests it may be apart.
    """
    here: defaultdict[str, list[Neighbour]] = defaultdict(list)
    for one in guests:
        here[one.node].append(one)
    nodes = [
        Node(name, site, DRAINING if name in draining else "up", cpus=0, free_mib=0, guests=_guests(here[name]))
        for name, site in site_of.items()
    ]
    wanted = guest.attributes
    request = Request(
        guest.name,
        memory_mib=0,
        vcpus=0,
        sites=frozenset(wanted.sites),
        together=frozenset(wanted.together).difference(parted),
        apart=frozenset(wanted.apart),
    )
    cluster = Cluster(nodes)
    broken = first_broken(cluster, request)
    row = cluster.names.index(to)
    code = int(broken[row])
    return None if code < 0 else (rule_of(code), wording(code, cluster, request)(cluster.nodes[row]))


def _guests(here: Iterable[Neighbour]) -> tuple[Guest, ...]:
    return tuple(Guest(one.name, one.tenant, frozenset(one.groups)) for one in here)
