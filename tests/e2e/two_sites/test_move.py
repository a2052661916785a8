"""Moves of real guests between the two sites: there and back, with disks, and with parts killed on the way."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from actors.errors import Conflict, GuestUnknown, NodeUnknown, SameNode
from actors.lab.guests import build
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.line import Change
from actors.migration.messages import JobView
from api.cli.guest_spec import IMAGES
from tests.e2e.world import BOOT_S, RESTART_S, TICKS_S, World, until

HERE, THERE = "london-1", "paris-1"
# Slow enough that a fault meets the move half way on any machine: such a guest makes over 20 MB of wire bytes.
_SLOW = Change(rate_bps=12_000_000)
_LINK = "london-paris"


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    return World(lab)


@pytest.fixture
def guest(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[str, Watch]]:
    """A running guest on london-1, removed afterwards."""
    name = "g-" + request.node.name.removeprefix("test_").replace("_", "-").replace("[", "-").replace("]", "")[:40]
    watch = world.guest(name, HERE)
    yield name, watch
    world.remove(name)
    assert not world.has_domain(HERE, name)
    assert not world.has_domain(THERE, name)


def _sound(watch: Watch, node: str, ticks: int = 40) -> None:
    """The guest goes on ticking on `node`, none missing, its memory intact."""
    verdict = watch.until_ticks(ticks, TICKS_S)
    assert verdict.ok, verdict.problems


def _leaves_nothing(world: World, job: str) -> None:
    """Neither node still has the job's directory."""
    for node in world.lab.plan.nodes:
        folder = node.run_dir / "novacron" / "jobs" / job
        until(f"{folder} removed", lambda folder=folder: not folder.exists(), 60.0)


