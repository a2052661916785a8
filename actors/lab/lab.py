"""A lab on this machine: `up`, `status`, `link` and `down`."""

import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec

from actors.errors import Conflict, LinkUnknown, NodeUnknown, NotFound
from actors.lab import libvirtd, services
from actors.lab.build import Builder, Depth, Progress, line_of, planned_change
from actors.lab.line import Change, Line, LineState
from actors.lab.namespace import Namespaces, run
from actors.lab.plan import STATE_ROOT, LabPlan, NodePlan, choose_second_octet, decode_plan, make_plan
from actors.lab.processes import end_all
from actors.lab.requirements import check_machine, choose_emulator
from actors.lab.services import NODE_ENVIRONMENT, check_programs
from actors.lab.status import LabStatus, lab_status
from actors.lab.topology import LabTopology, default_topology, read_topology
from actors.lab.traces import (
    exclusive,
    lab_journal,
    make_shared_directories,
    make_state_dir,
    owned,
    ranges_of_labs,
    remove_lab,
)

_STEP_S = 60.0
_END_S = 30.0


def _quiet(_step: str) -> None:
    return None


class Lab:
    """One lab that is up, or was once on its way up.

    Args:
        plan: what it consists of, as `up` wrote it down.
    """

    def __init__(self, plan: LabPlan) -> None:
        self.plan = plan
        self._namespaces = Namespaces(plan.id, NODE_ENVIRONMENT)

    @classmethod
    def load(cls, name: str = "default") -> Self:
        """The lab called `name`, as an earlier `up` of this or another process left it.

        Raises:
            NotFound: there is no such lab on this machine.
        """
        file = STATE_ROOT / name / "plan.json"
        if not file.exists():
            raise NotFound(what=f"lab {name!r} on this machine")
        return cls(decode_plan(file.read_bytes()))

    @classmethod
    def up(cls, topology: LabTopology | None = None, progress: Progress = _quiet, depth: Depth = "libvirt") -> Self:
        """Build a lab; returns when every service up to `depth` answers on every node.

        A failure leaves what was made so far in place, with its logs; `down` removes it.

        Raises:
            SetupMissing: not root, or something is not installed.
            Conflict: a lab of that name is there already, up or in pieces.
        """
        check_machine()
        if depth in ("ray", "novacron"):
            check_programs()
        topology = topology or default_topology()
        with ExitStack() as ours:
            with exclusive(STATE_ROOT):
                if (STATE_ROOT / topology.name).exists():
                    raise Conflict(detail=f"lab {topology.name!r} is there already; `novacron lab down` removes it")
                octet = choose_second_octet(_prefixes_in_use() + ranges_of_labs(STATE_ROOT))
                plan = make_plan(topology, uuid.uuid4().hex, octet, choose_emulator(topology.emulator))
                # From here on `down` finds everything: the lab's id is on disk before anything else is made.
                ours.callback(os.close, make_state_dir(plan))
                make_shared_directories(plan)
            lab = cls(plan)
            Builder(plan, lab_journal(plan), lab._namespaces, depth, progress).build()
        return lab

    def down(self) -> int:
        """Remove everything that `up` made, whatever state it is in; returns how many processes were ended.

        Raises:
            Conflict: an `up` or `down` is at work on this lab.
        """
        with owned(self.plan):
            ended = end_all(self.plan.id, _END_S)
            remove_lab(self.plan)
        return ended

    def status(self) -> LabStatus:
        """What is alive and healthy."""
        return lab_status(self.plan, lambda link: line_of(self.plan, link, self._namespaces))

    def node(self, name: str) -> NodePlan:
        """The node called `name`; raises `NodeUnknown`."""
        found = next((node for node in self.plan.nodes if node.name == name), None)
        if found is None:
            raise NodeUnknown(node=name)
        return found

    def link(self, name: str) -> Line:
        """The WAN line called `name`; raises `LinkUnknown`."""
        found = next((link for link in self.plan.links if link.name == name), None)
        if found is None:
            raise LinkUnknown(link=name)
        return line_of(self.plan, found, self._namespaces)

    def restore_links(self) -> None:
        """Bring every line back to what the topology says."""
        for link in self.plan.links:
            line_of(self.plan, link, self._namespaces).change(planned_change(link))

    def run(self, node: str, argv: Sequence[str], deadline_s: float = _STEP_S, stdin: str = "") -> str:
        """Run a program to its end on `node` and return its standard output; raises `Failed` if it fails."""
        return self._namespaces.run(self.node(node).holder, argv, deadline_s, stdin)

    def popen(self, node: str, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a program on `node` as this process's child; `options` are `subprocess.Popen`'s."""
        return self._namespaces.popen(self.node(node).holder, argv, **options)

    def start(self, node: str, name: str, argv: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """Start a long-running program on `node`; its log is ``log/NAME.log`` in the node's state directory."""
        plan = self.node(node)
        self._namespaces.daemon(plan.holder, name, argv, plan.state_dir / "log" / f"{name}.log", extra)

    def start_witness(self, node: str) -> None:
        """Start the witness of `node` again after it was ended, and wait until it serves its port."""
        services.start_witness(self._namespaces, self.node(node))

    def witness_pid(self, node: str) -> str:
        """Number, inside `node`, of the process that is its witness, or was until it was ended."""
        return (self.node(node).run_dir / "lab" / f"{services.WITNESS}.pid").read_text().strip()

    def restart_libvirtd(self, node: str) -> None:
        """Start the libvirtd of `node` again after it was ended, and wait until it answers."""
        plan = self.node(node)
        libvirtd.start(self._namespaces, plan)
        libvirtd.wait_ready(plan, _STEP_S)


def up(file: Path | None = None, progress: Progress = _quiet) -> LabStatus:
    """Build the lab of a topology file, or the default one of two sites, with NovaCron running on every node."""
    topology = read_topology(file) if file else default_topology()
    return Lab.up(topology, progress, "novacron").status()


def status(name: str = "default") -> LabStatus:
    """What of the lab is alive and healthy; raises `NotFound` if there is none."""
    return Lab.load(name).status()


def down(name: str = "default") -> int:
    """Remove the lab, up or in pieces; returns how many processes were ended; raises `NotFound` if there is none."""
    if STATE_ROOT.exists():
        with exclusive(STATE_ROOT):
            pass  # an earlier `down` that was killed at its very end has left nothing but this to do
    return Lab.load(name).down()


def link(name: str, change: Change, lab: str = "default") -> LineState:
    """Change the behaviour of a line while it runs, and return how it then behaves, with its counters."""
    line = Lab.load(lab).link(name)
    line.change(change)
    return line.state()


def _prefixes_in_use() -> list[str]:
    shown = run(["ip", "-json", "route", "show", "table", "all"], _STEP_S)
    return [str(route.get("dst", "")) for route in msgspec.json.decode(shown, type=list[dict[str, Any]])]
