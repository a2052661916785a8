"""`ClusterState` and `StateClient` together, with sockets, threads and disks, without Ray and the transport."""

import asyncio
import contextlib
import itertools

import msgspec
import pytest

from actors.calls.directory import decode_reply
from actors.calls.messages import Address, Caller
from actors.config.schema import Config
from actors.control import audit, author, chores, switching
from actors.control import client as client_module
from actors.control.actor import ClusterState
from actors.control.client import StateClient
from actors.control.commands import (
    AcquireLease,
    CommitMove,
    DefineGuest,
    FailOver,
    JoinNode,
    OpenSession,
    Override,
    RenewLease,
    SetFlag,
    SetPolicy,
    SetTerms,
    StartGuest,
    StopGuest,
    YieldLease,
    seal,
)
from actors.control.driver import now_ms
from actors.control.keys import AUTHOR_FILE, secret_in
from actors.control.members import founded, members_of
from actors.control.messages import (
    FlagsAnswer,
    LeaseAnswer,
    Outcome,
    StandingAnswer,
    Submit,
    TrailQuery,
    Watched,
)
from actors.control.model import VERSION, Flag, Lease, Run, Terms
from actors.control.ownership import Right, Standing, risk_of
from actors.control.signing import seal_signed
from actors.control.switching import Switching
from actors.errors import ActorDown, BodyInvalid, Conflict, GuestUnknown, JobUnknown, NoMajority, StateRefused

SITES = {"london": ["london-1", "london-2"], "paris": ["paris-1"], "rome": ["rome-1"]}


def config_of(folder, node: str, sites=SITES, witnesses=(), **consensus) -> Config:
    where = {
        "sites": [
            {
                "name": site,
                "witness": site in witnesses,
                "nodes": [
                    {"name": name, "address": f"{site}-{place}", "port": 7000 + len(name) + (place + 1) * 100}
                    for place, name in enumerate(nodes)
                ],
            }
            for site, nodes in sites.items()
        ]
    }
    return Config.model_validate(
        {
            "node": {"name": node, "state_dir": folder / node / "state", "run_dir": folder / node / "run"},
            "topology": where,
            "consensus": {"heartbeat_ms": 20, "election_ms": 210, **consensus},
        }
    )


class World:
    """Members by node, their transports (`cut`: pairs that don't hear each other) and a directory to them."""

    site = "london"

    def __init__(self, folder, sites=SITES, far="hybrid", **consensus) -> None:
        self.folder, self.sites, self.far, self.consensus = folder, sites, far, consensus
        self.members: dict[str, ClusterState] = {}
        self.cut: set[frozenset[str]] = set()
        self.pipes: dict[asyncio.Task, frozenset[str]] = {}
        self.listening: dict[str, asyncio.Server] = {}
        self.down: set[str] = set()

    def start(self, node: str) -> ClusterState:
        config = config_of(self.folder, node, self.sites, **self.consensus)

        async def register(peer, to_path, from_path) -> None:
            there = self.folder / peer / "run" / "control" / f"from-{node}.sock"

            async def join(reader, writer) -> None:
                pair = frozenset({node, peer})
                self.pipes[asyncio.current_task()] = pair
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    if pair not in self.cut:
                        _, onward = await asyncio.open_unix_connection(str(there))
                        while data := await reader.read(65536):
                            onward.write(data)
                        onward.close()
                writer.close()

            if str(to_path) not in self.listening:
                self.listening[str(to_path)] = await asyncio.start_unix_server(join, str(to_path))

        async def modes():
            return {each.name: self.far for site in config.topology.sites for each in site.nodes if each.name != node}

        async def ask(other, *question):
            return await self.call(self.on("state", other), *question)

        self.members[node] = ClusterState(config, register, modes, ask)
        self.down.discard(node)
        return self.members[node]

    async def kill(self, node: str) -> None:
        member = self.members.pop(node)
        self.down.add(node)
        await member.close()
        self.split(node, cut=False)

    def split(self, node: str, *, cut: bool = True) -> None:
        for other in {*self.members, *self.down} - {node}:
            if cut:
                self.cut.add(frozenset({node, other}))
        for task, pair in list(self.pipes.items()):
            if node in pair:
                task.cancel()

    # What a Directory has.

    def on(self, service: str, node: str) -> Address:
        return Address(service=service, node=node)

    async def call(self, to, method, request, response, deadline_s, by="london-1"):
        if to.node not in self.members:
            raise ActorDown(service=str(to), reason="it is down")
        caller = Caller(node=by, site="london", same_site=to.node.startswith("london"))
        raw = await self.members[to.node].serve(caller, method, msgspec.msgpack.encode(request))
        return decode_reply(raw, response)

    def client(self) -> StateClient:
        return StateClient(self, config_of(self.folder, "london-1", self.sites, **self.consensus))

    async def leader(self) -> str:
        async with asyncio.timeout(20):
            while True:
                views = [await self.client().cluster(deadline_s=5)]
                if views[0].leader and all(member.silent_s >= 0 for member in views[0].members):
                    return views[0].leader
                await asyncio.sleep(0.02)


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "_ATTEMPT_S", 1.0)
    made = World(tmp_path)
    for node in ("london-1", "paris-1", "rome-1"):
        made.start(node)
    await made.leader()
    yield made
    for node in list(made.members):
        await made.kill(node)
    for server in made.listening.values():
        server.close()