def test_there_and_back(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    for source, target in ((HERE, THERE), (THERE, HERE)):
        job = world.wait(world.start_move(name, target).id)
        assert job.state == "completed", job.message
        assert (job.source, job.target, job.owner) == (source, target, target)
        watch.arrived(target)
        _sound(watch, target)
        assert world.running_on(name) == [target]
        assert not world.has_domain(source, name)
        assert job.pause_ms > 0
        _accounted_for(job)
        assert 0 < job.progress.wire_bytes < job.progress.stream_bytes
        _leaves_nothing(world, job.id)
    # The guest's own clock lost what the two pauses took: it can't have lost nothing.
    assert watch.verdict.stopped_ms > 0


def test_a_guest_that_was_there_comes_back_by_reference(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    layers = {}
    for target in (THERE, HERE):
        job = world.wait(world.start_move(name, target).id)
        assert job.state == "completed", job.message
        watch.arrived(target)
        _sound(watch, target)
        layers[target] = job.progress.layers
        # Filling the stores goes on behind the move: the source's is what the guest finds when it comes back.
        until("the store to be filled", lambda: world.stored(HERE) > layers[THERE]["zstd"].pages // 2, 60.0)
    back = layers[HERE]
    assert back["store"].pages > 2 * back["zstd"].pages, layers


def test_a_registered_initramfs_shortens_the_stream(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.api.add_image(THERE, build(IMAGES).initrd)

    def known() -> str:
        (image,) = world.api.store(THERE).images
        return image.state if image.state != "reading" else ""

    assert until("the initramfs to be read", known, 120.0) == "ready"
    before = world.api.store(THERE).hits
    job = world.wait(world.start_move(name, THERE).id)
    assert job.state == "completed", job.message
    watch.arrived(THERE)
    _sound(watch, THERE)
    assert world.api.store(THERE).hits - before > 100
    assert job.progress.layers["store"].pages > 100


@pytest.mark.parametrize("harm", ["cleared", "truncated", "overwritten"])
def test_a_store_that_is_lost_on_the_way_costs_no_guest(world: World, guest: tuple[str, Watch], harm: str) -> None:
    name, watch = guest
    first = world.wait(world.start_move(name, THERE).id)
    assert first.state == "completed", first.message
    watch.arrived(THERE)
    until("the store to be filled", lambda: world.stored(HERE) > first.progress.layers["zstd"].pages // 2, 60.0)
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, HERE)
    world.wait_copying(job.id, 1 << 16)
    world.harm_store(HERE, harm)
    world.lab.restore_links()
    ended = world.wait(job.id)
    assert ended.state == "completed", ended.message
    watch.arrived(HERE)
    _sound(watch, HERE)
    assert world.running_on(name) == [HERE]


def _accounted_for(job: JobView) -> None:
    """The pause is what its parts add up to, and was predicted."""
    pause = job.pause
    parts = (pause.last_pages_ms, pause.device_state_ms, pause.round_trips_ms, pause.resume_ms)
    assert min(parts) >= 0, pause
    assert pause.round_trips_ms > 0
    assert sum(parts) == pytest.approx(job.pause_ms)
    assert pause.total_ms == job.pause_ms


def test_qemu_may_not_stop_the_guest_before_the_rest_fits(world: World, guest: tuple[str, Watch]) -> None:
    """While memory crosses, QEMU's limit is less than a page; a guest that stays has its own back."""
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    world.wait_copying(job.id)
    limit_ms, bandwidth = world.qemu_limits(HERE, name)
    assert limit_ms * bandwidth / 1000 < 4096
    assert world.api.change_pause(job.id, 900).pause_budget_ms == 900
    world.api.cancel(job.id)
    assert world.wait(job.id).state == "cancelled"
    world.lab.restore_links()
    assert world.qemu_limits(HERE, name) == (300, 0)
    with pytest.raises(Conflict):
        world.api.change_pause(job.id, 500)
    _sound(watch, HERE)


def test_a_disk_of_its_own_moves_too_and_comes_back_by_reference(world: World) -> None:
    name, new = "g-disk", Random(9).randbytes(8 << 20)
    watch = world.guest(name, HERE, data=new + b"text of some kind".ljust(32) * (8 << 15))
    sent = []
    try:
        for target in (THERE, HERE):
            job = world.wait(world.start_move(name, target).id)
            assert job.state == "completed", job.message
            watch.arrived(target)
            _sound(watch, target)
            assert world.running_on(name) == [target]
            assert job.progress.disk_stream_bytes > 16 << 20, job.progress
            sent.append(job.progress.disk_wire_bytes)
            until("the store to be filled", lambda: world.stored(HERE) > len(new) // 4096, 60.0)
    finally:
        world.remove(name)
    assert len(new) < sent[0] < len(new) * 5 // 4
    assert sent[1] < sent[0] // 4


@pytest.mark.parametrize("ending", ["cancel", "encoder", "decoder"])
def test_ended_while_its_disk_is_copied(world: World, ending: str) -> None:
    """The disk at the source is the guest's, the half at the target goes, and a second attempt takes both along."""
    name = f"g-half-{ending}"
    watch = world.guest(name, HERE, data=Random(11).randbytes(16 << 20))
    try:
        world.lab.link(_LINK).change(_SLOW)
        job = world.start_move(name, THERE)
        world.wait_copying(job.id, disk_bytes=1 << 20)
        if ending == "cancel":
            world.api.cancel(job.id)
        else:
            {"encoder": _kill_encoder, "decoder": _kill_decoder}[ending](world)
        ended = world.wait(job.id)
        assert ended.state == ("cancelled" if ending == "cancel" else "failed"), ended
        assert ended.progress.disk_wire_bytes < 16 << 20, "it was half way"
        world.lab.restore_links()
        assert _one_place(world, name, ended) == HERE
        assert not world.has_domain(THERE, name)
        assert not world.image_at(THERE, name).exists()
        _sound(watch, HERE)
        _leaves_nothing(world, job.id)
        _moves_again(world, name, watch, THERE)
    finally:
        world.lab.restore_links()
        world.remove(name)


def test_placement_chooses_when_no_node_is_named(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    job = world.wait(world.start_move(name, "").id)
    assert (job.state, job.target) == ("completed", THERE), job
    assert job.placement_reason
    watch.arrived(THERE)
    _sound(watch, THERE)


def _kill_encoder(world: World) -> None:
    world.kill(HERE, "ray::DeltaEncoder")


def _kill_decoder(world: World) -> None:
    world.kill(THERE, "ray::DeltaDecoder")


def _kill_manager(world: World) -> None:
    world.kill(HERE, "ray::MigrationManager")


def _kill_agent_here(world: World) -> None:
    world.kill(HERE, "ray::NodeAgent")


def _kill_transport(world: World) -> None:
    world.kill(THERE, "ray::TransportStreams")


def _kill_stream(world: World) -> None:
    world.kill_stream(HERE)


Fault = Callable[[World], None]


@pytest.mark.parametrize(
    ("fault", "survives"),
    [
        pytest.param(_kill_encoder, False, id="encoder"),
        pytest.param(_kill_decoder, False, id="decoder"),
        pytest.param(_kill_transport, False, id="transport"),
        pytest.param(_kill_manager, None, id="manager"),
        pytest.param(_kill_agent_here, None, id="agent"),
        pytest.param(_kill_stream, True, id="stream"),
    ],
)
def test_killed_on_the_way(world: World, guest: tuple[str, Watch], fault: Fault, survives: bool | None) -> None:
    """Whatever dies, the guest ends up running in exactly one place, intact, and a second attempt works.

    `survives`: whether the move itself must complete (True), must not (False), or may do either (None).
    """
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    world.wait_copying(job.id)
    fault(world)
    world.lab.restore_links()
    ended = world.wait(job.id)
    if survives is not None:
        assert (ended.state == "completed") is survives, ended.message
    place = _one_place(world, name, ended)
    if place == THERE:
        watch.arrived(THERE)
    _sound(watch, place)
    _leaves_nothing(world, job.id)
    _moves_again(world, name, watch, THERE if place == HERE else HERE)


def test_link_cut_for_ten_seconds(world: World, guest: tuple[str, Watch]) -> None:
    """A cut is waited out: the same move goes on and completes."""
    name, watch = guest
    line = world.lab.link(_LINK)
    line.change(_SLOW)
    job = world.start_move(name, THERE)
    before = world.wait_copying(job.id)
    line.change(Change(state="cut"))
    _clock(world, 10.0)
    assert world.running_on(name) == [HERE]
    world.lab.restore_links()
    ended = world.wait(job.id)
    assert ended.state == "completed", ended.message
    assert ended.progress.wire_bytes > before.progress.wire_bytes
    watch.arrived(THERE)
    _sound(watch, THERE)
    _moves_again(world, name, watch, HERE)


def test_cancel_on_the_way(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    world.wait_copying(job.id)
    world.api.cancel(job.id)
    world.api.cancel(job.id)
    assert world.wait(job.id).state == "cancelled"
    world.lab.restore_links()
    assert world.running_on(name) == [HERE]
    assert not world.has_domain(THERE, name)
    _sound(watch, HERE)
    _leaves_nothing(world, job.id)
    _moves_again(world, name, watch, THERE)


def test_what_cannot_be_is_refused_and_changes_nothing(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    with pytest.raises(GuestUnknown):
        world.start_move("nobody", THERE)
    with pytest.raises(NodeUnknown):
        world.start_move(name, "berlin-1")
    with pytest.raises(SameNode):
        world.start_move(name, HERE)
    with pytest.raises(Conflict):
        world.create(name, THERE)
    assert world.running_on(name) == [HERE]
    _sound(watch, HERE, ticks=5)


def test_a_moving_guest_is_frozen_and_both_its_nodes_answer(world: World, guest: tuple[str, Watch]) -> None:
    name, watch = guest
    world.lab.link(_LINK).change(_SLOW)
    job = world.start_move(name, THERE)
    world.wait_copying(job.id)
    until("its copy to be there", lambda: world.has_domain(THERE, name), BOOT_S)
    shown = world.api.guests()
    copies = {(one.node, one.state): (one.memory_mib, one.job) for one in shown.guests if one.name == name}
    assert copies == {(HERE, "running"): (256, job.id), (THERE, "incoming"): (256, job.id)}
    assert shown.silent == []
    assert {node.state for site in world.api.sites().sites for node in site.nodes} == {"up"}
    with pytest.raises(Conflict, match="busy"):
        world.start_move(name, THERE)
    with pytest.raises(Conflict, match="busy"):
        world.api.act(name, "stop")
    with pytest.raises(Conflict):
        world.api.delete_guest(name)
    world.lab.restore_links()
    assert world.wait(job.id).state == "completed"
    watch.arrived(THERE)
    _sound(watch, THERE)


def test_link_down_is_said_at_once(world: World, guest: tuple[str, Watch]) -> None:
    from actors.errors import Unreachable

    name, watch = guest
    world.lab.link(_LINK).change(Change(state="hole"))
    until("the link is seen to be down", lambda: all(one.link.state != "up" for one in world.api.links().links), 60.0)
    with pytest.raises(Unreachable):
        world.start_move(name, THERE)
    assert world.running_on(name) == [HERE]
    world.lab.restore_links()
    until("the link is up again", lambda: all(one.link.state == "up" for one in world.api.links().links), 120.0)
    _sound(watch, HERE, ticks=5)
    _moves_again(world, name, watch, THERE)


def _one_place(world: World, name: str, job: JobView) -> str:
    places = until("the guest runs", lambda: world.running_on(name), BOOT_S)
    assert len(places) == 1, (places, job)
    assert places[0] == (THERE if job.state == "completed" else HERE), (places, job)
    return places[0]


def _moves_again(world: World, name: str, watch: Watch, to: str) -> None:
    """A second attempt works at once, apart from actors that Ray is still bringing back."""
    from actors.errors import Unreachable

    refusals: list[str] = []

    def accepted() -> JobView | None:
        try:
            return world.start_move(name, to)
        except Unreachable as refusal:
            refusals.append(str(refusal))
            return None

    again = until(f"a second attempt is accepted, {refusals}", accepted, RESTART_S)
    assert again is not None
    ended = world.wait(again.id)
    assert ended.state == "completed", ended.message
    watch.arrived(to)
    _sound(watch, to)
    assert world.running_on(name) == [to]


def _clock(world: World, seconds: float) -> None:
    """Let the cut last: the guest's own ticks at the source show that so much time has passed."""
    from time import monotonic

    end = monotonic() + seconds
    until(f"{seconds:g} s of cut", lambda: monotonic() >= end, seconds + 5.0)
