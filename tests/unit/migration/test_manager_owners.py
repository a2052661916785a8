"""Moves when the control state does not answer: none begins, and one under way ends by what both hosts say."""

from actors.migration import engine
from actors.migration.messages import JobId
from tests.unit.migration.test_manager_moves import MOVE, in_state, nothing_left, settled, submit, watch


async def test_what_was_agreed_on_is_where_the_guest_is(cluster):
    job = await submit(cluster)
    await watch(cluster, job.id)
    state = cluster.world.states.state
    assert (state.guests["web"].node, state.guests["web"].job) == ("b1", "")
    assert state.jobs[job.id].state == "completed"


async def test_without_a_majority_no_move_begins(cluster):
    cluster.world.states.away = True
    job = await submit(cluster)
    done = (await watch(cluster, job.id))[-1].job
    assert (done.state, done.error) == ("failed", "no-majority")
    assert cluster.agent("a1").state("web") == "running"
    nothing_left(cluster, job.id)


async def test_a_majority_that_is_lost_on_the_way_is_told_afterwards(cluster, monkeypatch):
    monkeypatch.setattr(engine, "DEBT_RETRY_S", 0.05)
    job = await submit(cluster)
    await watch(cluster, job.id, in_state("perform"))
    states = cluster.world.states
    states.away = True
    done = (await watch(cluster, job.id))[-1].job
    assert (done.state, done.owner) == ("completed", "b1")
    assert states.state.guests["web"].node == "a1"
    assert states.state.guests["web"].job == job.id, "until then both agents leave it to the move"
    states.away = False
    await settled(cluster, lambda: states.state.guests["web"].job == "")
    assert states.state.guests["web"].node == "b1"


async def test_a_cancelled_move_leaves_the_guest_to_its_owner(cluster):
    cluster.agent("a1").hold = True
    job = await submit(cluster, MOVE)
    await watch(cluster, job.id, in_state("perform"))
    await cluster.ask("cancel", JobId(id=job.id), type(job))
    await watch(cluster, job.id)
    state = cluster.world.states.state
    assert (state.guests["web"].node, state.guests["web"].job) == ("a1", "")
    assert state.jobs[job.id].state == "cancelled"