async def test_the_configured_nodes_are_joined_and_members_say_what_they_know(world) -> None:
    async with asyncio.timeout(20):
        while True:
            nodes = {node.name: node for node in await world.client().nodes()}
            if len(nodes) == 4 and sum(node.speaks for node in nodes.values()) == 3 * VERSION:
                break
            await asyncio.sleep(0.05)
    assert nodes["london-2"].speaks == 0
    assert {node.site for node in nodes.values()} == set(SITES)


async def test_a_guest_is_defined_started_and_asked_about(world) -> None:
    client = world.client()
    with pytest.raises(GuestUnknown):
        await client.guest("web")
    with pytest.raises(JobUnknown):
        await client.job("j1")
    assert await client.lease("london-1") is None
    await client.submit(JoinNode(node="london-1", site="london", speaks=1), by="operator:ann")
    terms = await client.terms()
    lease = await client.submit(
        AcquireLease(node="london-1", after=0, boot="b", terms=terms.number), by="node:london-1"
    )
    await client.submit(DefineGuest(guest="web", definition="<domain/>"), by="operator:ann")
    assert await client.standing("web", "london-1") == Standing(Right.NONE, 0)
    epoch = await client.submit(StartGuest(guest="web", node="london-1", epoch=0), by="operator:ann")
    assert await client.standing("web", "london-1") == Standing(Right.RUN, epoch.number)
    assert (await client.guest("web")).run is Run.RUNNING
    assert [guest.name for guest in await client.guests()] == ["web"]
    assert (await client.lease("london-1")).number == lease.number
    renewed = RenewLease(node="london-1", number=lease.number, renewal=1, terms=terms.number)
    await client.submit(renewed, by="node:london-1")
    assert (await client.lease("london-1")).renewal == 1


async def test_what_the_rules_refuse_says_why(world) -> None:
    with pytest.raises(StateRefused) as no:
        await world.client().submit(
            SetTerms(after=9, duration_ms=9000, pause_ms=900, drift_ppm=1, takeover="operator"), by="operator:ann"
        )
    assert no.value.refusal == "terms-changed"


@pytest.mark.parametrize("by", ["node:paris-1", "member:london-1"])
async def test_nobody_asks_in_another_name(world, by) -> None:
    with pytest.raises(StateRefused) as no:
        await world.client().submit(SetPolicy(name="p", value="x"), by=by)
    assert no.value.refusal == "not-yours"


async def test_what_is_no_command_is_refused(world) -> None:
    with pytest.raises(BodyInvalid):
        await world.call(world.on("state", "london-1"), "submit", Submit(command=b"\xc1", by="x"), OpenSession, 5.0)


async def test_a_command_that_was_sent_twice_takes_effect_once(world) -> None:
    client = world.client()
    call, sent = world.call, []

    async def twice(to, method, request, response, deadline_s):
        answer = await call(to, method, request, response, deadline_s)
        if method == "submit" and not sent and request.number:
            sent.append(answer)
            raise ActorDown(service="state", reason="the answer was lost")
        return answer

    world.call = twice
    outcome = await client.submit(DefineGuest(guest="web", definition="<domain/>"), by="operator:ann")
    assert sent == [outcome]
    assert (await client.guest("web")).definition_number == outcome.number


