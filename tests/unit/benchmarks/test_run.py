"""A whole run on a pretended lab: who is asked what, in which order, and what the row's numbers come from."""

from collections.abc import Iterator
from functools import reduce
from operator import xor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import msgspec
import pytest

from actors.errors import Failed, GuestUnknown
from actors.hypervisor.messages import GuestSpec
from actors.lab.lab import Lab
from actors.lab.line import Change, LineState, Way
from actors.lab.plan import make_plan
from actors.lab.topology import Shape, default_topology
from actors.migration.messages import CreateGuestAnywhere, JobView, MoveRequest
from api.cli.client import Client
from benchmarks.moving import guest as guests
from benchmarks.moving import probe, run
from benchmarks.moving.loads import LOADS, StoreState
from benchmarks.moving.plan import Task
from benchmarks.moving.rivals import Tuning
from benchmarks.moving.run import Bench
from benchmarks.moving.switchover import Seen

_CHECKS = 400


def line(body: str) -> bytes:
    """A line of the guest's workload, with its check."""
    whole = f"nova {body}".encode()
    return whole + b" *%02x\n" % reduce(xor, whole, 0)


class World:
    """Two nodes, a line and at most one guest, which prints ten seconds of ticks whenever it is looked for."""

    def __init__(self, folder: Path) -> None:
        self.plan = make_plan(default_topology("t"), "0" * 32, 77, "wanlink", folder / "state", folder / "run")
        for node in self.plan.nodes:
            node.run_dir.mkdir(parents=True)
        self.said: list[str] = []
        self.changes: list[Change] = []
        self.carried = 0
        self.guest = ""
        self.node = ""
        self.ticks = 0
        self.growing = 3
        self.outcome = "completed"
        self.corrupt = False

    # -- the lab --

    def node_plan(self, name: str) -> Any:
        return next(node for node in self.plan.nodes if node.name == name)

    def change(self, change: Change) -> None:
        self.changes.append(change)

    def state(self) -> LineState:
        way = Way(
            rate_bps=0, delay_us=0, jitter_us=0, loss_ppm=0, queue_bytes=0, state="pass", queued_bytes=0, in_packets=0,
            in_bytes=0, out_packets=0, out_bytes=self.carried, lost_packets=0, queue_drops=0, hole_drops=0, cut_drops=0,
        )  # fmt: skip
        return LineState(ab=way, ba=msgspec.structs.replace(way, out_bytes=7))

    # -- the API --

    def create_guest(self, request: CreateGuestAnywhere) -> None:
        self.said.append(f"create {request.spec.name} on {request.node}")
        self.guest, self.node = request.spec.name, request.node
        self.print(line(f"ready cached_mib=32 checks={_CHECKS}"))

    def submit(self, request: MoveRequest) -> JobView:
        self.said.append(f"move {request.guest} to {request.to}")
        self.tick()
        self.carried += 1000
        if self.outcome == "completed":
            self.node = request.to
        return JobView(
            id="j", guest=request.guest, source="london-1", target=request.to, state=self.outcome, created_at=0.0,
            ended_at=1e12, message="the link fell",
        )  # fmt: skip

    def guest_info(self, name: str) -> Any:
        if name != self.guest:
            raise GuestUnknown(guest=name)
        return SimpleNamespace(node=self.node)

    def act(self, name: str, action: str) -> None:
        self.said.append(f"{action} {name}")

    def delete_guest(self, name: str) -> None:
        self.said.append(f"delete {name}")
        self.guest = ""

    def store(self, node: str) -> Any:
        self.growing = max(0, self.growing - 1)
        return SimpleNamespace(node=node, blocks=self.growing)

    def clear_store(self, node: str) -> None:
        self.said.append(f"clear {node} at {self.growing}")

    # -- the guest --

    def print(self, text: bytes) -> None:
        with (self.node_plan(self.node).run_dir / f"{self.guest}.log").open("ab") as file:
            file.write(text)

    def tick(self) -> None:
        word = "CORRUPT" if self.corrupt else "OK"
        for _ in range(guests.DATING_TICKS):
            at = self.ticks * 50_000_000
            edge = at // 1_000_000_000
            self.print(line(f"t {self.ticks} {at} {at} {edge} {edge * 1_000_000_000} 1 {self.ticks * 4} {word}"))
            self.ticks += 1


class Events:
    """Stands for `probe.Monitor`: moves of half a second's pause, from whichever node to the other."""

    def __init__(self, _: object) -> None:
        return None

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def of(self, _: str, since: float) -> list[Seen]:
        nodes = ("london-1", "paris-1")
        stops = [Seen(node=node, event="STOP", at=since + 9.0) for node in nodes]
        return [*stops, *(Seen(node=node, event="RESUME", at=since + 9.5) for node in nodes)]


class Hypervisor:
    """A libvirtd whose guest moves to the other node when it is told to."""

    def __init__(self, world: World) -> None:
        self._world = world

    def lookupByName(self, _: str) -> "Hypervisor":
        return self

    def jobStats(self, _: int = 0) -> dict[str, int]:
        return {"memory_iteration": 5, "downtime": 512}

    def migrateSetMaxDowntime(self, _: int) -> None:
        return None

    def migrateToURI3(self, uri: str, params: dict[str, Any], _: int) -> None:
        target = next(node for node in self._world.plan.nodes if node.address in uri)
        self._world.said.append(f"{params['parallel.connections']} channels to {target.name}")
        self._world.tick()
        self._world.node = target.name


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(probe, "connect", lambda *_: Hypervisor(made))
    monkeypatch.setattr(probe, "Monitor", Events)
    monkeypatch.setattr(run, "SETTLED_POLL_S", 0.0)
    # Whenever the bench waits, the guest goes on.
    monkeypatch.setattr(guests, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: made.tick()))
    yield made


