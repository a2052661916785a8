"""Members that come and go while the others go on: real `ClusterState` parts, with sockets, threads and disks."""

import asyncio
import inspect
import shutil

import pytest

from actors.control import client as client_module
from actors.control import follower, leaving, members
from actors.control.client import StateClient
from actors.control.commands import AddMember, RemoveMember, SetPolicy
from actors.control.joining import Joining
from actors.control.messages import Fresh, MembersAnswer
from actors.control.model import VERSION
from actors.control.recovery import recovering
from actors.errors import ActorDown, Conflict, Failed, NotFound, StateRefused
from tests.unit.control.test_actor import FOUR, SITES, World, agreed_by, config_of

BY = "operator:ann"


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "_ATTEMPT_S", 1.0)
    monkeypatch.setattr(leaving, "ALONE_S", 1.0)
    monkeypatch.setattr(follower, "AGAIN_S", 0.2)
    made = World(tmp_path)
    for node in ("london-1", "paris-1", "rome-1"):
        made.start(node)
    await made.leader()
    await ready(made)
    yield made
    await end(made)


async def until(true, seconds: float = 30.0) -> None:
    """Wait until `true()` is."""
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.05)


async def end(made) -> None:
    for node in list(made.members):
        if made.members[node]._left:
            del made.members[node]
        else:
            await made.kill(node)
    for server in made.listening.values():
        server.close()


async def ready(made) -> None:
    """The newest rules are in force, and everybody has said who it is."""
    states = [member._driver.shell.replica for member in made.members.values()]
    await until(lambda: all(one.state.cluster.version == VERSION for one in states))
    await until(lambda: all(len(one.state.members) == len(states) for one in states))


def joining(made, node, **config) -> Joining:
    """What the node's process has to watch the members with."""

    async def stop() -> None:
        old = made.members.get(node)
        if old is not None and (old._left or old._running is None):
            del made.members[node]
            # Its process would end, and with it what the transport has open to it.
            made.split(node, cut=False)
        elif old is not None:
            await made.kill(node)

    failures = [NotFound(what="room for an actor")]

    async def start() -> None:
        if failures:
            raise failures.pop()
        made.start(node)

    own = config_of(made.folder, node, made.sites, **{**made.consensus, **config})
    (own.node.state_dir).mkdir(parents=True, exist_ok=True)
    return Joining(StateClient(made, own), own, stop, start)


async def joined(made, node, **config) -> None:
    """Have an added node notice it, and wait until it votes."""
    task = asyncio.create_task(joining(made, node, **config).run())

    async def votes() -> bool:
        view = await made.client().cluster(deadline_s=10)
        return any(one.node == node and one.votes and not one.change for one in view.members)

    await until(votes)
    task.cancel()


async def gone(made, node) -> None:

    async def unknown() -> bool:
        return all(one.node != node for one in (await made.client().cluster(deadline_s=10)).members)

    await until(unknown)


async def test_a_node_is_added_votes_and_outlives_a_founder_and_restarts(world) -> None:
    client = world.client()
    await client.submit(SetPolicy(name="before", value="x"), by=BY)
    assert (await client.add_member("london-2", by=BY)).number == 4
    with pytest.raises(StateRefused) as no:
        await client.add_member("london-2", by=BY)
    assert no.value.refusal == "changing"
    await joined(world, "london-2")
    with pytest.raises(StateRefused) as no:
        await client.add_member("london-2", by=BY)
    assert no.value.refusal == "already"
    # Two of four agree on nothing, three do: the new one counts.
    await world.kill("rome-1")
    await client.submit(SetPolicy(name="with", value="x"), by=BY, deadline_s=30)
    assert set(world.members["london-2"]._driver.shell.replica.state.policies) >= {"before"}
    for node in ("london-1", "paris-1", "london-2"):
        await world.kill(node)
    for node in ("london-1", "paris-1", "london-2"):
        world.start(node)
    await client.submit(SetPolicy(name="after", value="x"), by=BY, deadline_s=30)
    view = await client.cluster()
    assert [(one.number, one.node) for one in view.members if one.votes] == [
        (1, "london-1"), (2, "paris-1"), (3, "rome-1"), (4, "london-2"),
    ]  # fmt: skip


async def test_a_member_is_taken_out_stops_and_says_so(world) -> None:
    client = world.client()
    leader = await world.leader()
    await client.remove_member(leader, by=BY, deadline_s=30)
    await gone(world, leader)
    await until(lambda: world.members[leader]._left)
    with pytest.raises(ActorDown, match="novacron member add"):
        await world.call(world.on("state", leader), "members", Fresh(), MembersAnswer, 5.0)
    assert not members.is_member(config_of(world.folder, leader))
    # Two are left and go on, and what the one that left believes is nothing to them.
    await client.submit(SetPolicy(name="p", value="x"), by=BY, deadline_s=30)
    del world.members[leader]
    again = world.start(leader)
    with pytest.raises(ActorDown, match="was taken out"):
        await again._started()
    del world.members[leader]


async def test_one_that_was_down_meanwhile_learns_it_when_it_comes_back(world) -> None:
    client, leader = world.client(), await world.leader()
    lost = next(node for node in ("paris-1", "rome-1") if node != leader)
    await world.kill(lost)
    await client.remove_member(lost, by=BY, deadline_s=30)
    await gone(world, lost)
    back = world.start(lost)
    await until(lambda: back._left)