async def test_a_killed_leader_is_replaced_and_comes_back(world) -> None:
    client, leader = world.client(), await world.leader()
    await client.submit(SetFlag(component="hde", percent=30), by="operator:ann")
    await world.kill(leader)
    await client.submit(SetFlag(component="pba", percent=40), by="operator:ann", deadline_s=20)
    world.start(leader)
    flags = await client.flags(deadline_s=20)
    assert {name: flag.percent for name, flag in flags.items()} == {"hde": 30, "pba": 40}
    async with asyncio.timeout(20):
        while True:
            view = await client.cluster()
            if view.leader and not any(each.lag for each in view.members):
                break
            await asyncio.sleep(0.05)


async def test_a_cut_between_the_own_member_and_the_leader_alone_is_gone_round(world, monkeypatch) -> None:
    monkeypatch.setattr(client_module, "_ATTEMPT_S", 60.0)
    leader = await world.leader()
    own = next(node for node in world.members if node != leader)
    world.cut.add(frozenset({own, leader}))
    for task, pair in list(world.pipes.items()):
        if pair == frozenset({own, leader}):
            task.cancel()
    client = StateClient(world, config_of(world.folder, own))
    await client.submit(SetPolicy(name="p", value="x"), by="operator:ann", deadline_s=6)
    assert await client.flags(deadline_s=6) == {}


async def test_a_lone_member_says_that_there_is_no_majority(world) -> None:
    for node in ("paris-1", "rome-1"):
        await world.kill(node)
    client = world.client()
    with pytest.raises(NoMajority) as no:
        await client.submit(SetPolicy(name="p", value="x"), by="operator:ann", deadline_s=1.5)
    assert no.value.fields["outcome"] in ("not done", "unknown")
    with pytest.raises(NoMajority):
        await client.terms(deadline_s=1.0)
    view = await client.cluster()
    assert view.node == "london-1"


async def test_a_watcher_gets_what_is_new_and_whole(world) -> None:
    client = world.client()
    watched = await client.watch(0)
    waiting = asyncio.create_task(client.watch(watched.revision, 20))
    outcome = await client.submit(SetPolicy(name="p", value="x"), by="operator:ann")
    told = await waiting
    while not any(event.table == "policies" for event in told.events):
        told = await client.watch(told.revision, 20)
    event = next(event for event in told.events if event.table == "policies")
    assert (event.revision, event.record.value) == (outcome.index, "x")


async def test_the_audit_trail_is_read_whole_while_it_moves_into_the_store(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audit, "KEPT", 4)
    # One member alone: one that lags among several may begin from another's snapshot, and then lacks what was before.
    world = World(tmp_path, members=["london-1"])
    member = world.start("london-1")
    await member._starting
    shell = member._driver.shell
    shell._settings = msgspec.structs.replace(shell._settings, compact_entries=10)
    client = world.client()
    for number in range(40):
        await client.submit(SetPolicy(name=f"p{number}", value="x"), by="operator:ann", deadline_s=60)
        page = await client.audit(TrailQuery(), deadline_s=60)
        assert [entry.number for entry in page.entries] == list(range(1, page.count + 1))
        assert (page.missing, page.fault) == (0, 0)
        assert f"p{number}" in {entry.subject for entry in page.entries}
    assert shell.snapshot_index > 10
    await world.kill("london-1")


async def test_members_of_another_founding_are_not_heard(tmp_path) -> None:
    one, other = World(tmp_path), World(tmp_path, members=["london-1", "paris-1"])
    one.start("london-1")
    one.start("rome-1")
    other.listening = one.listening
    other.start("paris-1")
    for member in (*one.members.values(), *other.members.values()):
        await member._starting
    async with asyncio.timeout(20):
        while True:
            if one.members["london-1"]._driver.shell.heard_ms:
                break
            await asyncio.sleep(0.02)
    assert set(one.members["london-1"]._driver.shell.heard_ms) == {3}
    for world in (one, other):
        for node in list(world.members):
            await world.kill(node)


