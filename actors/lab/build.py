"""Builds what a plan describes, step by step; what lies outside the lab's own directories is journaled first."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from actors.lab import hostfiles, libvirtd, network, services, wanlink
from actors.lab.journal import Entry, Journal
from actors.lab.line import Change, Line
from actors.lab.namespace import Namespaces, detached
from actors.lab.netem import NetemLine
from actors.lab.plan import LabPlan, LinkPlan, NodePlan

Progress = Callable[[str], None]
Depth = Literal["hosts", "libvirt", "ray", "novacron"]
_STEP_S = 60.0


class Builder:
    """One `up` at work.

    Args:
        journal: of this lab, see `actors.lab.traces`; what labs share has been made already.
        depth: how much is started on the nodes: nothing, libvirtd, also Ray, or also NovaCron.
        progress: called with the name of each step as it begins, from any thread.
    """

    def __init__(
        self, plan: LabPlan, journal: Journal, namespaces: Namespaces, depth: Depth, progress: Progress
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._namespaces = namespaces
        self._depth = depth
        self._progress = progress

    def build(self) -> None:
        """Build everything; returns when every service answers."""
        plan = self._plan
        self._progress("files and directories")
        self._make_directories()
        services.write_credentials(plan)
        self._progress("namespaces")
        holders = [router.holder for router in plan.routers] + [node.holder for node in plan.nodes]
        self._namespaces.start(holders, _STEP_S)
        self._progress("network")
        self._build_network()
        self._build_lines()
        self._on_each(plan.nodes, self._mount)
        if self._depth == "hosts":
            return
        self._progress("libvirt on every node")
        self._on_each(plan.hosts, self._start_libvirtd)
        if self._depth == "libvirt":
            return
        self._progress("one Ray cluster per site")
        self._on_each([node for node in plan.hosts if node.leads], self._start_ray)
        self._on_each([node for node in plan.hosts if not node.leads], self._start_ray)
        if self._depth == "ray":
            return
        self._progress("NovaCron on every node")
        self._on_each([node for node in plan.nodes if node.witness], self._start_witness)
        self._on_each(plan.hosts, self._start_novacron)

    def _on_each(self, nodes: list[NodePlan], step: Callable[[NodePlan], None]) -> None:
        # All these programs share this machine's cores: more at once would only run into their deadlines together.
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
            list(pool.map(step, nodes))

    def _make_directories(self) -> None:
        plan = self._plan
        plan.run_dir.mkdir(mode=0o755)
        for node in plan.nodes:
            node.run_dir.mkdir(mode=0o755)
            (node.state_dir / "log").mkdir(parents=True)
            for name in hostfiles.PRIVATE_DIRECTORIES:
                (node.state_dir / name).mkdir(mode=0o755)
            (node.state_dir / "hosts").write_text(hostfiles.hosts_file(plan))
            (node.state_dir / "etc-libvirt" / "libvirtd.conf").write_text(hostfiles.libvirtd_conf(node))
            (node.state_dir / "etc-libvirt" / "qemu.conf").write_text(hostfiles.qemu_conf())

    def _build_network(self) -> None:
        plan, namespaces = self._plan, self._namespaces
        node_pids = {node.holder: namespaces.pid(node.holder) for node in plan.nodes}
        for router in plan.routers:
            namespaces.ip(router.holder, network.router_lines(router, plan.nodes_of(router.site), node_pids))
            self._journal.record(Entry(kind="interface", name=router.host_interface))
            namespaces.ip(None, network.host_lines(router, namespaces.pid(router.holder)))
            namespaces.ip(router.holder, network.management_lines(router))
            namespaces.ip(None, network.host_route_lines(router))
            namespaces.run(router.holder, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        for node in plan.nodes:
            namespaces.ip(node.holder, network.node_lines(node, plan.router(node.site)))

    def _build_lines(self) -> None:
        plan, namespaces = self._plan, self._namespaces
        program = (
            wanlink.build(plan.state_dir, namespaces.environment(""))
            if plan.emulator == "wanlink" and plan.links
            else None
        )
        for link in plan.links:
            router_a, router_b = plan.router(link.site_a).holder, plan.router(link.site_b).holder
            pid_a, pid_b = namespaces.pid(router_a), namespaces.pid(router_b)
            if program is not None:
                argv = wanlink.command(program, pid_a, pid_b, link.device, link.control)
                log = plan.state_dir / f"{link.device}.log"
                detached(argv, namespaces.environment(f"link-{link.name}"), log)
                wanlink.wait_ready(link.control, _STEP_S)
            else:
                namespaces.ip(router_a, network.veth_line_lines(link, pid_b))
            line_of(plan, link, namespaces).change(planned_change(link))
            namespaces.ip(router_a, network.line_end_lines(link, link.site_a))
            namespaces.ip(router_b, network.line_end_lines(link, link.site_b))
        for router in plan.routers:
            namespaces.ip(router.holder, network.wan_route_lines(plan, router.site))

    def _mount(self, node: NodePlan) -> None:
        self._namespaces.run(node.holder, ["sh", "-c", hostfiles.mount_script(node)])

    def _start_libvirtd(self, node: NodePlan) -> None:
        libvirtd.start(self._namespaces, node)
        libvirtd.wait_ready(node, _STEP_S)

    def _start_novacron(self, node: NodePlan) -> None:
        services.start_novacron(self._namespaces, node)

    def _start_witness(self, node: NodePlan) -> None:
        services.start_witness(self._namespaces, node)

    def _start_ray(self, node: NodePlan) -> None:
        services.start_ray(self._plan, self._namespaces, node)


def line_of(plan: LabPlan, link: LinkPlan, namespaces: Namespaces) -> Line:
    """The running line of `link`."""
    if plan.emulator == "wanlink":
        return wanlink.WanLink(link.control)
    return NetemLine(link, lambda site, argv: namespaces.run(plan.router(site).holder, argv))


def planned_change(link: LinkPlan) -> Change:
    """The change that brings a line (back) to what the topology says, and up."""
    return Change(
        rate_bps=link.rate_bps, delay_us=link.delay_us, jitter_us=link.jitter_us, loss_ppm=link.loss_ppm,
        queue_bytes=link.queue_bytes, state="pass",
    )  # fmt: skip
