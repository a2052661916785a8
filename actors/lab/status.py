"""What of a lab is alive and healthy, asked anew each time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from actors.errors import NovaCronError
from actors.lab import libvirtd, services
from actors.lab.line import Line, LineState
from actors.lab.plan import LabPlan, LinkPlan, NodePlan
from actors.lab.processes import Found, processes_of


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `libvirt` and `novacron` are empty when all is well, else they say what is wrong.

    `witness`: it has neither libvirt nor Ray nor an API, and is to have none.
    """

    name: str
    site: str
    address: str
    leads: bool
    witness: bool
    running: bool
    processes: int
    libvirt: str
    ray: bool
    novacron: str
    api_url: str
    libvirt_uri: str


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `line` is None when its emulator does not answer; `problem` then says why."""

    name: str
    site_a: str
    site_b: str
    line: LineState | None
    problem: str


class LabStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab. `api_token_file` and the nodes' `api_url` and `libvirt_uri` are for clients on this machine."""

    name: str
    emulator: str
    state_dir: str
    api_token_file: str
    nodes: list[NodeStatus]
    links: list[LinkStatus]

    @property
    def healthy(self) -> bool:
        """True when every node is up with all its services and every line's emulator answers."""
        nodes = all(node.running and not node.libvirt and not node.novacron for node in self.nodes)
        ray = all(node.ray for node in self.nodes if not node.witness)
        return nodes and ray and all(link.line is not None for link in self.links)


def lab_status(plan: LabPlan, line_of: Callable[[LinkPlan], Line]) -> LabStatus:
    """Ask every node and line of `plan` how it is."""
    processes = list(processes_of(plan.id))
    with ThreadPoolExecutor(len(plan.nodes)) as pool:
        nodes = list(pool.map(lambda node: _node(node, processes), plan.nodes))
    return LabStatus(
        name=plan.name,
        emulator=plan.emulator,
        state_dir=str(plan.state_dir),
        api_token_file=str(plan.api_token_file),
        nodes=nodes,
        links=[_link(link, line_of(link)) for link in plan.links],
    )


def _node(node: NodePlan, processes: list[Found]) -> NodeStatus:
    own = [process for process in processes if process.holder == node.holder]
    running = any(process.inner_pid == 1 for process in own)
    problem = None if node.witness else libvirtd.problem(node) if running else "the node is not running"
    return NodeStatus(
        name=node.name,
        site=node.site,
        address=node.address,
        leads=node.leads,
        witness=node.witness,
        running=running,
        processes=len(own),
        libvirt=problem or "",
        ray=services.ray_runs(node, own),
        novacron=(services.novacron_problem(node) or "") if running else "the node is not running",
        api_url=node.api_url if node.leads and not node.witness else "",
        libvirt_uri="" if node.witness else node.libvirt_uri,
    )


def _link(link: LinkPlan, line: Line) -> LinkStatus:
    try:
        state, problem = line.state(), ""
    except NovaCronError as error:
        state, problem = None, str(error)
    return LinkStatus(name=link.name, site_a=link.site_a, site_b=link.site_b, line=state, problem=problem)