@pytest.mark.parametrize(
    ("sites", "witnesses", "members", "want"),
    [
        (SITES, (), [], ["london-1", "paris-1", "rome-1"]),
        (SITES, ("rome",), [], ["london-1", "paris-1", "rome-1"]),
        ({"a": ["a-1"], "b": ["b-1", "b-2"]}, (), [], ["a-1", "b-1"]),
        ({"a": ["a-1", "a-2"]}, (), [], ["a-1"]),
        ({"a": ["a-1", "a-2"], "b": ["b-1"]}, ("b",), [], ["a-1", "b-1"]),
        ({"a": ["a-1", "a-2", "a-3", "a-4"]}, (), [], ["a-1", "a-2", "a-3"]),
        ({"a": ["a-1", "a-2", "a-3", "a-4"], "b": ["b-1"]}, ("b",), [], ["a-1", "a-2", "a-3", "b-1"]),
        (SITES, (), ["rome-1", "london-1"], ["rome-1", "london-1"]),
    ],
)
def test_members_follow_from_the_configuration(tmp_path, sites, witnesses, members, want) -> None:
    first = next(iter(sites.values()))[0]
    found = members_of(config_of(tmp_path, first, sites, witnesses, members=members))
    assert [each.node for each in found] == want
    assert [each.number for each in found] == list(range(1, len(want) + 1))
    assert {each.site for each in found if each.role == "witness"} == set(witnesses)


def test_a_changed_set_of_members_is_refused_with_the_way_back(tmp_path) -> None:
    before = config_of(tmp_path, "a-1", {"a": ["a-1"], "b": ["b-1"]})
    assert founded(tmp_path, before) == founded(tmp_path, before)
    after = {"a": ["a-1"], "b": ["b-1"], "c": ["c-1"]}
    with pytest.raises(Conflict, match=r"consensus.members to \[a-1, b-1\]"):
        founded(tmp_path, config_of(tmp_path, "a-1", after))
    kept = config_of(tmp_path, "a-1", after, members=["a-1", "b-1"])
    assert founded(tmp_path, kept) == members_of(kept)


FOUR = {"london": ["london-1"], "paris": ["paris-1"], "rome": ["rome-1"], "oslo": ["oslo-1"]}


@pytest.fixture
async def four(tmp_path, request):
    made = World(tmp_path, FOUR, **request.param)
    for site in FOUR:
        made.start(f"{site}-1")
    yield made
    for node in list(made.members):
        await made.kill(node)
    for server in made.listening.values():
        server.close()


async def until(true) -> None:
    async with asyncio.timeout(30):
        while True:
            if true():
                return
            await asyncio.sleep(0.02)


async def agreed_by(world, mode: str) -> None:
    async with asyncio.timeout(60):
        while True:
            if (await world.client().cluster(deadline_s=10)).mode == mode:
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("four", [{"mode": "bft"}], indirect=True)
async def test_four_members_go_on_in_bft_and_outlive_one_that_is_killed(four) -> None:
    await agreed_by(four, "bft")
    client = four.client()
    await client.submit(SetPolicy(name="p", value="1"), by="operator:ann", deadline_s=30)
    view = await client.cluster()
    assert (view.part, view.configured, view.settled) == (1, "bft", True)
    await four.kill(next(node for node in four.members if node != "london-1"))
    await client.submit(SetPolicy(name="p", value="2"), by="operator:ann", deadline_s=30)
    assert await client.guests(deadline_s=30) == []


