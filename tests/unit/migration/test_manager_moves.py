"""Moves through the manager, from the request to the journal, over simulated nodes."""

import asyncio

import msgspec
import pytest

from actors.encoding.messages import Disks
from actors.errors import (
    BadRequest,
    Conflict,
    GuestBusy,
    GuestExists,
    GuestNotRunning,
    GuestUnknown,
    JobUnknown,
    LinkDown,
    NodeUnknown,
    NoPlacement,
    NoRoom,
    PastNoReturn,
    SameNode,
    Unreachable,
)
from actors.migration import engine
from actors.migration.messages import EventsQuery, JobEvents, JobId, Jobs, JobView, MoveRequest
from tests.unit.migration.site import disk

MOVE = MoveRequest(guest="web", to="b1")


async def submit(cluster, request=MOVE, lead="a1"):
    return await cluster.ask("submit", request, JobView, lead)


async def watch(cluster, job, until=lambda event: False, lead="a1"):
    """All events of a job until it ended (or `until` says so)."""
    seen, after = [], 0
    async with asyncio.timeout(20):
        while True:
            answer = await cluster.ask("events", EventsQuery(job=job, after=after, wait_s=5), JobEvents, lead)
            seen += answer.events
            after = seen[-1].seq if seen else 0
            if answer.final or any(until(event) for event in answer.events):
                return seen


def in_state(state):
    return lambda event: event.job.state == state


async def settled(cluster, check):
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_a_guest_that_executes_at_the_target_is_seen_at_once(cluster, monkeypatch):
    monkeypatch.setattr(engine, "POLL_S", 60.0)
    source, target = cluster.agent("a1"), cluster.agent("b1")
    source.hold = True
    job = await submit(cluster)
    await settled(cluster, lambda: job.id in source.moves)
    source.put("web", "paused")
    source.moves[job.id] = msgspec.structs.replace(source.moves[job.id], stopped_at=1000.0)
    target.put("web")
    target.moves[job.id] = target.arrival
    target.arrivals.tell(job.id)
    await watch(cluster, job.id, in_state("finish"))
    source.hold = False
    assert (await watch(cluster, job.id))[-1].job.state == "completed"


async def test_a_move_goes_through_every_state_and_leaves_nothing_behind(cluster):
    job = await submit(cluster)
    assert (job.state, job.source, job.target, job.owner) == ("begin", "a1", "b1", "a1")
    seen = await watch(cluster, job.id)
    states = list(dict.fromkeys(event.job.state for event in seen))
    assert states == ["begin", "prepare", "perform", "switchover", "finish", "confirm", "completed"]
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    done = seen[-1].job
    assert (done.owner, done.error) == ("b1", "")
    assert done.pause_ms == pytest.approx(150)
    assert done.total_s >= 0
    assert (cluster.agent("a1").state("web"), cluster.agent("b1").state("web")) == ("absent", "running")
    nothing_left(cluster, job.id)


def nothing_left(cluster, job):
    for node in ("a1", "b1"):
        assert job not in cluster.agent(node).prepared
        assert job not in cluster.service("transport", node).open
        for kind in ("encoder", "decoder"):
            assert job not in cluster.service(kind, node).jobs


async def test_the_wiring_joins_both_ends(cluster):
    cluster.agent("a1").hold = True
    cluster.agent("a1").put("web", disks=[disk("vda", moves=True), disk("vdb", moves=False)])
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    await settled(cluster, lambda: "start_move" in cluster.world.methods("agent", "a1"))
    here, there = cluster.service("transport", "a1").open[job.id], cluster.service("transport", "b1").open[job.id]
    base = f"/run/a1/{job.id}"
    assert {(f.listen_path, f.peer, f.service) for f in here} == {
        (f"{base}/wire", "b1", f"ram:{job.id}"),
        (f"{base}/libvirt", "b1", f"libvirt:{job.id}"),
        (f"{base}/nbd-wire", "b1", f"nbd:{job.id}"),
    }
    base = f"/run/b1/{job.id}"
    assert {(e.connect_path, e.peer, e.service) for e in there} == {
        (f"{base}/wire", "a1", f"ram:{job.id}"),
        ("/run/b1/libvirtd", "a1", f"libvirt:{job.id}"),
        (f"{base}/nbd-wire", "a1", f"nbd:{job.id}"),
    }
    encoder = cluster.service("encoder", "a1").jobs[job.id]
    assert (encoder.qemu_path, encoder.wire_path) == (f"/run/a1/{job.id}/ram", f"/run/a1/{job.id}/wire")
    decoder = cluster.service("decoder", "b1").jobs[job.id]
    assert (decoder.wire_path, decoder.qemu_path) == (f"{base}/wire", f"{base}/ram")
    for codec, node in ((encoder, "a1"), (decoder, "b1")):
        base = f"/run/{node}/{job.id}"
        assert codec.disks == Disks(count=1, qemu_path=f"{base}/nbd", wire_path=f"{base}/nbd-wire")


