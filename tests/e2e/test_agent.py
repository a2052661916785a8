"""The node agent on real libvirtds: guests, errors with libvirt's codes, restarts, frozen guests, prepared targets."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from actors.calls.messages import Empty
from actors.errors import (
    BodyInvalid,
    Conflict,
    GuestBusy,
    GuestExists,
    GuestNotRunning,
    GuestRunning,
    GuestUnknown,
    HypervisorFailed,
    Incompatible,
    JobUnknown,
    NoRoom,
    NovaCronError,
    Refused,
)
from actors.hypervisor.messages import (
    Aim,
    CheckIncoming,
    CreateGuest,
    DiskSpec,
    FinishMove,
    GuestInfo,
    GuestName,
    Guests,
    GuestSpec,
    GuestXml,
    JobPaths,
    MoveJob,
    MoveStatus,
    NodeFacts,
    PrepareIncoming,
    PrepareOutgoing,
    StartMove,
    StopGuest,
)
from actors.keeper.files import read_order
from actors.lab.guests import GuestImages, Load, build, guest_spec
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.topology import default_topology
from api.cli.guest_spec import IMAGES
from tests.e2e.agent_host import AgentProcess
from tests.e2e.conftest import remove_lab
from tests.e2e.world import until

LAB = "agent"
A, B = "london-1", "paris-1"
BOOT_S, RESTART_S = 240.0, 60.0


@pytest.fixture(scope="module")
def hosts() -> Iterator[Lab]:
    """Two nodes with libvirtd alone."""
    remove_lab(LAB)
    lab = Lab.up(default_topology(LAB))
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="module")
def images() -> GuestImages:
    return build(IMAGES)


@pytest.fixture
def agents(hosts: Lab) -> Iterator[dict[str, AgentProcess]]:
    """An agent on each node; their guests are removed afterwards."""
    found = {name: AgentProcess(hosts, name) for name in (A, B)}
    yield found
    for name, agent in found.items():
        agent.kill()
        virsh(hosts, name, "list --name | xargs -rn1 virsh -c qemu:///system destroy")
        virsh(hosts, name, "list --all --name | xargs -rn1 virsh -c qemu:///system undefine")
        state_dir = hosts.node(name).state_dir / "lib-novacron"
        for left in (state_dir / "agent-jobs.json", state_dir / "images/g1-vdb.raw"):
            left.unlink(missing_ok=True)  # a deleted guest's disks stay, so that nobody loses data by a slip


def virsh(lab: Lab, node: str, command: str) -> str:
    return lab.run(node, ["sh", "-c", f"virsh -q -c qemu:///system {command}"])


def small(images: GuestImages, name: str = "g1", memory_mib: int = 160) -> GuestSpec:
    disk = DiskSpec(target="vdb", path="", format="raw", size_bytes=8 << 20)
    return guest_spec(
        name, "memory", memory_mib, Load(region_mib=16, per_s=200, bytes_each=64), 8, images, data_disk=disk
    )


def create(agent: AgentProcess, spec: GuestSpec, *, start: bool = True) -> GuestInfo:
    return agent.call("create_guest", CreateGuest(spec=spec, start=start), GuestInfo)


def state(agent: AgentProcess, name: str) -> str:
    found = {guest.name: guest.state for guest in agent.call("guests", Empty(), Guests).guests}
    return found.get(name, "absent")


def console(lab: Lab, node: str, name: str) -> Watch:
    return Watch(name, {node: lab.node(node).run_dir / "novacron" / "consoles" / f"{name}.log"}, node)


def test_life_of_a_guest(hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages) -> None:
    agent = agents[A]
    facts = agent.call("facts", Empty(), NodeFacts)
    assert (facts.state, facts.node, facts.site, facts.arch) == ("up", A, "london", "x86_64")
    assert facts.accelerator in {"kvm", "tcg"}
    assert facts.free_mib > 160 and "pc-q35-10.0" in facts.machine_types
    assert not any("keepalive" in warning for warning in facts.warnings)
    made = create(agent, small(images))
    assert (made.state, made.memory_mib, [d.moves for d in made.disks]) == ("running", 160, [False, True])
    assert console(hosts, A, "g1").until_ticks(20, BOOT_S).ok
    assert agent.call("facts", Empty(), NodeFacts).guests == 1
    with pytest.raises(GuestExists):
        create(agent, small(images))
    with pytest.raises(GuestRunning):
        agent.call("start_guest", GuestName(name="g1"), GuestInfo)
    with pytest.raises(GuestRunning):
        agent.call("delete_guest", GuestName(name="g1"), GuestInfo)
    assert agent.call("pause_guest", GuestName(name="g1"), GuestInfo).state == "paused"
    with pytest.raises(GuestNotRunning, match="paused"):
        agent.call("pause_guest", GuestName(name="g1"), GuestInfo)
    assert agent.call("resume_guest", GuestName(name="g1"), GuestInfo).state == "running"
    watch = console(hosts, A, "g1")
    assert watch.until_ticks(20, BOOT_S).ok
    stopped = agent.call("stop_guest", StopGuest(name="g1", grace_s=60.0), GuestInfo)
    assert stopped.state == "shut-off"
    watch.read()
    assert "nova poweroff" in Path(hosts.node(A).run_dir / "novacron/consoles/g1.log").read_text(), (
        "by its power button"
    )
    with pytest.raises(GuestNotRunning):
        agent.call("stop_guest", StopGuest(name="g1"), GuestInfo)
    assert agent.call("delete_guest", GuestName(name="g1"), GuestInfo).state == "absent"
    with pytest.raises(GuestUnknown):
        agent.call("start_guest", GuestName(name="g1"), GuestInfo)


def test_redis_guest_verifies_its_values(hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages) -> None:
    create(agents[A], guest_spec("kv", "redis", 256, Load(region_mib=8, per_s=200, bytes_each=512), 16, images))
    verdict = console(hosts, A, "kv").until_ticks(40, BOOT_S)
    assert verdict.ok and verdict.verified > 100


def test_libvirt_restart_and_absence_are_survived(
    hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages
) -> None:
    agent = agents[A]
    create(agent, small(images))
    [pid] = [int(line) for line in hosts.run(A, ["pgrep", "-x", "libvirtd"]).split()]
    hosts.run(A, ["kill", "-9", str(pid)])
    gone = until("degraded", lambda: _degraded(agent), RESTART_S)
    assert gone.warnings and "libvirt" in gone.warnings[0]
    hosts.restart_libvirtd(A)
    until("up again", lambda: agent.call("facts", Empty(), NodeFacts).state == "up", RESTART_S)
    assert state(agent, "g1") == "running", "the guest outlives libvirtd"
    assert agent.call("stop_guest", StopGuest(name="g1"), GuestInfo).state == "shut-off"


def _degraded(agent: AgentProcess) -> NodeFacts | None:
    facts = agent.call("facts", Empty(), NodeFacts)
    return facts if facts.state == "degraded" else None


def test_errors_carry_libvirts_code_and_leave_nothing(
    hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages
) -> None:
    spec = small(images)
    bad = GuestSpec(
        name="bad",
        xml="<domain type='qemu'><name>bad</name><memory>65536</memory><os><type>nonsense</type></os></domain>",
    )
    with pytest.raises(HypervisorFailed) as failed:
        create(agents[A], bad)
    assert int(failed.value.fields["libvirt_code"]) > 0
    assert failed.value.fields["node"] == A
    wrong = msgspec.structs.replace(spec, disks=[*spec.disks, DiskSpec(target="vdc", path="/nowhere/x", format="raw")])
    with pytest.raises(NovaCronError, match="/nowhere/x"):
        create(agents[A], wrong)
    unbootable = msgspec.structs.replace(spec, console="/run/no-such-folder/x.log")
    with pytest.raises(HypervisorFailed, match="no-such-folder"):
        create(agents[A], unbootable)
    assert state(agents[A], "g1") == state(agents[A], "bad") == "absent"
    assert not (hosts.node(A).state_dir / "lib-novacron/images/g1-vdb.raw").exists(), "the disk made for it is gone too"


@pytest.mark.parametrize(
    "xml",
    [
        "garbage",
        '<!DOCTYPE d [<!ENTITY a "b">]><domain><name>x</name><memory>1</memory></domain>',
        "<domain><name>other</name><memory>65536</memory></domain>",
        "<domain><name>x</name><memory>65536</memory><devices><emulator>/bin/sh</emulator></devices></domain>",
    ],
)
def test_hostile_xml_changes_nothing(agents: dict[str, AgentProcess], xml: str) -> None:
    with pytest.raises(BodyInvalid):
        create(agents[A], GuestSpec(name="x", xml=xml))
    assert agents[A].call("guests", Empty(), Guests).guests == []


def test_other_sites_reach_nothing_here(agents: dict[str, AgentProcess]) -> None:
    for method in ("guests", "facts", "delete_guest", "prepare_incoming"):
        with pytest.raises(Refused):
            agents[A].call(method, Empty(), Guests, peer=True)


def test_target_reserves_makes_and_takes_back(hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages) -> None:
    create(agents[A], small(images))
    guest = agents[A].call("guest_xml", GuestName(name="g1"), GuestXml)
    assert [disk.size_bytes > 0 for disk in guest.info.disks] == [True, True]
    target, folder = agents[B], hosts.node(B).state_dir / "lib-novacron/images"
    before = target.call("facts", Empty(), NodeFacts).free_mib
    target.call("check_incoming", CheckIncoming(info=guest.info, xml=guest.xml), Empty)
    ask = PrepareIncoming(job="j1", source=A, info=guest.info, xml=guest.xml)
    paths = target.call("prepare_incoming", ask, JobPaths)
    assert target.call("prepare_incoming", ask, JobPaths) == paths, "idempotent"
    assert (folder / "g1-vdb.raw").stat().st_size == 8 << 20
    assert target.call("facts", Empty(), NodeFacts).free_mib <= before - 100
    with pytest.raises(GuestExists):
        target.call("prepare_incoming", msgspec.structs.replace(ask, job="j2"), JobPaths)
    with pytest.raises(GuestExists):
        create(target, small(images))
    status = target.call("move_status", MoveJob(job="j1", guest="g1"), MoveStatus)
    assert (status.outcome, status.guest_state) == ("running", "absent")
    target.kill()
    agents[B] = target = AgentProcess(hosts, B)  # the promise survives the agent
    with pytest.raises(GuestExists):
        target.call("check_incoming", CheckIncoming(info=guest.info, xml=guest.xml), Empty)
    undo = FinishMove(job="j1", guest="g1", roll_back=True)
    target.call("finish_move", undo, Empty)
    target.call("finish_move", undo, Empty)
    assert not (folder / "g1-vdb.raw").exists()
    assert list((hosts.node(B).run_dir / "novacron/jobs").iterdir()) == []
    with pytest.raises(Conflict, match="j1 has ended"):
        target.call("prepare_incoming", ask, JobPaths)
    target.call("finish_move", msgspec.structs.replace(undo, job="j-late"), Empty)
    with pytest.raises(Conflict, match="j-late has ended"):
        target.call("prepare_incoming", msgspec.structs.replace(ask, job="j-late"), JobPaths)
    target.call("prepare_incoming", msgspec.structs.replace(ask, job="j-again"), JobPaths)
    target.call("finish_move", msgspec.structs.replace(undo, job="j-again"), Empty)


def test_target_tells_why_not(agents: dict[str, AgentProcess], images: GuestImages) -> None:
    create(agents[A], small(images))
    guest = agents[A].call("guest_xml", GuestName(name="g1"), GuestXml)

    def ask(old: str, new: str, **info: object) -> CheckIncoming:
        return CheckIncoming(info=msgspec.structs.replace(guest.info, **info), xml=guest.xml.replace(old, new))

    checks: list[tuple[CheckIncoming, type[Exception]]] = [
        (ask("pc-q35-10.0", "pc-q35-99.0", machine="pc-q35-99.0"), Incompatible),
        (ask("x86_64'", "s390x'"), Incompatible),
        (ask("", "", cpu_model="EPYC-Genoa-v9"), Incompatible),
        (ask("/kernel-", "/nokernel-"), Incompatible),
        (ask(">163840<", ">163840000000<", memory_mib=160000000), NoRoom),
        (ask("g1-vdb.raw", "g2-vdb.raw"), BodyInvalid),
        (ask("<domain", "<!DOCTYPE x><domain"), BodyInvalid),
    ]
    for request, error in checks:
        with pytest.raises(error):
            agents[B].call("check_incoming", request, Empty)
    with pytest.raises(GuestExists):
        agents[A].call("check_incoming", CheckIncoming(info=guest.info, xml=guest.xml), Empty)


def test_frozen_guest_refuses_and_thaws(hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages) -> None:
    agent = agents[A]
    create(agent, small(images))
    prepare = PrepareOutgoing(job="j-frozen", guest="g1", target=B)
    paths = agent.call("prepare_outgoing", prepare, JobPaths)
    assert agent.call("prepare_outgoing", prepare, JobPaths) == paths
    agent.kill()
    agents[A] = agent = AgentProcess(hosts, A)  # frozen still
    with pytest.raises(GuestBusy, match="j-frozen"):
        agent.call("prepare_outgoing", msgspec.structs.replace(prepare, job="j-other"), JobPaths)
    for method, request in (
        ("stop_guest", StopGuest(name="g1")),
        ("pause_guest", GuestName(name="g1")),
        ("delete_guest", GuestName(name="g1")),
    ):
        with pytest.raises(GuestBusy, match="j-frozen"):
            agent.call(method, request, GuestInfo)
    [info] = agent.call("guests", Empty(), Guests).guests
    assert info.job == "j-frozen"
    assert agent.call("move_status", MoveJob(job="j-frozen", guest="g1"), MoveStatus).outcome == "none"
    agent.call("abort_move", MoveJob(job="j-frozen", guest="g1"), Empty)
    agent.call("finish_move", FinishMove(job="j-frozen", guest="g1", roll_back=True, resume=True), Empty)
    assert agent.call("pause_guest", GuestName(name="g1"), GuestInfo).state == "paused"
    with pytest.raises(GuestNotRunning):
        agent.call("prepare_outgoing", msgspec.structs.replace(prepare, job="j-third"), JobPaths)
    with pytest.raises(JobUnknown):
        agent.call("start_move", StartMove(job="j-third", guest="g1", aim=Aim(pause_ms=100)), Empty)


def test_move_without_a_way_fails_with_the_guest_running(
    hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages
) -> None:
    agent = agents[A]
    create(agent, small(images))
    agent.call("prepare_outgoing", PrepareOutgoing(job="j-way", guest="g1", target=B), JobPaths)
    agent.call("start_move", StartMove(job="j-way", guest="g1", aim=Aim(pause_ms=100), copy_disks=["vdb"]), Empty)
    job = MoveJob(job="j-way", guest="g1")

    def ended() -> MoveStatus | None:
        status = agent.call("move_status", job, MoveStatus)
        return status if status.outcome != "running" else None

    status = until("the move's end", ended, RESTART_S)
    assert status is not None
    assert (status.outcome, status.guest_state) == ("failed", "running")
    assert "libvirt.sock" in status.reason and status.libvirt_code > 0
    agent.call("finish_move", FinishMove(job="j-way", guest="g1", roll_back=True, resume=True), Empty)
    ledger = json.loads((hosts.node(A).state_dir / "lib-novacron/agent-jobs.json").read_bytes())
    assert (ledger["jobs"], ledger["ended"][-1]) == ({}, "j-way")
    assert state(agent, "g1") == "running"


def test_a_node_that_is_stopped_gives_its_lease_back_once_no_guest_is_there(
    hosts: Lab, agents: dict[str, AgentProcess], images: GuestImages
) -> None:
    create(agents[A], small(images))
    agents[A].call("pause_guest", GuestName(name="g1"), GuestInfo)
    agents[A].call("retire", Empty(), Empty)
    order = read_order(hosts.node(A).state_dir / "lib-novacron")
    assert order is not None, "a guest that has memory here keeps the lease"
    agents[A].call("resume_guest", GuestName(name="g1"), GuestInfo)
    agents[A].call("stop_guest", StopGuest(name="g1"), GuestInfo)
    agents[A].call("retire", Empty(), Empty)
    assert read_order(hosts.node(A).state_dir / "lib-novacron") is None
    with pytest.raises(Conflict):
        agents[A].call("start_guest", GuestName(name="g1"), GuestInfo)
