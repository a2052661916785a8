"""The pause of a move: its budget, the stall that it may cause, its account."""

import msgspec
import pytest

from actors.errors import BadRequest, JobUnknown, TooLate
from actors.hypervisor.messages import MoveStatus, Switchover
from actors.migration.messages import JobView, MoveRequest, PauseChange
from tests.unit.migration.test_manager_moves import MOVE, in_state, settled, submit, watch

STALLED = Switchover(
    budget_ms=300, fixed_ms=150, needed_ms=800, needed_bytes=40_000_000, fitting_bytes=10_000_000, stalled=True,
    link_limited=True, link_bytes_per_s=12_500_000,
)  # fmt: skip


async def change(cluster, job, pause_ms, lead="a1"):
    return await cluster.ask("change_pause", PauseChange(id=job, pause_ms=pause_ms), JobView, lead)


async def held(cluster, request=MOVE):
    """A move whose memory is crossing and goes on crossing."""
    cluster.agent("a1").hold = True
    job = await submit(cluster, request)
    await watch(cluster, job.id, in_state("perform"))
    await settled(cluster, lambda: cluster.agent("a1").aims)
    return job


def see(cluster, job, switchover):
    moves = cluster.agent("a1").moves
    moves[job.id] = msgspec.structs.replace(moves[job.id], switchover=switchover)


async def test_without_a_word_the_configured_pause_counts(cluster):
    job = await held(cluster, MoveRequest(guest="web", to="b1"))
    assert job.pause_budget_ms == 300
    assert cluster.agent("a1").aims[0].pause_ms == 300


async def test_another_pause_reaches_the_source_at_once(cluster):
    job = await held(cluster)
    assert (await change(cluster, job.id, 900)).pause_budget_ms == 900
    assert cluster.agent("a1").aims[-1].pause_ms == 900
    # Also when it is asked of the other site.
    await change(cluster, job.id, 700, lead="b1")
    assert cluster.agent("a1").aims[-1].pause_ms == 700


async def test_what_can_not_be_a_pause_is_refused(cluster):
    job = await held(cluster)
    with pytest.raises(BadRequest):
        await change(cluster, job.id, 0)
    with pytest.raises(JobUnknown):
        await change(cluster, "m-none", 500)


async def test_after_the_stop_it_is_too_late(cluster):
    job = await submit(cluster)
    await watch(cluster, job.id)
    with pytest.raises(TooLate):
        await change(cluster, job.id, 500)


async def test_a_stall_is_an_event_that_says_what_would_help_until_it_is_over(cluster):
    job = await held(cluster)
    see(cluster, job, STALLED)
    seen = await watch(cluster, job.id, lambda event: event.kind == "stalled")
    stalled = next(event for event in seen if event.kind == "stalled").job
    assert stalled.stalled
    assert (stalled.state, stalled.error) == ("perform", "")
    for help_ in ("--pause-ms 1000", "25%", "400 Mbit/s"):
        assert help_ in stalled.message
    changed = await change(cluster, job.id, 1000)
    assert (changed.stalled, changed.message) == (False, "")


async def test_a_stalled_move_is_cancelled_if_that_was_asked_for(cluster):
    job = await held(cluster, MoveRequest(guest="web", to="b1", if_stalled="cancel"))
    see(cluster, job, STALLED)
    last = (await watch(cluster, job.id))[-1].job
    assert (last.state, last.error, last.owner) == ("failed", "not-converging", "a1")
    assert "--pause-ms 1000" in last.message


async def test_the_account_stands_in_the_result(cluster):
    job = await held(cluster)
    see(cluster, job, Switchover(raised=True, predicted_ms=222))
    cluster.service("encoder", "a1").times = (1000.02, 1000.03)
    cluster.service("decoder", "b1").times = (0.0, 1000.06)
    arrived = MoveStatus(outcome="succeeded", guest_state="running", loaded_at=1000.08, resumed_at=1000.15)
    cluster.agent("b1").arrival = arrived
    cluster.agent("a1").hold = False
    pause = (await watch(cluster, job.id))[-1].job.pause
    assert pause.predicted_ms == 222
    assert pause.total_ms == pytest.approx(150)
    assert pause.device_state_ms == pytest.approx(30)
    parts = pause.last_pages_ms + pause.device_state_ms + pause.round_trips_ms + pause.resume_ms
    assert parts == pytest.approx(pause.total_ms)
