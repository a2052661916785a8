"""Drains and rebalancings through the manager: what is planned is what is moved, and what can't go is said."""

import asyncio

import pytest

from actors.calls.messages import Empty
from actors.control.commands import DrainNode
from actors.errors import Conflict, NodeUnknown, NotFound, Unreachable
from actors.hypervisor.messages import Attributes
from actors.migration.messages import SweepId, SweepRequest, Sweeps, SweepView
from actors.migration.sweep_shelf import SWEEPS_FILE, Shelved, SweepShelf

HERE = Attributes(sites=("left",))


async def sweep(cluster, **wanted):
    return await cluster.ask("sweep", SweepRequest(**wanted), SweepView)


async def until(ask):
    """The first true answer of `ask`."""
    async with asyncio.timeout(60):
        while not (answer := await ask()):
            await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.05)
    return answer


async def ended(cluster, name):
    async def over():
        view = await cluster.ask("sweep_view", SweepId(id=name), SweepView)
        return view if view.state != "running" else None

    return await until(over)


async def drained(cluster, node):
    for name in cluster.agent(node).guests_here:
        await cluster.world.states.guest(name)
    cluster.world.states.must(DrainNode(node=node, draining=True), "operator:test")


def where(cluster):
    return {
        name: node for node, agent in cluster.world.agents.items()
        for name, guest in agent.guests_here.items() if guest.state == "running"
    }  # fmt: skip


async def test_a_drain_moves_what_it_planned_and_names_what_stays(cluster):
    one = cluster.agent("a1")
    one.put("app", attributes=HERE)
    one.put("off", state="shut-off")
    one.put("pair-1", attributes=Attributes(together=("pair",)))
    one.put("pair-2", attributes=Attributes(together=("pair",)))
    await drained(cluster, "a1")
    plan = await sweep(cluster, node="a1", dry_run=True)
    assert (plan.state, where(cluster)["app"]) == ("planned", "a1")
    made = await sweep(cluster, node="a1")
    assert [move.plan for move in made.moves] == [move.plan for move in plan.moves]
    done = await ended(cluster, made.id)
    assert {move.state for move in done.moves} == {"completed"}
    there = where(cluster)
    assert {move.plan.guest: there[move.plan.guest] for move in done.moves} == {
        move.plan.guest: move.plan.target for move in done.moves
    }
    assert ({m.plan.guest for m in done.moves}, there["app"]) == ({"web", "app"}, "a2")
    assert {stay.guest: stay.rule for stay in done.stays} == {
        "off": "", "pair-1": "affinity", "pair-2": "affinity",
    }  # fmt: skip
    assert done.state == "failed", "it is not empty"


async def test_groups_follow_one_another_when_they_may_be_parted(cluster):
    del cluster.agent("a1").guests_here["web"]
    for name in ("pair-1", "pair-2"):
        cluster.agent("a1").put(name, attributes=Attributes(together=("pair",)))
    await drained(cluster, "a1")
    made = await sweep(cluster, node="a1", part_groups=True)
    assert (await ended(cluster, made.id)).state == "completed"
    there = where(cluster)
    assert there["pair-1"] == there["pair-2"] != "a1"


async def test_talking_guests_come_together_and_rest_then(cluster):
    cluster.agent("a1").put("web", attributes=Attributes(near=("shop",), sites=("left",)))
    cluster.agent("b1").put("db", attributes=Attributes(near=("shop",)))
    made = await sweep(cluster, most=1)
    assert [(move.plan.guest, "joins 1 more that it talks with" in move.plan.reason) for move in made.moves] == [
        ("db", True)
    ]
    assert (await ended(cluster, made.id)).state == "completed"
    assert where(cluster)["db"] in ("a1", "a2")
    again = await sweep(cluster, dry_run=True, most=10)
    assert "db" not in {move.plan.guest for move in again.moves}