async def test_the_files_in_place_are_the_guests_read_only_disks(cluster):
    cluster.agent("a1").hold = True
    root = msgspec.structs.replace(disk("vda", moves=False), read_only=True)
    cluster.agent("a1").put("web", disks=[root, disk("vdb", moves=True), disk("vdc", moves=False)])
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    await settled(cluster, lambda: "start_move" in cluster.world.methods("agent", "a1"))
    assert cluster.service("decoder", "b1").jobs[job.id].files == ["/images/vda"]


async def test_progress_has_layers_and_an_interval(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    seen = await watch(cluster, job.id, lambda event: event.kind == "progress")
    progress = seen[-1].job.progress
    assert progress.layers["zero"].pages == 100
    assert (progress.stream_bytes, progress.wire_bytes) == (2000, 500)


async def test_without_a_target_placement_chooses_and_says_why(cluster):
    cluster.agent("a2").free_mib = 2048
    job = await submit(cluster, MoveRequest(guest="web"))
    assert job.target == "a2"
    assert "best fit of 2" in job.placement_reason
    await watch(cluster, job.id)
    assert cluster.agent("a2").state("web") == "running"


@pytest.mark.parametrize(
    ("spoil", "request_", "error"),
    [
        (None, MoveRequest(guest="nobody", to="b1"), GuestUnknown),
        (None, MoveRequest(guest="web", to="zz"), NodeUnknown),
        (None, MoveRequest(guest="web", to="a1"), SameNode),
        (None, MoveRequest(guest="web", to="b1", pause_ms=-1), BadRequest),
        (None, MoveRequest(guest="web", to="b1", pause_ms=60_001), BadRequest),
        (lambda c: c.agent("a1").put("web", "paused"), MOVE, GuestNotRunning),
        (lambda c: c.agent("a1").put("web", job="m-other"), MOVE, GuestBusy),
        (lambda c: setattr(c.agent("b1"), "free_mib", 10), MOVE, NoRoom),
        (lambda c: c.agent("b1").put("web", "shut-off"), MOVE, GuestExists),
        (lambda c: c.world.cut.add("right"), MOVE, LinkDown),
        (lambda c: [setattr(c.agent(n), "free_mib", 10) for n in ("a2", "b1")], MoveRequest(guest="web"), NoPlacement),
        (lambda c: c.world.down.add(("agent", "a2")), MoveRequest(guest="nobody", to="b1"), Unreachable),
    ],
)
async def test_what_speaks_against_a_move_is_said_at_once_and_nothing_changes(cluster, spoil, request_, error):
    if spoil:
        spoil(cluster)
    with pytest.raises(error):
        await submit(cluster, request_)
    changing = {"prepare_outgoing", "prepare_incoming", "start_move", "finish_move", "forward", "expose", "open"}
    assert not changing & {method for _, _, method in cluster.world.log}
    assert (await cluster.ask("jobs", EventsQuery(job=""), Jobs)).jobs == []


async def test_a_moving_guest_is_busy(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    with pytest.raises(GuestBusy, match=job.id):
        await submit(cluster)


async def test_a_key_makes_a_request_idempotent(cluster):
    request = MoveRequest(guest="web", to="b1", key="k1")
    first, second = await asyncio.gather(submit(cluster, request), submit(cluster, request))
    assert first.id == second.id
    await watch(cluster, first.id)
    # The guest now lives at the other site, whose manager never saw the key.
    assert (await submit(cluster, request)).id == first.id
    assert (await submit(cluster, request, lead="b1")).id == first.id
    with pytest.raises(Conflict, match="k1"):
        await submit(cluster, MoveRequest(guest="other", to="b1", key="k1"))


async def test_cancel_leaves_the_guest_where_it_is_and_may_be_repeated(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    await cluster.ask("cancel", JobId(id=job.id), JobView)
    await cluster.ask("cancel", JobId(id=job.id), JobView)
    seen = await watch(cluster, job.id)
    assert seen[-1].job.state == "cancelled"
    assert seen[-1].job.error == ""
    assert (cluster.agent("a1").state("web"), cluster.agent("b1").state("web")) == ("running", "absent")
    nothing_left(cluster, job.id)
    assert (await cluster.ask("cancel", JobId(id=job.id), JobView)).state == "cancelled"
    cluster.agent("a1").hold = False
    again = await submit(cluster)
    assert (await watch(cluster, again.id))[-1].job.state == "completed"


async def test_cancel_after_the_move_is_refused(cluster):
    job = await submit(cluster)
    await watch(cluster, job.id)
    with pytest.raises(PastNoReturn):
        await cluster.ask("cancel", JobId(id=job.id), JobView)
    with pytest.raises(PastNoReturn):
        await cluster.ask("cancel", JobId(id=job.id), JobView, lead="b1")


@pytest.mark.parametrize(
    ("node", "where", "error"),
    [
        ("b1", "prepare_incoming", "hypervisor-down"),
        ("a1", "start_move", "hypervisor-down"),
        ("a1", "move", "hypervisor-failed"),
    ],
)
async def test_a_failure_before_the_target_runs_rolls_back_with_its_cause(cluster, node, where, error):
    cluster.agent(node).fail = where
    job = await submit(cluster)
    last = (await watch(cluster, job.id))[-1].job
    assert (last.state, last.error, last.owner) == ("failed", error, "a1")
    assert last.message
    assert last.next_step
    assert (cluster.agent("a1").state("web"), cluster.agent("b1").state("web")) == ("running", "absent")
    nothing_left(cluster, job.id)
    cluster.agent(node).fail = ""
    again = await submit(cluster)
    assert (await watch(cluster, again.id))[-1].job.state == "completed"


async def test_what_libvirt_left_at_the_source_is_removed_once_the_target_runs(cluster):
    cluster.agent("a1").fail = "confirm"
    job = await submit(cluster)
    last = (await watch(cluster, job.id))[-1].job
    assert (last.state, last.owner, last.error) == ("completed", "b1", "")
    assert (cluster.agent("a1").state("web"), cluster.agent("b1").state("web")) == ("absent", "running")
    nothing_left(cluster, job.id)


async def test_a_codec_that_gives_up_ends_the_move(cluster):
    cluster.agent("a1").hold = True
    encoder = cluster.service("encoder", "a1")
    encoder.state, encoder.reason = "failed", "checksum"
    job = await submit(cluster)
    last = (await watch(cluster, job.id))[-1].job
    assert (last.state, last.error) == ("failed", "stream-corrupt")
    assert "checksum" in last.message


@pytest.mark.parametrize("state", ["perform", "switchover", "completed"])
async def test_a_manager_killed_during_a_move_finishes_it_when_it_is_back(cluster, state):
    cluster.agent("a1").hold = state == "perform"
    job = await submit(cluster)
    seen = await watch(cluster, job.id, in_state(state))
    await settled(cluster, lambda: "start_move" in cluster.world.methods("agent", "a1"))
    await cluster.kill_manager()
    cluster.agent("a1").hold = False
    more = await watch(cluster, job.id)
    assert more[-1].job.state == "completed"
    assert [event.seq for event in more][: len(seen)] == [event.seq for event in seen]
    assert cluster.agent("b1").state("web") == "running"
    await settled(cluster, lambda: job.id not in cluster.service("transport", "b1").open)
    nothing_left(cluster, job.id)


async def test_a_manager_killed_before_libvirt_began_rolls_back(cluster):
    cluster.world.hang.add(("agent", "prepare_incoming"))
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("prepare"))
    await cluster.kill_manager()
    last = (await watch(cluster, job.id))[-1].job
    assert (last.state, last.error) == ("failed", "move-failed")
    assert "restarted" in last.message
    assert cluster.agent("a1").state("web") == "running"


async def test_a_target_that_vanishes_leaves_a_debt_that_is_paid_before_the_next_move(cluster):
    cluster.agent("b1").fail = "prepare_incoming"
    cluster.world.down.add(("decoder", "b1"))
    job = await submit(cluster)
    last = (await watch(cluster, job.id))[-1].job
    assert last.state == "failed"
    cluster.agent("b1").fail = ""
    with pytest.raises(Unreachable):
        await submit(cluster)
    cluster.world.down.clear()
    again = await submit(cluster)
    assert (await watch(cluster, again.id))[-1].job.state == "completed"


async def test_the_other_site_leads_the_moves_of_its_guests(cluster):
    cluster.agent("b1").put("db", machine="q35")
    job = await submit(cluster, MoveRequest(guest="db", to="a2"))
    assert (job.source, job.target) == ("b1", "a2")
    assert (await watch(cluster, job.id))[-1].job.state == "completed"
    assert (await cluster.ask("job", JobId(id=job.id), JobView)).state == "completed"
    assert [each.id for each in (await cluster.ask("jobs", EventsQuery(job=""), Jobs, lead="b1")).jobs] == [job.id]
    assert (await cluster.ask("jobs", EventsQuery(job=""), Jobs)).jobs == []


async def test_an_unknown_job(cluster):
    with pytest.raises(JobUnknown):
        await cluster.ask("job", JobId(id="m-0"), JobView)
    cluster.world.cut.add("right")
    with pytest.raises(Unreachable, match="site right"):
        await cluster.ask("job", JobId(id="m-0"), JobView)