async def test_a_lost_disk_is_replaced_under_a_new_number(world) -> None:
    client, leader = world.client(), await world.leader()
    lost = next(node for node in ("paris-1", "rome-1") if node != leader)
    old = next(one.number for one in (await client.cluster()).members if one.node == lost)
    await world.kill(lost)
    shutil.rmtree(world.folder / lost / "state")
    with pytest.raises(ActorDown, match=f"novacron member remove --lost {lost}"):
        await world.start(lost)._started()
    del world.members[lost]
    await client.remove_member(lost, by=BY, deadline_s=30)
    await gone(world, lost)
    assert (await client.add_member(lost, by=BY, deadline_s=30)).number == 4
    # It starts as the founder that its configuration says it is, which does not begin.
    world.start(lost)
    await joined(world, lost)
    view = await client.cluster()
    assert {one.number for one in view.members} == {1, 2, 3, 4} - {old}
    await client.submit(SetPolicy(name="p", value="x"), by=BY, deadline_s=30)
    shell = world.members[lost]._driver.shell
    await until(lambda: "p" in shell.replica.state.policies)


async def test_every_founder_is_replaced_and_clients_still_find_the_members(world) -> None:
    """A client that knows of the founders alone would ask nobody who is left."""
    client = world.client()
    await client.add_member("london-2", by=BY)
    await joined(world, "london-2")
    watch = joining(world, "london-1")
    await watch.take(await client.members())
    for node in ("london-1", "paris-1", "rome-1"):
        await client.remove_member(node, by=BY, deadline_s=30)
        await gone(world, node)
        await watch.take(await client.members(deadline_s=30))
    with pytest.raises(StateRefused) as no:
        await client.remove_member("london-2", by=BY, deadline_s=30)
    assert no.value.refusal == "last-member"
    await client.submit(SetPolicy(name="p", value="x"), by=BY, deadline_s=30)
    assert client._look() == ["london-2"]


async def test_what_would_end_agreement_is_refused(world) -> None:
    client, leader = world.client(), await world.leader()
    others = [node for node in ("london-1", "paris-1", "rome-1") if node != leader]
    with pytest.raises(StateRefused) as no:
        await client.add_member("oslo-1", by=BY)
    assert no.value.refusal == "unknown"
    with pytest.raises(NotFound):
        await client.remove_member("london-2", by=BY)
    with pytest.raises(StateRefused) as no:
        await client.submit(RemoveMember(node="rome-1", number=1), by=BY)
    assert no.value.refusal == "stale"
    await world.kill(others[0])

    async def silent() -> bool:
        return any(one.node == others[0] and not 0 <= one.silent_s < 5 for one in (await client.cluster()).members)

    await until(silent)
    with pytest.raises(StateRefused) as no:
        await client.remove_member(others[1], by=BY, deadline_s=10)
    assert no.value.refusal == "no-quorum-left"
    await client.submit(SetPolicy(name="p", value="x"), by=BY, deadline_s=20)


async def test_one_change_at_a_time_and_one_that_never_comes_is_given_up(world) -> None:
    client = world.client()
    await client.add_member("london-2", by=BY)
    with pytest.raises(StateRefused) as no:
        await client.remove_member("rome-1", by=BY)
    assert no.value.refusal == "changing"
    assert "novacron member remove london-2" in str(no.value)
    view = await client.cluster()
    assert [(one.change, one.votes) for one in view.members if one.node == "london-2"] == [("joins", False)]
    await client.remove_member("london-2", by=BY)
    await gone(world, "london-2")
    assert (await client.add_member("london-2", by=BY, deadline_s=30)).number == 5, "no number is given twice"


async def test_a_node_with_other_founders_is_told_what_to_set(world) -> None:
    client = world.client()
    await client.add_member("london-2", by=BY)
    watch = joining(world, "london-2", members=["london-1", "paris-1"])
    with pytest.raises(Failed, match=r"consensus.members to \[london-1, paris-1, rome-1\]"):
        await watch.take(await client.members())


async def test_one_that_came_later_goes_on_alone_when_all_founders_are_lost(world) -> None:
    client = world.client()
    await client.submit(SetPolicy(name="before", value="x"), by=BY)
    await client.add_member("london-2", by=BY)
    await joined(world, "london-2")
    shell = world.members["london-2"]._driver.shell
    await until(lambda: "before" in shell.replica.state.policies and shell.core.membership.voters == (1, 2, 3, 4))
    for node in list(world.members):
        await world.kill(node)
    alone = config_of(world.folder, "london-2", members=["london-2"])
    folder = alone.node.state_dir / "control"
    with pytest.raises(Conflict, match="rome-1"), recovering(folder, alone, ("london-1", "paris-1")):
        pass
    with recovering(folder, alone, ("london-1", "paris-1", "rome-1")) as recovery:
        recovery.go_on(recovery.risk, "the founders burned down")
    world.consensus = {"members": ["london-2"]}
    world.start("london-2")
    client = StateClient(world, alone)
    assert client._look() == ["london-2"], "the lost ones are not asked"
    await client.submit(SetPolicy(name="after", value="x"), by=BY, deadline_s=30)
    state = world.members["london-2"]._driver.shell.replica.state
    assert {"before", "after"} <= state.policies.keys()
    assert state.seats == {}
    await until(lambda: [one.node for one in state.members.values()] == ["london-2"])


async def test_in_bft_members_stay_as_they_are(tmp_path) -> None:
    world = World(tmp_path, FOUR, mode="bft")
    for site in FOUR:
        world.start(f"{site}-1")
    await agreed_by(world, "bft")
    await ready(world)
    for command in (AddMember(node="oslo-1"), RemoveMember(node="oslo-1", number=4)):
        with pytest.raises(StateRefused) as no:
            await world.client().submit(command, by=BY, deadline_s=30)
        assert no.value.refusal == "not-in-bft"
        assert "consensus.mode to raft" in str(no.value)
    await end(world)


def test_members_are_named_in_the_topology() -> None:
    assert {"london-2"} == {node for nodes in SITES.values() for node in nodes} - {"london-1", "paris-1", "rome-1"}