@pytest.mark.parametrize("four", [{"mode": "bft"}], indirect=True)
async def test_a_member_that_lies_says_nothing_in_anothers_name(four) -> None:
    """Over real links: rome's member proposes what it likes, with the keys that lie on its node."""
    client, liar = four.client(), four.members["rome-1"]
    await client.submit(DefineGuest(guest="web", definition="<d/>"), by="operator:ann", deadline_s=30)
    await until(lambda: len(liar._driver.shell.replica.state.nodes) == 4)
    terms = await client.terms(deadline_s=30)
    acquire = AcquireLease(node="london-1", after=0, boot="b", terms=terms.number)
    lease = await client.submit(acquire, by="node:london-1", deadline_s=30)
    start = StartGuest(guest="web", node="london-1", epoch=0)
    epoch = (await client.submit(start, by="node:london-1", deadline_s=30)).number
    await agreed_by(four, "bft")
    # A node that the members know by then renews as before, under the session that it has.
    renew = RenewLease(node="london-1", number=lease.number, renewal=1, terms=terms.number)
    await client.submit(renew, by="node:london-1", deadline_s=30)
    driver, state = liar._driver, liar._driver.shell.replica.state
    await until(lambda: state.leases["london-1"].renewal == 1)
    assert set(state.authors) == {"london-1"}
    (session,) = (each.id for each in state.sessions.values() if each.by == "node:london-1")
    secret, before = secret_in(four.folder / "rome-1" / "state", AUTHOR_FILE), snapshot_of_records(state)
    lies = [
        YieldLease(node="london-1", number=lease.number),
        StopGuest(guest="web", epoch=epoch),
        CommitMove(job="m"),
        Override(nodes=("london-1",), risk=risk_of(state, ("london-1",)), reason="r"),
        FailOver(guest="web", to="rome-1", epoch=epoch),
    ]
    for lie, (signer, sign) in itertools.product(
        lies, [("", None), ("node:london-1", secret.sign), ("member:1", secret.sign), ("member:3", liar._secret.sign)]
    ):
        if signer:
            entry = seal_signed(lie, signer, sign, by="node:london-1", session=session, number=40)
        else:
            entry = seal(lie, by="node:london-1", session=session, number=40)
        result = await driver.submit(entry, "a lie", 30)
        assert result.code in ("unsigned", "forged", "not-yours"), (lie, signer, result)
    for lie in lies:
        assert (await driver.submit(seal(lie, by="operator:ann"), "a lie", 30)).code == "unsigned"
    assert snapshot_of_records(state) == before
    renew = msgspec.structs.replace(renew, renewal=2)
    await client.submit(renew, by="node:london-1", deadline_s=30)


def snapshot_of_records(state) -> dict:
    return {name: dict(getattr(state, name)) for name in ("leases", "guests", "jobs", "nodes", "sessions", "authors")}


@pytest.mark.parametrize("four", [{"mode": "bft"}], indirect=True)
async def test_a_node_that_comes_in_bft_is_vouched_for_and_one_with_a_new_disk_again(four) -> None:
    await agreed_by(four, "bft")
    client = four.client()
    await client.submit(SetPolicy(name="p", value="1"), by="operator:ann", deadline_s=30)
    state = four.members["london-1"]._driver.shell.replica.state
    first = state.authors["london-1"].key
    assert "vouchnode" in {entry.command for entry in state.audit}
    (four.folder / "london-1" / "state" / AUTHOR_FILE).unlink()
    await four.client().submit(SetPolicy(name="p", value="2"), by="operator:ann", deadline_s=30)
    assert state.authors["london-1"].key != first
    # What runs with the key of before finds out, says the new one is not its own, and is vouched for as well.
    await client.submit(SetPolicy(name="p", value="3"), by="operator:ann", deadline_s=30)
    await until(lambda: state.policies["p"].value == "3")


class FromNode:
    """A directory as a node has it that is no member, whose nearest member tells it lies."""

    site = "london"

    def __init__(self, world, node, liar, lies) -> None:
        self.world, self.node, self.liar, self.lies = world, node, liar, lies
        self.on = world.on

    async def call(self, to, method, request, response, deadline_s):
        told = await self.world.call(to, method, request, response, deadline_s, by=self.node)
        return self.lies.get(method, told) if to.node == self.liar else told


