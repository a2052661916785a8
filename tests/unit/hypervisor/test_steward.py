"""Guests of a node as the control state has them: granted before they start, resumed and withheld as it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.control.commands import (
    AdvanceMove,
    BeginMove,
    CommitMove,
    DefineGuest,
    FailOver,
    Override,
    StartGuest,
    StopGuest,
)
from actors.control.model import Run
from actors.control.ownership import risk_of
from actors.errors import Conflict, NoMajority, StateRefused
from actors.hypervisor import steward
from actors.hypervisor.epochs import Epochs
from actors.hypervisor.messages import GuestInfo
from actors.hypervisor.steward import Steward
from actors.keeper.engine import Note, Paused
from actors.keeper.files import write_note
from actors.migration.states import State
from tests.kits.agreed import Agreed

NODE, OTHER = "a", "b"
XML = "<domain/>"


class PlayedHost:
    """libvirt with guests by name and state."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.jobs: dict[str, str] = {}

    async def all(self) -> list[GuestInfo]:
        return [
            GuestInfo(
                name=name,
                uuid=name,
                node=NODE,
                site="s",
                state=state,
                memory_mib=1,
                vcpus=1,
                job=self.jobs.get(name, ""),
            )
            for name, state in self.states.items()
        ]

    async def definition(self, guest: str) -> str:
        return XML

    async def pause(self, guest: str) -> None:
        self.states[guest] = "paused"

    async def resume(self, guest: str) -> None:
        self.states[guest] = "running"


class Held:
    """A lease as the steward sees it."""

    def __init__(self) -> None:
        self.number, self.running = 1, True

    def may_run(self) -> bool:
        return self.running


class Node:
    """All of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states = Agreed(NODE, OTHER)
        for name in (NODE, OTHER):
            self.states.lease_for(name)
        self.host, self.lease = PlayedHost(), Held()
        self.lock = asyncio.Lock()
        self.steward = self.restarted()

    def restarted(self) -> Steward:
        self.epochs = Epochs(self.folder / "epochs.json")
        return Steward(
            self.states, self.lease, self.host, self.epochs, node=NODE, state_dir=self.folder, alone=self._alone
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self.lock:
            yield

    async def start(self, guest: str) -> None:
        await self.steward.grant(guest, XML)
        self.host.states[guest] = "running"

    def kept(self, *guests: str) -> None:
        """The keeper has paused these."""
        paused = [Paused(number=n, guest=guest, uuid=guest, lease=1) for n, guest in enumerate(guests, 1)]
        write_note(self.folder, Note(last=len(paused), paused=tuple(paused)))
        for guest in guests:
            self.host.states[guest] = "paused"

    def record(self, guest: str):
        return self.states.state.guests[guest]

    def decree(self, owner: str) -> None:
        """That `owner` runs nothing."""
        decree = Override(nodes=(owner,), risk=risk_of(self.states.state, (owner,)), reason="lost")
        self.states.must(decree, "operator:test")

    def fails_over(self, guest: str, to: str) -> None:
        """By an operator's decree."""
        owner = self.record(guest).node
        self.decree(owner)
        self.states.must(FailOver(guest=guest, to=to, epoch=self.record(guest).epoch), "operator:test")
        self.states.lease_for(owner)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_an_epoch_is_granted_and_written_down_before_the_start(node: Node) -> None:
    await node.steward.grant("g", XML)
    record = node.record("g")
    assert (record.run, record.node, record.definition) == (Run.RUNNING, NODE, XML)
    assert Epochs(node.folder / "epochs.json").of("g") == record.epoch > 0


async def test_a_start_that_came_to_nothing_is_taken_back(node: Node) -> None:
    await node.steward.grant("g", XML)
    node.host.states["g"] = "shut-off"
    await node.steward.settle(resume=True)
    assert node.record("g").run is Run.STOPPED
    assert node.epochs.of("g") == 0
    await node.start("g")
    assert node.record("g").run is Run.RUNNING


async def test_nothing_starts_without_a_majority_or_a_lease(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steward, "_LEASE_LOOKS", 2)
    node.states.away = True
    with pytest.raises(NoMajority):
        await node.steward.grant("g", XML)
    node.states.away, node.lease.running = False, False
    with pytest.raises(Conflict, match="no lease"):
        await node.steward.grant("g", XML)
    assert node.states.state.guests == {}


async def test_what_another_node_owns_does_not_start_here(node: Node) -> None:
    await node.start("g")
    node.fails_over("g", OTHER)
    with pytest.raises(Conflict, match=f"{OTHER} owns it"):
        await node.steward.grant("g", XML)


