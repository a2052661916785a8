"""The conductor over a made-up QEMU, encoder and target."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from actors.encoding.messages import CodecStats
from actors.errors import HypervisorFailed, LinkDown, NotFound
from actors.hypervisor import conductor, qmp
from actors.hypervisor.conductor import Conductors
from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.engine.switchover import FLOOR, Limit
from actors.hypervisor.messages import Aim, Sent
from actors.hypervisor.threads import Threads
from tests.unit.hypervisor.saw_tooth import MIB

MOVE = JobRecord(job="m-1", guest="web", role="outgoing", peer="paris-1")
AIM = Aim(pause_ms=300, fixed_ms=100, link_bytes_per_s=1e6)
LAST = qmp.RamLeft(remaining=1000, dirty_sync_count=2)


class World:
    """A node's libvirt, QEMU, encoder, and the target's word; `fault` breaks the monitor, `word_fault` the word."""

    def __init__(self) -> None:
        self.migration = qmp.Migration(status="active", ram=qmp.RamLeft(remaining=100 * MIB, dirty_sync_count=1))
        self.told: list[Limit] = []
        self.fault: Exception | None = None
        self.word_fault: Exception | None = None
        self.raise_fault: Exception | None = None
        self.got = 10 * MIB
        self.here: list[bool] = []
        self.there: list[bool] = []
        self.link = asyncio.Event()
        self.link.set()

    def domain(self, name: str, what: Callable[[Any], Any]) -> Any:
        assert name == "web"
        if self.fault is not None:
            raise self.fault
        return what(self)

    async def sent(self, move: JobRecord) -> Sent:
        assert move is MOVE
        return Sent(stream_bytes=10 * MIB, page_bytes=10 * MIB, wire_bytes=MIB)

    async def delivered(self, move: JobRecord) -> CodecStats:
        assert move is MOVE
        if self.word_fault is not None:
            raise self.word_fault
        return CodecStats(job=move.job, state="running", stream_bytes=self.got, wire_bytes=self.got // 10)

    async def raise_here(self, move: JobRecord, *, raised: bool) -> None:
        assert move is MOVE
        self.here.append(raised)

    async def raise_there(self, move: JobRecord, *, raised: bool) -> None:
        assert move is MOVE
        self.there.append(raised)
        await self.link.wait()
        if self.raise_fault is not None:
            raise self.raise_fault

    @property
    def raised(self) -> bool:
        return bool(self.told) and self.told[-1].raised


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(qmp, "query_migration", lambda domain: domain.migration)
    monkeypatch.setattr(qmp, "set_limit", lambda domain, limit: domain.told.append(limit))
    for pause in ("LOOK_S", "FAR_LOOK_S", "RETRY_S"):
        monkeypatch.setattr(conductor, pause, 0.001)
    return World()


async def conducted(world: World, until: Callable[[], bool]) -> Conductors:
    conductors = Conductors(world, Threads(), world)  # type: ignore[arg-type]  # the parts that are used
    conductors.steer(MOVE, AIM)
    await true(until)
    return conductors


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.002)


async def test_floor_first_then_raised_once_it_fits(world: World) -> None:
    conductors = await conducted(world, lambda: len(world.told) > 0)
    assert world.told[0] == FLOOR
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    await true(lambda: world.raised)
    seen = conductors.seen("m-1")
    assert seen is not None and seen.raised and seen.predicted_ms >= 100
    conductors.end("m-1")
    assert conductors.seen("m-1") is None


async def test_what_is_on_its_way_keeps_it_down(world: World) -> None:
    world.got = 0
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    conductors = await conducted(world, lambda: len(world.told) > 0)
    assert not world.raised
    world.got = 10 * MIB
    await true(lambda: world.raised)
    conductors.end("m-1")


@pytest.mark.parametrize("fault", [NotFound(what="method target_codec"), TypeError("a fault of ours")])
async def test_a_target_that_can_not_tell_keeps_no_guest(world: World, fault: Exception) -> None:
    world.word_fault = fault
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    conductors = await conducted(world, lambda: world.raised)
    conductors.end("m-1")


async def test_while_the_link_is_down_the_guest_runs_on(world: World) -> None:
    world.word_fault = LinkDown(node="london-1", peer="paris-1", reason="cut")
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    conductors = await conducted(world, lambda: len(world.told) > 0)
    assert not world.raised
    world.word_fault = None
    await true(lambda: world.raised)
    conductors.end("m-1")


async def test_after_a_fault_of_the_monitor_qemu_is_told_anew(world: World) -> None:
    conductors = await conducted(world, lambda: len(world.told) > 0)
    world.fault = HypervisorFailed(node="london-1", message="timed out", libvirt_code=0)
    world.told.clear()
    world.fault = None
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    await true(lambda: world.raised)
    conductors.end("m-1")


async def test_an_earlier_migration_of_the_guest_is_not_this_one(world: World) -> None:
    world.migration = qmp.Migration(status="cancelled")
    conductors = await conducted(world, lambda: True)
    world.migration = qmp.Migration(status="active", ram=LAST)
    await true(lambda: world.raised)
    conductors.end("m-1")


async def test_while_qemu_may_stop_it_the_job_goes_first_at_both_ends(world: World) -> None:
    conductors = await conducted(world, lambda: len(world.told) > 0)
    assert (world.here, world.there) == ([], [])
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    await true(lambda: world.here == [True] and world.there == [True])
    more = qmp.RamLeft(remaining=100 * MIB, dirty_sync_count=3)
    world.migration = msgspec.structs.replace(world.migration, ram=more)
    await true(lambda: world.here == [True, False] and world.there == [True, False])
    conductors.end("m-1")


async def test_a_guest_that_stops_at_the_floor_goes_first_too(world: World) -> None:
    conductors = await conducted(world, lambda: len(world.told) > 0)
    world.migration = qmp.Migration(status="device")
    await true(lambda: world.here == [True] and world.there == [True])
    conductors.end("m-1")


async def test_nothing_waits_for_the_target_to_raise_the_job(world: World) -> None:
    world.link.clear()
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    conductors = await conducted(world, lambda: world.raised and world.there == [True])
    world.migration = msgspec.structs.replace(world.migration, ram=qmp.RamLeft(remaining=100 * MIB, dirty_sync_count=3))
    await true(lambda: not world.raised and world.here == [True, False])
    assert world.there == [True], "one call at a time"
    world.link.set()
    await true(lambda: world.there == [True, False])
    conductors.end("m-1")


@pytest.mark.parametrize("fault", [NotFound(what="method raise_target"), TypeError("a fault of ours")])
async def test_a_job_that_can_not_be_raised_moves_all_the_same(world: World, fault: Exception) -> None:
    world.raise_fault = fault
    world.migration = msgspec.structs.replace(world.migration, ram=LAST)
    conductors = await conducted(world, lambda: world.raised and world.there == [True])
    more = qmp.RamLeft(remaining=100 * MIB, dirty_sync_count=3)
    world.migration = msgspec.structs.replace(world.migration, ram=more)
    await true(lambda: world.there == [True, False])
    conductors.end("m-1")
