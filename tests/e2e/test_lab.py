"""The lab itself: namespaces, libvirtds, and that `down` removes exactly what `up` made, whenever `up` was killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from actors.errors import Conflict, Failed, NotFound
from actors.lab.lab import Lab
from actors.lab.processes import processes_of
from actors.lab.topology import LabSite, LabTopology, Link, default_topology
from tests.e2e.conftest import remove_lab
from tests.e2e.traces import traces_of

STEPS = ["files and directories", "namespaces", "network", "libvirt on every node"]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name for a lab of this test's own; whatever the test leaves of it is removed."""
    name = "trial"
    remove_lab(name)
    yield name
    remove_lab(name)


def until(condition: Callable[[], bool], what: str, deadline_s: float = 30.0) -> None:
    """Wait for `condition`."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"


def test_nodes_have_libvirtds_and_file_systems_of_their_own(name: str) -> None:
    lab = Lab.up(default_topology(name))
    uuids = set()
    for node in lab.plan.nodes:
        connection = libvirt.open(node.libvirt_uri)
        uuids.add(connection.getCapabilities().partition("<uuid>")[2].partition("</uuid>")[0])
        assert connection.getHostname() == node.name
        connection.close()
        lab.run(node.name, ["sh", "-c", f"echo {node.name} > /var/lib/novacron/mine; ls /run/libvirt/libvirt-sock"])
    assert uuids == {node.host_uuid for node in lab.plan.nodes}
    assert len(uuids) == 2
    for node in lab.plan.nodes:
        assert lab.run(node.name, ["cat", "/var/lib/novacron/mine"]).strip() == node.name
        assert (node.state_dir / "lib-novacron" / "mine").read_text().strip() == node.name
    # One node's processes and programs see nothing of the other's, but reach its libvirtd over the WAN.
    names = lab.run("london-1", ["sh", "-c", "cat /proc/[0-9]*/comm"]).split()
    assert (names.count("tini"), names.count("libvirtd")) == (1, 1)
    paris = lab.node("paris-1").address
    seen = lab.run("london-1", ["virsh", "-c", f"qemu+tcp://{paris}/system", "hostname"])
    assert seen.strip() == "paris-1"


def test_down_leaves_nothing_and_up_twice_is_refused(name: str) -> None:
    lab = Lab.up(default_topology(name))
    assert traces_of(lab.plan) != []
    with pytest.raises(Conflict, match="there already"):
        Lab.up(default_topology(name))
    assert Lab.load(name).down() > 0
    assert traces_of(lab.plan) == []
    with pytest.raises(NotFound):
        Lab.load(name)


@pytest.mark.parametrize("step", STEPS)
def test_down_removes_a_lab_whose_up_was_killed(name: str, step: str) -> None:
    code = (
        "from actors.lab.lab import Lab; from actors.lab.topology import default_topology\n"
        f"Lab.up(default_topology({name!r}), progress=lambda step: print(step, flush=True))"
    )
    building = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert building.stdout is not None
    assert step in (line.strip() for line in building.stdout)
    building.kill()
    building.wait()
    building.stdout.close()
    lab = Lab.load(name)
    lab.down()
    assert traces_of(lab.plan) == []
    Lab.up(default_topology(name)).down()


def test_labs_stand_side_by_side(name: str) -> None:
    first, second = Lab.up(default_topology(name)), None
    try:
        second = Lab.up(default_topology(f"{name}-2"))
        assert first.node("paris-1").address != second.node("paris-1").address
        second.down()
        # The second lab's going takes nothing from the first, mount points least of all.
        assert first.run("paris-1", ["hostname"]).strip() == "paris-1"
        assert first.node("paris-1").host_uuid in first.run("paris-1", ["cat", "/etc/libvirt/libvirtd.conf"])
        assert first.status().nodes[1].libvirt == ""
    finally:
        if second is not None:
            remove_lab(f"{name}-2")


def test_status_tells_what_died_and_libvirtd_can_be_started_again(name: str) -> None:
    lab = Lab.up(default_topology(name))
    pid = int((lab.node("london-1").run_dir / "lab" / "libvirtd.pid").read_text())
    lab.run("london-1", ["kill", "-9", str(pid)])
    until(lambda: lab.status().nodes[0].libvirt != "", "status names the dead libvirtd")
    assert lab.status().nodes[1].libvirt == ""
    lab.restart_libvirtd("london-1")
    assert lab.status().nodes[0].libvirt == ""
    (first,) = [p.pid for p in processes_of(lab.plan.id) if p.holder == "node-paris-1" and p.inner_pid == 1]
    os.kill(first, signal.SIGKILL)
    until(lambda: not lab.status().nodes[1].running, "status names the dead node")
    (link,) = [p.pid for p in processes_of(lab.plan.id) if p.holder.startswith("link-")]
    os.kill(link, signal.SIGKILL)
    until(lambda: lab.status().links[0].line is None, "status names the dead line")
    assert not lab.status().healthy


def test_programs_that_fail_say_why(name: str) -> None:
    lab = Lab.up(LabTopology(name=name, sites=[LabSite(name="only")]))
    with pytest.raises(Failed, match="no such place"):
        lab.run("only-1", ["sh", "-c", "echo no such place >&2; exit 3"])
    assert lab.run("only-1", ["cat"], stdin="given\n") == "given\n"


def test_sites_reach_each_other_over_a_third_one(name: str) -> None:
    sites = [LabSite(name="a", nodes=2), LabSite(name="b"), LabSite(name="c")]
    links = [Link(between=("a", "b"), rtt_ms=10), Link(between=("b", "c"), rtt_ms=10)]
    lab = Lab.up(LabTopology(name=name, sites=sites, links=links))
    lab.run("a-2", ["busybox", "ping", "-c", "1", "-W", "5", "c-1"])
    assert lab.link("a-b").state().ab.out_packets >= 1
    assert lab.link("b-c").state().ab.out_packets >= 1
    lab.run("a-2", ["busybox", "ping", "-c", "1", "-W", "5", "a-1"])


def test_without_root_the_message_says_what_is_needed() -> None:
    code = (
        "import os; os.setuid(65534)\n"
        "from actors.errors import SetupMissing\n"
        "from actors.lab.requirements import check_machine\n"
        "try: check_machine()\n"
        "except SetupMissing as error: print(error)"
    )
    here = Path(__file__).parents[2]
    # The modules are loaded first: an unprivileged process may not be allowed to read this checkout.
    loaded = f"import sys; sys.path.insert(0, {str(here)!r}); import actors.lab.requirements; {code}"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    assert said.startswith("This needs root")
