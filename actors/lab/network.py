"""Pure: the `ip -batch` lines that build the lab's network, per namespace.

::

    this machine ── nv…m1 ──┐                          ┌── nv…m2 ── this machine     (management)
                          router-london ═ wan0 ═ router-paris
                            br0                        br0
                        eth0 │ │ eth0              eth0 │
                      london-1 london-2              paris-1

All of it lives in network namespaces that end with their holders; only the `nv…` interfaces are this machine's own, and
they vanish with the router's end of the pair.
"""

from actors.lab.plan import LabPlan, LinkPlan, NodePlan, RouterPlan, next_hops


def router_lines(router: RouterPlan, nodes: list[NodePlan], node_pids: dict[str, int]) -> list[str]:
    """In the router's namespace: the bridge and a cable to each node, its far end in the node's namespace."""
    lines = [
        "link set lo up",
        "link add br0 type bridge",
        f"addr add {router.gateway}/24 dev br0",
        "link set br0 up",
    ]
    for node in nodes:
        lines.append(f"link add n{node.number} type veth peer name eth0 netns {node_pids[node.holder]}")
        lines.append(f"link set n{node.number} master br0 up")
    return lines


def node_lines(node: NodePlan, router: RouterPlan) -> list[str]:
    """In the node's namespace: its address and the way out."""
    return [
        "link set lo up",
        f"addr add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {router.gateway}",
    ]


def host_lines(router: RouterPlan, router_pid: int) -> list[str]:
    """On this machine: the management cable to the router. `ip` must run these after the journal has the interface."""
    return [
        f"link add {router.host_interface} type veth peer name mgmt netns {router_pid}",
        f"addr add {router.host_address}/30 dev {router.host_interface}",
        f"link set {router.host_interface} up",
    ]


def management_lines(router: RouterPlan) -> list[str]:
    """In the router's namespace: its end of the management cable."""
    return [f"addr add {router.router_address}/30 dev mgmt", "link set mgmt up"]


def host_route_lines(router: RouterPlan) -> list[str]:
    """On this machine, once the far end is up: the way to the site's nodes."""
    return [f"route add {router.subnet} via {router.router_address}"]


def veth_line_lines(link: LinkPlan, far_pid: int) -> list[str]:
    """In the router's namespace of `site_a`, for netem: the cable whose ends the kernel then slows down."""
    return [f"link add {link.device} type veth peer name {link.device} netns {far_pid}"]


def line_end_lines(link: LinkPlan, site: str) -> list[str]:
    """In the router's namespace of `site`: bring its end of the WAN line up."""
    own, far = (link.address_a, link.address_b) if site == link.site_a else (link.address_b, link.address_a)
    return [
        # The queue is the emulator's business; the device's own must never be the one that overflows.
        f"link set {link.device} txqueuelen 10000",
        f"addr add {own} peer {far} dev {link.device}",
        f"link set {link.device} up",
    ]


def wan_route_lines(plan: LabPlan, site: str) -> list[str]:
    """In the router's namespace of `site`: the ways to every other site."""
    lines = []
    for there, link in next_hops(plan, site).items():
        far = link.address_b if site == link.site_a else link.address_a
        lines.append(f"route add {plan.router(there).subnet} via {far} dev {link.device}")
        lines += [f"route add {end}/32 via {far} dev {link.device}" for end in _line_ends(plan, there, link)]
    return lines


def _line_ends(plan: LabPlan, there: str, reached_by: LinkPlan) -> list[str]:
    """Addresses of the lines' ends at `there`, so that messages from that router can be answered."""
    ends = {
        link.address_a if there == link.site_a else link.address_b
        for link in plan.links
        if there in (link.site_a, link.site_b) and link is not reached_by
    }
    return sorted(ends)
