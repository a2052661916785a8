"""The keeper on a real libvirtd: guests are paused when the lease runs out, though nothing else of NovaCron runs."""

import signal
import sys
from collections.abc import Iterator

import pytest

from actors.hypervisor.messages import CreateGuest, GuestInfo, GuestName
from actors.keeper.engine import Order
from actors.keeper.files import LOCK_FILE, boot_id, now_ms, read_note, write_order
from actors.lab.guests import Load, build, guest_spec
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.topology import default_topology
from actors.locks import holder, signal_holder
from api.cli.guest_spec import IMAGES
from tests.e2e.agent_host import AgentProcess
from tests.e2e.conftest import remove_lab
from tests.e2e.world import until

LAB, NODE = "keeper", "london-1"
BOOT_S, LOOK_S = 240.0, 30.0
# As the node's process does it.
_START = """
from pathlib import Path
from actors.config.load import load
from actors.keeper.start import ensure
ensure(load(Path("/etc/novacron/node.yaml"), {}), 30.0)
"""


@pytest.fixture
def hosts() -> Iterator[Lab]:
    """Two nodes with libvirtd alone."""
    remove_lab(LAB)
    lab = Lab.up(default_topology(LAB))
    try:
        yield lab
    finally:
        lab.down()


def test_guests_pause_at_the_deadline_with_everything_else_killed(hosts: Lab) -> None:
    node = hosts.node(NODE)
    state_dir, lock = node.state_dir / "lib-novacron", node.run_dir / "novacron" / LOCK_FILE
    agent = AgentProcess(hosts, NODE)
    for name in ("g1", "by-hand"):
        spec = guest_spec(name, "memory", 160, Load(region_mib=16, per_s=200, bytes_each=64), 8, build(IMAGES))
        agent.call("create_guest", CreateGuest(spec=spec), GuestInfo)
    watch = Watch("g1", {NODE: node.run_dir / "novacron" / "consoles" / "g1.log"}, NODE)
    assert watch.until_ticks(20, BOOT_S).ok
    agent.call("pause_guest", GuestName(name="by-hand"), GuestInfo)
    write_order(state_dir, Order(boot=boot_id(), lease=1, pause_at_ms=now_ms() + 600_000))
    hosts.run(NODE, [sys.executable, "-c", _START])
    agent.kill()
    assert watch.until_ticks(20, LOOK_S).ok, "the lease lasts, and so do its guests"

    deadline_ms = now_ms() + 500
    write_order(state_dir, Order(boot=boot_id(), lease=1, pause_at_ms=deadline_ms))
    until("the guest to be paused", lambda: _state(hosts, "g1") == "paused", LOOK_S)
    assert now_ms() >= deadline_ms
    assert [paused.guest for paused in read_note(state_dir).paused] == ["g1"], "what an operator paused is not noted"

    # Started by hand after the deadline, and with a keeper that was killed as well and came back.
    assert signal_holder(lock, signal.SIGKILL)
    until("the end of the keeper", lambda: holder(lock) is None, LOOK_S)
    _virsh(hosts, "resume g1")
    _virsh(hosts, "resume by-hand")
    hosts.run(NODE, [sys.executable, "-c", _START])
    until("all to be paused", lambda: {_state(hosts, "g1"), _state(hosts, "by-hand")} == {"paused"}, LOOK_S)
    until("the note", lambda: [p.guest for p in read_note(state_dir).paused] == ["g1", "by-hand"], LOOK_S)

    write_order(state_dir, Order(boot=boot_id(), lease=2, pause_at_ms=now_ms() + 600_000, answered=2))
    until("the note to be struck", lambda: not read_note(state_dir).paused, LOOK_S)
    assert _state(hosts, "g1") == "paused", "the keeper resumes nobody"
    _virsh(hosts, "resume g1")
    assert watch.until_ticks(20, LOOK_S).ok
    write_order(state_dir, None)
    until("the keeper's own end", lambda: holder(lock) is None, LOOK_S)


def _virsh(lab: Lab, command: str) -> str:
    return lab.run(NODE, ["sh", "-c", f"virsh -q -c qemu:///system {command}"]).strip()


def _state(lab: Lab, guest: str) -> str:
    return _virsh(lab, f"domstate {guest}")