async def test_what_one_member_says_is_not_believed_by_a_node_that_is_none(tmp_path) -> None:
    """Over real members: london's own may lie to london-2 as it likes."""
    world = World(tmp_path, {**FOUR, "london": ["london-1", "london-2"]}, mode="bft")
    for site in FOUR:
        world.start(f"{site}-1")
    await agreed_by(world, "bft")
    await world.client().submit(DefineGuest(guest="web", definition="<d/>"), by="operator:ann", deadline_s=30)
    lies = {
        "standing": StandingAnswer(right=Right.RUN, epoch=7),
        "lease": LeaseAnswer(lease=Lease(node="london-2", number=7, boot="b", terms=Terms())),
        "flags": FlagsAnswer(flags={"hde": Flag(component="hde", killed=True)}),
        "watch": Watched(events=[], revision=10**6),
    }
    config = config_of(tmp_path, "london-2", world.sites, mode="bft")
    client = StateClient(FromNode(world, "london-2", "london-1", lies), config)
    # What opens its session says is true; from then on the member lies of whatever it is given too.
    await client.submit(SetPolicy(name="p", value="x"), by="node:london-2", deadline_s=30)
    lies["submit"] = Outcome(index=7, number=7)
    assert await client.standing("web", "london-2", deadline_s=30) == Standing(Right.NONE, 0)
    assert await client.lease("london-2", deadline_s=30) is None
    terms = await client.terms(deadline_s=30)
    acquire = AcquireLease(node="london-2", after=0, boot="b", terms=terms.number)
    granted = await client.submit(acquire, by="node:london-2", deadline_s=30)
    assert (await client.lease("london-2", deadline_s=30)).number == granted.number > 7
    with pytest.raises(StateRefused) as no:
        await client.submit(StartGuest(guest="web", node="rome-1", epoch=0), by="node:london-2", deadline_s=30)
    assert no.value.refusal == "not-yours"
    await client.submit(SetFlag(component="acp", percent=30), by="operator:ann", deadline_s=30)
    assert set(await client.flags(deadline_s=30)) == {"acp"}
    events = (await client.watch(0, 5)).events
    assert ("flags", "acp") in {(event.table, event.key) for event in events}
    for node in list(world.members):
        await world.kill(node)
    for server in world.listening.values():
        server.close()


async def test_while_older_rules_are_in_force_nothing_is_signed_and_bft_waits(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chores, "VERSION", switching.SIGNED_SINCE - 1)
    monkeypatch.setattr(author, "_AGAIN_S", 0.1)
    world = World(tmp_path, FOUR, mode="bft")
    for site in FOUR:
        world.start(f"{site}-1")
    leader = world.members[await world.leader()]
    shell, client = leader._driver.shell, world.client()
    async with asyncio.timeout(30):
        while len(shell.replica.state.members) < 4 or not shell.leads:
            shell = world.members[await world.leader()]._driver.shell
            await asyncio.sleep(0.05)
    await client.submit(SetPolicy(name="p", value="1"), by="operator:ann", deadline_s=30)
    assert (shell.replica.state.cluster.version, shell.replica.state.authors) == (switching.SIGNED_SINCE - 1, {})
    asked = []
    monkeypatch.setattr(shell.core, "propose", lambda *what: asked.append(what))
    switch = Switching(leader._config.consensus, leader._distances)
    switch.look(shell, now_ms())
    assert asked == []
    monkeypatch.setattr(switching, "SIGNED_SINCE", switching.SIGNED_SINCE - 1)
    switch.look(shell, now_ms())
    assert len(asked) == 1
    monkeypatch.undo()
    # Their programs are put in place of the older ones, one after the other, and the same client signs from then on.
    for node in list(world.members):
        await world.kill(node)
        world.start(node)
    await agreed_by(world, "bft")
    await client.submit(SetPolicy(name="p", value="2"), by="operator:ann", deadline_s=30)
    state = world.members["london-1"]._driver.shell.replica.state
    await until(lambda: state.policies["p"].value == "2")
    assert set(state.authors) == {"london-1"}
    for node in list(world.members):
        await world.kill(node)
    for server in world.listening.values():
        server.close()


@pytest.mark.parametrize(
    "four", [{"mode": "adaptive", "switch_after_s": 1, "switch_rest_s": 1, "far": "internet"}], indirect=True
)
async def test_the_links_decide_which_protocol_it_is(four) -> None:
    await agreed_by(four, "bft")
    four.far = "datacenter"
    await agreed_by(four, "raft")
    assert (await four.client().cluster()).part == 2


def test_bft_needs_four_members(tmp_path) -> None:
    for mode in ("bft", "adaptive"):
        with pytest.raises(ValueError, match="needs 4 members"):
            config_of(tmp_path, "london-1", mode=mode)