async def test_one_that_is_cancelled_begins_no_more_moves(cluster):
    cluster.agent("a1").hold = True
    for name in ("app-1", "app-2", "app-3"):
        cluster.agent("a1").put(name)
    await drained(cluster, "a1")
    made = await sweep(cluster, node="a1")
    with pytest.raises(Conflict, match=made.id):
        await sweep(cluster)

    async def two_begun():
        return len(cluster.agent("a1").moves) == 2

    await until(two_begun)
    await cluster.ask("cancel_sweep", SweepId(id=made.id), SweepView)
    cluster.agent("a1").hold = False
    done = await ended(cluster, made.id)
    assert done.state == "cancelled"
    assert sum(move.state == "cancelled" for move in done.moves) >= 2
    assert len(cluster.agent("a1").moves) == 2
    assert [one.id for one in (await cluster.ask("sweeps", Empty(), Sweeps)).sweeps] == [made.id]


async def test_what_can_not_be_swept(cluster):
    with pytest.raises(NodeUnknown):
        await sweep(cluster, node="zz")
    with pytest.raises(NotFound):
        await cluster.ask("sweep_view", SweepId(id="s-1"), SweepView)
    cluster.world.cut.add("right")
    with pytest.raises(Unreachable, match="node b1, whose guests are to move"):
        await sweep(cluster, node="b1", dry_run=True)


async def half_begun(cluster):
    """A drain of which two moves are under way, and stay so."""
    cluster.agent("a1").hold = True
    for name in ("app-1", "app-2", "app-3"):
        cluster.agent("a1").put(name)
    await drained(cluster, "a1")
    made = await sweep(cluster, node="a1")

    async def two_begun():
        return len(cluster.agent("a1").moves) == 2

    await until(two_begun)
    return made


async def test_a_manager_that_is_started_again_goes_on(cluster):
    made = await half_begun(cluster)
    await cluster.kill_manager()
    cluster.agent("a1").hold = False
    done = await ended(cluster, made.id)
    assert {move.state for move in done.moves} == {"completed"}
    assert len(cluster.agent("a1").moves) == len(done.moves) == 4, "none is made twice"
    assert (await cluster.ask("sweeps", Empty(), Sweeps)).sweeps == [done]


async def test_one_that_was_cancelled_stays_so_after_a_restart(cluster):
    made = await half_begun(cluster)
    await cluster.ask("cancel_sweep", SweepId(id=made.id), SweepView)
    await cluster.kill_manager()
    cluster.agent("a1").hold = False
    assert (await ended(cluster, made.id)).state == "cancelled"
    assert len(cluster.agent("a1").moves) == 2


async def test_a_fault_of_the_manager_ends_a_move_and_not_the_others(cluster, monkeypatch):
    for name in ("app-1", "app-2"):
        cluster.agent("a1").put(name)
    await drained(cluster, "a1")
    manager = cluster.service("manager", "a1")
    submit = manager.submit_here

    async def faulty(request):
        if request.guest == "app-1":
            raise KeyError("app-1")
        return await submit(request)

    monkeypatch.setattr(manager, "submit_here", faulty)
    made = await sweep(cluster, node="a1")
    done = await ended(cluster, made.id)
    assert {move.plan.guest: move.state for move in done.moves} == {
        "app-1": "failed", "app-2": "completed", "web": "completed",
    }  # fmt: skip
    assert "a fault of the manager: KeyError('app-1')" in [move.error for move in done.moves]


async def test_one_whose_order_fails_is_told_as_failed(cluster, monkeypatch):
    await drained(cluster, "a1")

    def faulty(*_):
        raise IndexError

    monkeypatch.setattr("actors.migration.sweeps.startable", faulty)
    made = await sweep(cluster, node="a1")
    done = await ended(cluster, made.id)
    assert (done.state, [move.state for move in done.moves]) == ("failed", ["cancelled"])


async def test_a_shelf_that_can_not_be_read_is_an_empty_one(tmp_path):
    path = tmp_path / SWEEPS_FILE
    shelf = SweepShelf(path)
    assert shelf.read() == Shelved()
    path.write_bytes(b"rubbish")
    assert shelf.read() == Shelved()
    shelf.write(Shelved(cancelled=["s-1"]))
    assert shelf.read().cancelled == ["s-1"]
