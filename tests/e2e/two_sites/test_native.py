"""Moves over a link in mode datacenter: QEMU's own parallel streams through the same sessions, without the codec."""

from collections.abc import Iterator

import pytest

from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.line import Change
from actors.transport.messages import SteerLink
from api.cli.client import Client
from api.cli.target import Target
from tests.e2e.world import TICKS_S, World, until

HERE, THERE = "london-1", "paris-1"
_LINK = "london-paris"
_LAN = Change(rate_bps=1_000_000_000, delay_us=200)
_SLOW = Change(rate_bps=12_000_000, delay_us=200)


@pytest.fixture
def world(lab: Lab) -> Iterator[World]:
    """The lab with its link forced to be a datacenter's, for either direction; as measured again afterwards."""
    world = World(lab)
    there = lab.node(THERE)
    ends = [(world.api, HERE, THERE)]
    ends.append((Client(Target(url=f"http://{there.address}:8443", token=world.token)), THERE, HERE))
    for api, node, peer in ends:
        api.steer_link(node, SteerLink(peer=peer, mode="datacenter"))
    yield world
    for api, node, peer in ends:
        api.steer_link(node, SteerLink(peer=peer, mode="auto"))


@pytest.fixture
def guest(world: World) -> Iterator[tuple[str, Watch]]:
    """A running guest on london-1, removed afterwards."""
    watch = world.guest("g-native", HERE)
    yield "g-native", watch
    world.remove("g-native")


def _sound(watch: Watch, node: str) -> None:
    watch.arrived(node)
    verdict = watch.until_ticks(40, TICKS_S)
    assert verdict.ok, verdict.problems


def test_there_and_back(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.lab.link(_LINK).change(_LAN)
    for source, target in ((HERE, THERE), (THERE, HERE)):
        job = world.wait(world.start_move(name, target).id)
        assert (job.state, job.path, job.owner) == ("completed", "native", target), job
        assert "datacenter, forced" in job.path_reason
        assert job.progress.layers == {}
        assert job.progress.wire_bytes == job.progress.stream_bytes > 1 << 20
        parts = (job.pause.last_pages_ms, job.pause.device_state_ms, job.pause.round_trips_ms, job.pause.resume_ms)
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(job.pause_ms)
        _sound(watch, target)
        assert world.running_on(name) == [target]
        assert not world.has_domain(source, name)


def test_cancel_on_the_way_leaves_it_running_and_a_second_try_arrives(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    assert world.wait_copying(job.id).path == "native"
    limit_ms, bandwidth = world.qemu_limits(HERE, name)
    assert limit_ms * bandwidth / 1000 < 4096, "it may not stop before the rest fits"
    world.api.cancel(job.id)
    assert world.wait(job.id).state == "cancelled"
    assert world.running_on(name) == [HERE]
    assert not world.has_domain(THERE, name)
    for node in world.lab.plan.nodes:
        folder = node.run_dir / "novacron" / "jobs" / job.id
        until(f"{folder} removed", lambda folder=folder: not folder.exists(), 60.0)
    world.lab.link(_LINK).change(_LAN)
    again = world.wait(world.start_move(name, THERE).id)
    assert (again.state, again.path) == ("completed", "native"), again
    _sound(watch, THERE)


def test_a_broken_connection_is_waited_out(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    world.wait_copying(job.id)
    world.kill_stream(HERE)
    world.lab.link(_LINK).change(_LAN)
    ended = world.wait(job.id)
    assert (ended.state, ended.path) == ("completed", "native"), ended
    _sound(watch, THERE)
    assert world.running_on(name) == [THERE]
