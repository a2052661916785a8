"""Builds, inspects and removes a lab on this machine."""

import fcntl
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from actors.errors import Conflict, LinkUnknown, NodeUnknown, NotFound, SetupMissing
from actors.lab import hostfiles, libvirtd, network, wanlink
from actors.lab.journal import Entry, Journal
from actors.lab.line import Change, LineState
from actors.lab.namespace import detached, inside, marked_environment, popen, run, start_holders
from actors.lab.plan import RUN_ROOT, STATE_ROOT, LabPlan, LinkPlan, NodePlan, choose_second_octet, decode_plan, encode_plan, make_plan
from actors.lab.processes import end_all, holders_of
from actors.lab.topology import LabTopology, default_topology

Progress = Callable[[str], None]
_TOOLS = ("ip", "nsenter", "unshare", "setsid", "tini", "mount", "libvirtd", "qemu-system-x86_64")
_STEP_S = 60.0
_END_S = 30.0


def _quiet(_message: str) -> None:
    return None


class Lab:
    """One lab that is up, or half up.

    Args:
        plan: what it consists of, as `up` wrote it down.
    """

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        self._journal = Journal(plan.state_dir / "journal.jsonl")
        self._holders: dict[str, int] = {}

    @classmethod
    def load(cls, name: str = "default", state_root: Path = STATE_ROOT) -> Self:
        """The lab called `name`, as an earlier `up` of this or another process left it.

        Raises:
            NotFound: there is no such lab on this machine.
        """
        file = state_root / name / "plan.json"
        if not file.exists():
            raise NotFound(what=f"lab {name!r} on this machine")
        return cls(decode_plan(file.read_bytes()))

    @classmethod
    def up(
        cls,
        topology: LabTopology | None = None,
        progress: Progress = _quiet,
        state_root: Path = STATE_ROOT,
        run_root: Path = RUN_ROOT,
    ) -> Self:
        """Build a lab; returns when every node's services answer.

        Raises:
            SetupMissing: not root, or a tool is not installed.
            Conflict: a lab of that name is there already, up or in pieces.
        """
        check_setup()
        topology = topology or default_topology()
        with _locked(state_root):
            if (state_root / topology.name).exists():
                raise Conflict(detail=f"lab {topology.name!r} is there already; `novacron lab down` removes it")
            plan = make_plan(topology, uuid.uuid4().hex, choose_second_octet(_prefixes_in_use()), state_root, run_root)
            # From here on `down` finds everything: the plan with the lab's id is on disk before anything else is made.
            _make_state_dir(plan)
            lab = cls(plan)
            lab._build(progress)
        return lab

    def _build(self, progress: Progress) -> None:
        plan = self.plan
        progress("directories")
        self._make_directories()
        progress("namespaces")
        names = [router.holder for router in plan.routers] + [node.holder for node in plan.nodes]
        self._holders = start_holders(plan.id, names, _STEP_S)
        progress("network")
        self._build_network()
        progress("libvirt")
        with ThreadPoolExecutor(len(plan.nodes)) as pool:
            list(pool.map(self._start_node, plan.nodes))

    def _make_directories(self) -> None:
        plan = self.plan
        self._journal.record(Entry(kind="run-dir", name=str(plan.run_dir)))
        plan.run_dir.mkdir(parents=True, mode=0o755)
        for target in hostfiles.PRIVATE_DIRECTORIES.values():
            for missing in [p for p in reversed([target, *target.parents]) if not p.exists()]:
                self._journal.record(Entry(kind="mount-point", name=str(missing)))
                missing.mkdir(mode=0o755)
        for node in plan.nodes:
            node.run_dir.mkdir(mode=0o755)
            for name in hostfiles.PRIVATE_DIRECTORIES:
                (node.state_dir / name).mkdir(parents=True, mode=0o755)
            (node.state_dir / "log").mkdir()
            (node.state_dir / "hosts").write_text(hostfiles.hosts_file(plan))
            (node.state_dir / "etc-libvirt" / "libvirtd.conf").write_text(hostfiles.libvirtd_conf(node))
            (node.state_dir / "etc-libvirt" / "qemu.conf").write_text(hostfiles.qemu_conf())

    def _build_network(self) -> None:
        plan = self.plan
        for router in plan.routers:
            pid = self._holders[router.holder]
            self._ip(pid, network.router_lines(router, plan.nodes_of(router.site), self._holders))
            self._journal.record(Entry(kind="interface", name=router.host_interface))
            self._ip(None, network.host_lines(router, pid))
            self._ip(pid, network.management_lines(router))
            self._ip(None, network.host_route_lines(router))
            forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
            run(inside(pid, forward, net_only=True), marked_environment(plan.id, ""), _STEP_S)
        for node in plan.nodes:
            self._ip(self._holders[node.holder], network.node_lines(node, plan.router(node.site)))
        self._build_lines()

    def _build_lines(self) -> None:
        plan = self.plan
        program = wanlink.build(plan.state_dir)
        for link in plan.links:
            pid_a, pid_b = (self._holders[plan.router(site).holder] for site in (link.site_a, link.site_b))
            argv = wanlink.command(program, pid_a, pid_b, link.device, link.control)
            detached(argv, marked_environment(plan.id, f"link-{link.name}"), plan.state_dir / f"{link.device}.log")
            wanlink.wait_ready(link.control, _STEP_S)
            self.link(link.name).change(_initial(link))
            self._ip(pid_a, network.line_end_lines(link, link.site_a))
            self._ip(pid_b, network.line_end_lines(link, link.site_b))
        for router in plan.routers:
            self._ip(self._holders[router.holder], network.wan_route_lines(plan, router.site))

    def _start_node(self, node: NodePlan) -> None:
        environment = marked_environment(self.plan.id, node.holder)
        script = ["sh", "-c", hostfiles.mount_script(node)]
        run(inside(self._holder(node.holder), script), environment, _STEP_S)
        self.start(node.name, "libvirtd", libvirtd.COMMAND)
        libvirtd.wait_ready(node, _STEP_S)

    def start(self, node: str, process: str, argv: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Start a long-running program inside `node`; its log is ``log/PROCESS.log`` in the node's state directory."""
        plan = self.node(node)
        # The number is the one inside the node; `exec` keeps it.
        note = f'mkdir -p /run/lab; echo $$ > /run/lab/{process}.pid; exec "$@"'
        detached(
            inside(self._holder(plan.holder), ["setsid", "--fork", "sh", "-c", note, process, *argv]),
            marked_environment(self.plan.id, plan.holder, extra),
            plan.state_dir / "log" / f"{process}.log",
        )

    def node(self, name: str) -> NodePlan:
        """The node called `name`."""
        found = next((node for node in self.plan.nodes if node.name == name), None)
        if found is None:
            raise NodeUnknown(node=name)
        return found

    def link(self, name: str) -> wanlink.WanLink:
        """The WAN line called `name`."""
        found = next((link for link in self.plan.links if link.name == name), None)
        if found is None:
            raise LinkUnknown(link=name)
        return wanlink.WanLink(found.control)

    def run(self, node: str, argv: Sequence[str], deadline_s: float = _STEP_S, stdin: str = "") -> str:
        """Run a program to its end inside `node` and return its standard output; raises `Failed` if it fails."""
        plan = self.node(node)
        return run(
            inside(self._holder(plan.holder), argv), marked_environment(self.plan.id, plan.holder), deadline_s, stdin
        )

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program inside `node` as this process's child; `options` are `subprocess.Popen`'s."""
        plan = self.node(node)
        return popen(
            inside(self._holder(plan.holder), argv), marked_environment(self.plan.id, plan.holder), **options
        )

    def down(self) -> int:
        """Remove everything that `up` made, whatever state it is in; returns how many processes were ended."""
        plan = self.plan
        with _locked(plan.state_dir.parent):
            ended = end_all(plan.id, _END_S)
            for entry in reversed(self._journal.entries()):
                _undo(entry)
            shutil.rmtree(plan.state_dir)
        return ended

    def _holder(self, name: str) -> int:
        if name not in self._holders:
            self._holders = holders_of(self.plan.id)
        if name not in self._holders:
            raise Conflict(detail=f"{name} of lab {self.plan.name!r} is not running")
        return self._holders[name]

    def _ip(self, pid: int | None, lines: list[str]) -> None:
        if not lines:
            return
        argv = ["ip", "-batch", "-"]
        command = argv if pid is None else inside(pid, argv, net_only=True)
        run(command, marked_environment(self.plan.id, ""), _STEP_S, "\n".join(lines) + "\n")


def _initial(link: LinkPlan) -> Change:
    return Change(
        rate_bps=link.rate_bps, delay_us=link.delay_us, jitter_us=link.jitter_us, loss_ppm=link.loss_ppm,
        queue_bytes=link.queue_bytes,
    )  # fmt: skip


def _undo(entry: Entry) -> None:
    if entry.kind == "interface":
        subprocess.run(["ip", "link", "delete", entry.name], capture_output=True, check=False, timeout=_STEP_S)
    elif entry.kind == "run-dir":
        shutil.rmtree(entry.name, ignore_errors=True)
    else:
        try:
            Path(entry.name).rmdir()
        except OSError:
            return  # somebody else uses it by now, or it was never made


def check_setup() -> None:
    """Raise `SetupMissing` unless this process may and can build a lab."""
    if os.geteuid() != 0:
        raise SetupMissing(what="root, for network namespaces and mounts")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise SetupMissing(what=f"these programs: {', '.join(missing)}")
    if not Path("/dev/net/tun").exists():
        raise SetupMissing(what="/dev/net/tun")


def _prefixes_in_use() -> list[str]:
    argv = ["ip", "-json", "route", "show", "table", "all"]
    routes = msgspec.json.decode(run(argv, os.environ, _STEP_S).encode(), type=list[dict[str, Any]])
    return [str(route.get("dst", "")) for route in routes]


def _make_state_dir(plan: LabPlan) -> None:
    """Make the state directory with the plan in it, both or neither, also on a machine that crashes."""
    fresh = plan.state_dir.with_name(f".{plan.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    with (fresh / "plan.json").open("wb") as out:
        out.write(encode_plan(plan))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(plan.state_dir)


@contextmanager
def _locked(state_root: Path) -> Iterator[None]:
    state_root.mkdir(parents=True, exist_ok=True)
    with (state_root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(detail="another `novacron lab up` or `down` is at work on this machine") from error
        yield