async def test_guests_that_were_there_before_are_taken_in(node: Node) -> None:
    node.host.states = {"runs": "running", "paused": "paused", "off": "shut-off", "Not_ours": "running"}
    await node.steward.settle(resume=True)
    assert {name: guest.run for name, guest in node.states.state.guests.items()} == {
        "runs": Run.RUNNING,
        "paused": Run.RUNNING,
    }
    assert node.host.states == {"runs": "running", "paused": "paused", "off": "shut-off", "Not_ours": "running"}
    assert node.epochs.of("runs") == node.record("runs").epoch


async def test_what_the_keeper_paused_runs_on_under_a_lease_and_nothing_else(node: Node) -> None:
    for guest in ("kept", "by-hand"):
        await node.start(guest)
    node.kept("kept", "Not_ours")
    node.host.states["by-hand"] = "paused"
    assert await node.steward.settle(resume=False) == 0
    assert node.host.states["kept"] == "paused"
    node.lease.running = False
    assert await node.steward.settle(resume=True) == 0
    assert node.host.states["kept"] == "paused"
    node.lease.running = True
    assert await node.steward.settle(resume=True) == 2
    assert node.host.states == {"kept": "running", "by-hand": "paused", "Not_ours": "running"}


async def test_a_guest_of_a_lost_node_is_owned_before_it_is_booted(node: Node) -> None:
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    record = await node.steward.record_of("g")
    with pytest.raises(StateRefused, match="lease has not ended"):
        await node.steward.take_over(record, "operator:test", "it burnt down")
    assert (node.record("g").node, node.epochs.of("g")) == (OTHER, 0)
    node.decree(OTHER)
    said = await node.steward.take_over(record, "operator:test", "it burnt down")
    assert "memory is lost" in said
    assert (node.record("g").node, node.record("g").run) == (NODE, Run.RUNNING)
    assert Epochs(node.folder / "epochs.json").of("g") == node.record("g").epoch > record.epoch
    entry = node.states.state.audit[-1]
    assert (entry.command, entry.by, "it burnt down" in entry.detail) == ("failover", "operator:test", True)


async def test_only_one_of_two_takes_it_over(node: Node) -> None:
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    record = await node.steward.record_of("g")
    node.decree(OTHER)
    await node.steward.take_over(record, "operator:test", "first")
    with pytest.raises(StateRefused, match="is at epoch"):
        await node.steward.take_over(record, "operator:test", "second, by what it read before")


async def test_a_stopped_guest_is_taken_over_by_a_start(node: Node) -> None:
    record = node.states.state.guests[_defined(node, "g")]
    assert "was stopped" in await node.steward.take_over(record, "operator:test", "its node is away")
    assert (node.record("g").node, node.epochs.of("g")) == (NODE, node.record("g").epoch)


async def test_a_node_without_a_lease_takes_nothing_over(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steward, "_LEASE_LOOKS", 2)
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    node.decree(OTHER)
    node.lease.running = False
    with pytest.raises(Conflict, match="no lease"):
        await node.steward.take_over(node.record("g"), "operator:test", "lost")
    assert node.record("g").node == OTHER


async def test_a_takeover_whose_boot_came_to_nothing_is_taken_back(node: Node) -> None:
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    node.decree(OTHER)
    await node.steward.take_over(node.record("g"), "operator:test", "lost")
    await node.steward.settle(resume=True)
    assert (node.record("g").run, node.epochs.of("g")) == (Run.STOPPED, 0)


async def test_an_old_node_that_comes_back_does_not_run_what_was_taken_over(node: Node) -> None:
    await node.start("g")
    node.kept("g")
    node.fails_over("g", OTHER)
    node.steward = node.restarted()
    node.lease.number = 2
    with pytest.raises(Conflict, match=f"{OTHER} owns it"):
        await node.steward.grant("g", XML)
    await node.steward.settle(resume=True)
    assert node.host.states["g"] == "paused"
    with pytest.raises(Conflict, match=f"{OTHER} owns it"):
        await node.steward.may_resume("g")
    node.host.states["g"] = "running"
    await node.steward.settle(resume=True)
    assert node.host.states["g"] == "paused", "by hand, past NovaCron"


async def test_an_earlier_owners_guest_stays_paused_and_says_why(node: Node) -> None:
    await node.start("g")
    node.kept("g")
    node.fails_over("g", OTHER)
    assert await node.steward.settle(resume=True) == 1
    assert node.host.states["g"] == "paused"
    assert f"{OTHER} owns it" in node.steward.withheld["g"]
    with pytest.raises(Conflict, match="owns it"):
        await node.steward.may_resume("g")
    del node.host.states["g"]
    await node.steward.settle(resume=True)
    assert node.steward.withheld == {}