LIGHT = LOADS[0]


def task(system: str = "novacron", store: StoreState | Literal[""] = "image", run: int = 1) -> Task:
    """A move under the light load."""
    return Task(load=LIGHT, system=system, store=store, run=run)


def bench_of(world: World) -> Bench:
    """A bench in that world."""
    lab = SimpleNamespace(plan=world.plan, node=world.node_plan, link=lambda _: world)
    api = cast(
        Client,
        SimpleNamespace(
            create_guest=world.create_guest, submit=world.submit, guest=world.guest_info, act=world.act,
            delete_guest=world.delete_guest, clear_store=world.clear_store,
            store=world.store,
        ),
    )  # fmt: skip
    return Bench(
        cast(Lab, lab), Shape(), lambda name, _: GuestSpec(name=name), {"london-1": api, "paris-1": api},
        ("london-1", "paris-1"), "london-paris", 600.0, lambda _: None,
    )  # fmt: skip


def test_a_move(world: World) -> None:
    measured, judged = bench_of(world).measure(task(), Tuning())
    assert world.said == [
        "clear london-1 at 0",
        "clear paris-1 at 0",
        "create bench-novacron-1 on london-1",
        "move bench-novacron-1 to paris-1",
        "stop bench-novacron-1",
        "delete bench-novacron-1",
    ]
    assert (measured.failure, measured.rounds, measured.pause_libvirt_ms) == ("", 5, 512)
    assert (round(measured.pause_ms or 0), round(measured.running_s or 0, 3)) == (500, 9.5)
    assert (measured.wire_bytes, measured.wire_bytes_back) == (1000, 0)
    assert [change.rate_bps for change in world.changes] == [100_000_000]
    assert judged.ok, judged.problems
    assert judged.checks >= _CHECKS
    assert judged.pause_ms == 0.0
    assert not list(world.node_plan("london-1").run_dir.iterdir())


def test_a_move_that_fails_is_a_row_and_the_guest_is_judged_where_it_stayed(world: World) -> None:
    world.outcome = "failed"
    measured, judged = bench_of(world).measure(task(), Tuning())
    assert (measured.total_s, measured.pause_ms, measured.failure) == (None, None, "the link fell")
    assert judged.ok, judged.problems
    assert world.said[-1] == "delete bench-novacron-1"


def test_a_corrupt_guest_is_told(world: World) -> None:
    world.corrupt = True
    _, judged = bench_of(world).measure(task(), Tuning())
    assert not judged.ok
    assert "CORRUPT" in judged.problems[0]


def test_a_guest_that_cannot_be_made_leaves_its_own_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: CreateGuestAnywhere) -> None:
        raise GuestUnknown(guest="the first error")

    monkeypatch.setattr(world, "create_guest", refuse)
    with pytest.raises(GuestUnknown, match="the first error"):
        bench_of(world).measure(task(), Tuning())


def test_tuning_moves_one_guest_to_and_fro(world: World) -> None:
    plans = [Tuning(channels=2, zstd_level=1), Tuning(channels=4, zstd_level=1), Tuning(channels=8, zstd_level=1)]
    tried = bench_of(world).tune("qemu-multifd-zstd", LIGHT, lambda so_far: dict(enumerate(plans)).get(len(so_far)))
    assert [tuning for tuning, _ in tried] == plans
    assert all(not measured.failure for _, measured in tried)
    assert world.said[1:4] == ["2 channels to paris-1", "4 channels to london-1", "8 channels to paris-1"]


def test_a_visited_target_has_had_the_guest_before(world: World) -> None:
    measured, judged = bench_of(world).measure(task(store="visited"), Tuning())
    moves = [said for said in world.said if said.startswith("move")]
    assert moves == [f"move bench-novacron-1 to {node}" for node in ("paris-1", "london-1", "paris-1")]
    assert world.said.index("clear paris-1 at 0") < world.said.index(moves[0])
    assert measured.wire_bytes == 1000
    assert judged.ok, judged.problems


def test_a_visit_that_fails_ends_the_measurement(world: World) -> None:
    world.outcome = "failed"
    with pytest.raises(Failed, match="could not visit the target: the link fell"):
        bench_of(world).measure(task(store="visited"), Tuning())
    assert world.said[-1] == "delete bench-novacron-1"


def test_pauses_are_of_one_guest_to_and_fro(world: World) -> None:
    moves, judged = bench_of(world).pauses(task(), 5, float("inf"))
    assert [round(move.pause_ms or 0) for move in moves] == [500] * 5
    assert [said.split()[-1] for said in world.said if said.startswith("move")] == [
        "paris-1", "london-1", "paris-1", "london-1", "paris-1",
    ]  # fmt: skip
    assert judged.ok, judged.problems


def test_pauses_end_with_the_first_move_that_fails(world: World) -> None:
    world.outcome = "failed"
    moves, _ = bench_of(world).pauses(task(), 5, float("inf"))
    assert [move.failure for move in moves] == ["the link fell"]


def test_rivals_leave_the_stores_alone(world: World) -> None:
    bench_of(world).measure(task("qemu-multifd", ""), Tuning(channels=2))
    assert not [said for said in world.said if said.startswith("clear")]