async def test_an_earlier_owners_guest_that_runs_is_paused(node: Node) -> None:
    """After an override nobody had proven that it was paused: the old owner demotes itself (V15)."""
    await node.start("g")
    node.fails_over("g", OTHER)
    await node.steward.settle(resume=False)
    assert node.host.states["g"] == "paused"


async def test_what_is_of_before_does_not_run_on_when_the_guest_comes_back_by_failover(node: Node) -> None:
    await node.start("g")
    node.kept("g")
    node.fails_over("g", OTHER)
    node.fails_over("g", NODE)
    node.steward = node.restarted()
    assert node.record("g").node == NODE
    await node.steward.settle(resume=True)
    assert node.host.states["g"] == "paused"
    assert "stop it" in node.steward.withheld["g"]


async def test_a_guest_that_libvirt_moved_by_itself_is_taken_in_when_its_owner_has_let_go(node: Node) -> None:
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    epoch = node.record("g").epoch
    node.host.states["g"] = "running"
    await node.steward.settle(resume=True)
    assert node.host.states["g"] == "running"
    assert f"{OTHER} owns it" in node.steward.withheld["g"]
    node.states.must(StopGuest(guest="g", epoch=epoch), f"node:{OTHER}")
    await node.steward.settle(resume=True)
    assert (node.record("g").node, node.record("g").run) == (NODE, Run.RUNNING)
    await node.steward.settle(resume=True)
    assert node.steward.withheld == {}


async def test_a_guest_that_powers_off_is_told(node: Node) -> None:
    await node.start("g")
    await node.start("undefined")
    node.host.states["g"] = "shut-off"
    del node.host.states["undefined"]
    await node.steward.settle(resume=True)
    assert node.record("g").run is Run.STOPPED
    assert node.record("undefined").run is Run.STOPPED
    assert node.epochs.of("undefined") == 0


async def test_moves_are_left_alone(node: Node) -> None:
    await node.start("g")
    node.kept("g")
    epoch = node.record("g").epoch
    node.states.must(BeginMove(job="j", guest="g", target=OTHER, epoch=epoch), f"node:{NODE}")
    assert await node.steward.settle(resume=True) == 0, "whoever drives the move decides"
    assert node.host.states["g"] == "paused"
    for state in (State.PREPARE, State.PERFORM):
        node.states.must(AdvanceMove(job="j", state=state), f"node:{NODE}")
    node.host.jobs["g"] = "j"
    node.states.must(CommitMove(job="j"), f"node:{NODE}")
    assert await node.steward.settle(resume=True) == 0, "by this node's own record the move is not over"
    assert node.steward.withheld == {}


async def test_a_guest_that_arrived_is_written_down(node: Node) -> None:
    node.states.must(StartGuest(guest=_defined(node, "g"), node=OTHER, epoch=0), "operator:test")
    epoch = node.record("g").epoch
    node.states.must(BeginMove(job="j", guest="g", target=NODE, epoch=epoch), f"node:{OTHER}")
    for state in (State.PREPARE, State.PERFORM):
        node.states.must(AdvanceMove(job="j", state=state), f"node:{OTHER}")
    node.host.states["g"] = "running"
    await node.steward.settle(resume=True)
    assert (node.host.states["g"], node.epochs.of("g")) == ("running", 0)
    node.states.must(CommitMove(job="j"), f"node:{OTHER}")
    await node.steward.settle(resume=True)
    assert node.epochs.of("g") == node.record("g").epoch > epoch


async def test_stopping_and_deleting_are_told(node: Node) -> None:
    await node.start("g")
    node.host.states["g"] = "shut-off"
    await node.steward.stopped("g")
    assert node.record("g").run is Run.STOPPED
    await node.steward.removed("g")
    assert "g" not in node.states.state.guests
    node.states.away = True
    await node.steward.removed("g")


async def test_a_lease_that_ended_meanwhile_stops_what_was_read_under_it(node: Node) -> None:
    await node.start("g")
    node.kept("g")
    read = node.host.all

    async def ends() -> list[GuestInfo]:
        node.lease.number = 2
        return await read()

    node.host.all = ends
    assert await node.steward.settle(resume=True) == 0
    assert node.host.states["g"] == "paused"


async def test_a_guest_stopped_for_good_is_not_claimed_anew_with_its_old_memory(node: Node) -> None:
    await node.start("g")
    epoch = node.record("g").epoch
    node.states.must(StopGuest(guest="g", epoch=epoch), f"node:{NODE}")
    await node.steward.settle(resume=True)
    assert node.host.states["g"] == "paused"
    assert "stopped" in node.steward.withheld["g"]


def _defined(node: Node, guest: str) -> str:
    node.states.must(DefineGuest(guest=guest, definition=XML), "operator:test")
    return guest
