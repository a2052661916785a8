"""The facts actors of two sites: told at once, equal after a cut, and deaf to what makes no sense."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from actors.calls.messages import Caller, Empty
from actors.control.model import Flag
from actors.errors import BadRequest, LinkDown, Refused, StreamCorrupt
from actors.flags import file
from actors.flags.file import write_flags
from actors.hypervisor.messages import NodeFacts
from actors.migration.messages import Scope, Sites
from actors.sync import actor, feed, peering
from actors.sync.actor import FactsKeeper
from actors.sync.client import FactsClient
from actors.sync.clock import Stamp
from actors.sync.engine import Exchange
from actors.sync.messages import FactsQuery, PutFact, Step, Steps
from actors.sync.records import LinkFact, record_of
from actors.sync.values import Register
from actors.transport.messages import LinkSample
from tests.unit.migration.site import Calls, TwoSites, config

LEFT, RIGHT = "a1", "b1"


async def until(what: str, ask: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Wait until `ask` gives something true."""
    async with asyncio.timeout(deadline_s):
        while not ask():  # noqa: ASYNC110  any state at all, nothing announces it
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering, "COMPARE_S", 0.1)
    monkeypatch.setattr(peering, "AGAIN_S", 0.1)
    monkeypatch.setattr(actor, "_HINTS_S", 0.05)


@pytest.fixture
async def cluster(tmp_path: Path) -> TwoSites:
    return TwoSites(tmp_path)


class Keepers:
    """The facts actors, started and ended as Ray does."""

    def __init__(self, cluster: TwoSites, state_dir: Path) -> None:
        self.world = cluster.world
        self._state_dir = state_dir

    def start(self, lead: str) -> FactsKeeper:
        keeper = FactsKeeper(config(lead, self._state_dir), Calls(lead, self.world))
        self.world.services["facts", lead] = keeper
        return keeper

    async def end(self, lead: str) -> None:
        await self.at(lead).close()
        del self.world.services["facts", lead]

    def at(self, lead: str) -> FactsKeeper:
        keeper = self.world.services["facts", lead]
        assert isinstance(keeper, FactsKeeper)
        return keeper

    def client(self, lead: str) -> FactsClient:
        return FactsClient(Calls(lead, self.world))

    async def read(self, lead: str, key: str) -> object:
        found = await self.client(lead).find(FactsQuery(prefix=key))
        return next((fact.value for fact in found.facts if fact.key == key), None)

    def equal(self) -> bool:
        left, right = self.at(LEFT)._facts, self.at(RIGHT)._facts
        return left.digest("") == right.digest("") and len(left) > 0

    def reachable(self) -> bool:
        return all(keeper._peering.states()[0].reachable for keeper in (self.at(LEFT), self.at(RIGHT)))


@asynccontextmanager
async def running(cluster: TwoSites, state_dir: Path) -> AsyncIterator[Keepers]:
    for lead in (LEFT, RIGHT):  # `next_to` for the agents' state: the same folders as the managers'
        (state_dir / lead).mkdir(exist_ok=True)
    keepers = Keepers(cluster, state_dir)
    keepers.start(LEFT)
    keepers.start(RIGHT)
    try:
        yield keepers
    finally:
        for lead in (LEFT, RIGHT):
            await keepers.end(lead)


async def test_what_one_site_writes_the_other_knows_at_once(cluster, tmp_path, monkeypatch):
    async with running(cluster, tmp_path) as keepers:
        await until("both exchange", lambda: keepers.reachable() and keepers.equal())
        # From here on only deltas can bring anything.
        monkeypatch.setattr(peering, "COMPARE_S", 3600.0)
        await until("no comparison is due", lambda: _due_s(keepers) > 600.0)
        await keepers.client(LEFT).put("telemetry/x", {"load": 0.5})
        await until("it is told", lambda: keepers.at(RIGHT)._facts.read("telemetry/x") is not None)
        assert await keepers.read(RIGHT, "telemetry/x") == {"load": 0.5}
        await keepers.client(RIGHT).put("telemetry/x", None)
        await until("it is removed", lambda: keepers.at(LEFT)._facts.read("telemetry/x") is None)


def _due_s(keepers: Keepers) -> float:
    now_s = asyncio.get_running_loop().time()
    return min(peer.due_s - now_s for lead in (LEFT, RIGHT) for peer in keepers.at(lead)._peering._peers.values())


async def test_both_sides_write_during_a_cut_and_are_the_same_afterwards(cluster, tmp_path):
    async with running(cluster, tmp_path) as keepers:
        await until("equal", keepers.equal)
        cluster.world.cut.add("right")
        await keepers.client(LEFT).put("hint/shared", "left")
        for number in range(50):
            await keepers.client(LEFT).put(f"hint/left-{number}", number)
            await keepers.client(RIGHT).put(f"hint/right-{number}", number)
        await keepers.client(RIGHT).put("hint/shared", "right")
        await until("both notice", lambda: not keepers.reachable())
        assert not keepers.equal()
        assert await keepers.read(LEFT, "hint/shared") == "left"
        cluster.world.cut.clear()
        await until("equal again", keepers.equal)
        assert await keepers.read(LEFT, "hint/shared") == await keepers.read(RIGHT, "hint/shared") == "right"
        assert await keepers.read(RIGHT, "hint/left-49") == 49


async def test_equal_replicas_exchange_a_digest_and_nothing_else(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "EVERY_S", 3600.0)
    async with running(cluster, tmp_path) as keepers:
        await until("equal and quiet", lambda: keepers.equal() and keepers.reachable())
        state = keepers.at(LEFT)._peering.states
        await until("found equal", lambda: state()[0].equal_at > 0)
        before = state()[0]
        await until("compared ten times", lambda: state()[0].comparisons >= before.comparisons + 10)
        told = state()[0].sent_bytes - before.sent_bytes
        digest = len(Exchange(keepers.at(LEFT)._facts).begin())
        assert digest <= 21
        assert told == digest * (state()[0].comparisons - before.comparisons)


async def test_a_site_writes_its_nodes_links_and_stores(cluster, tmp_path):
    sample = LinkSample(
        at=time.time(), rtt_ms=50.25, jitter_ms=0.1, sent_bytes=1, acked_bytes=9_000_000, busy_share=1.0, retransmits=0
    )
    cluster.service("transport", "a1").samples.append(sample)
    cluster.world.down.add(("agent", "a2"))
    async with running(cluster, tmp_path) as keepers:
        wanted = {"node/a1", "node/a2", "node/b1", "link/a1/b1", "series/a1/b1", "store/a1", "store/b1"}
        await until("all are known at the other site", lambda: wanted <= set(keepers.at(RIGHT)._facts.keys("")))
        found = {fact.key: fact for fact in (await keepers.client(RIGHT).find(FactsQuery())).facts}
        node = record_of(found["node/a1"], NodeFacts)
        assert (node.node, node.free_mib, node.state) == ("a1", 8192, "up")
        assert 0 <= node.age_s < 20
        assert record_of(found["node/a2"], NodeFacts).state == "down"
        assert record_of(found["link/a1/b1"], LinkFact).rtt_ms == 50.25
        assert found["series/a1/b1"].kind == "series"
        assert found["series/a1/b1"].value[0][1] == [50.2, 9_000_000, 1.0, 0.0]
        assert found["store/b1"].value["blocks"] == 17
        assert record_of(found["store/b1"], LinkFact) is None


async def test_other_sites_are_shown_without_asking_them_and_with_their_age(cluster, tmp_path):
    async with running(cluster, tmp_path) as keepers:
        await until("the other site has told", lambda: keepers.at(LEFT)._facts.read("node/b1") is not None)
        cluster.world.log.clear()
        right = (await cluster.ask("sites", Scope(), Sites)).sites[1]
        assert (right.name, right.state, right.nodes[0].free_mib) == ("right", "up", 8192)
        assert ("manager", "b1", "sites") not in cluster.world.log
        cluster.world.cut.add("right")
        stale = msgspec.json.encode(msgspec.structs.replace(right.nodes[0], age_s=0.0))
        await until("the cut is noticed", lambda: not keepers.reachable())
        long_ago = int(time.time() * 1000) - 100_000
        keepers.at(LEFT)._facts.forget(long_ago + 8 * 86_400_000)
        old = Register(Stamp(long_ago, 0, "b1.life"), stale)
        keepers.at(LEFT)._facts.merge({"node/b1": old}, long_ago)
        right = (await cluster.ask("sites", Scope(), Sites)).sites[1]
        assert (right.state, right.nodes[0].state, right.nodes[0].free_mib) == ("unreachable", "down", 8192)
        assert right.nodes[0].age_s >= 100
        assert "no route" in right.reason


async def test_hints_survive_the_restart_of_every_site(cluster, tmp_path):
    async with running(cluster, tmp_path) as keepers:
        await keepers.client(LEFT).put("hint/rack", "b7")
        await keepers.client(LEFT).put("hint/gone", "x")
        await keepers.client(LEFT).put("hint/gone", None)
        await until("the other site keeps it too", (tmp_path / RIGHT / "hints.msgpack").exists)
        writer = keepers.at(LEFT)._facts.clock.writer
        for lead in (LEFT, RIGHT):
            await keepers.end(lead)
        for lead in (LEFT, RIGHT):
            keepers.start(lead)
        assert await keepers.read(LEFT, "hint/rack") == "b7"
        assert await keepers.read(LEFT, "hint/gone") is None
        assert keepers.at(LEFT)._facts.clock.writer != writer
        assert keepers.at(LEFT)._facts.get("hint/rack").stamp.writer == writer
        (tmp_path / LEFT / "hints.msgpack").write_bytes(b"\x81nonsense")
        await keepers.end(LEFT)
        keepers.start(LEFT)
        await until("the other site tells it", lambda: keepers.at(LEFT)._facts.read("hint/rack") == b'"b7"')


async def test_what_makes_no_sense_is_refused_and_the_site_not_heard_for_a_while(cluster, tmp_path):
    async with running(cluster, tmp_path) as keepers:
        await until("equal", keepers.equal)
        keeper = keepers.at(LEFT)

        async def say(message: bytes, node: str = RIGHT, site: str = "right") -> Steps:
            return await keeper._peering.receive(site, node, Step(message=message))

        for node, site in ((RIGHT, "left"), ("b2", "right"), (LEFT, "left")):
            with pytest.raises(Refused, match="lead nodes"):
                await say(b"\x90", node, site)
        with pytest.raises(StreamCorrupt):
            await say(b"no message")
        with pytest.raises(Refused, match="heard again"):
            await say(b"\x90")
        assert keeper._peering.states()[0].refused == 1
        caller = Caller(node=RIGHT, site="right", same_site=False)
        raw = await keeper.serve(caller, "put", msgspec.msgpack.encode(PutFact(key="hint/x", value=b"1")))
        assert b"not open to other sites" in raw


async def test_a_site_that_says_too_much_is_held_back(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(peering, "PATIENCE_S", 0.0)
    async with running(cluster, tmp_path) as keepers:
        await until("equal", keepers.equal)
        keeper = keepers.at(LEFT)
        message = b"\x90"
        with pytest.raises(Refused, match="bytes per second"):
            for _ in range(2000):
                await keeper._peering.receive("right", RIGHT, Step(message=message))


async def test_what_is_no_json_is_refused(cluster, tmp_path):
    async with running(cluster, tmp_path):
        calls = Calls(LEFT, cluster.world)
        with pytest.raises(BadRequest, match="no JSON"):
            await calls.call(calls.central("facts"), "put", PutFact(key="hint/x", value=b"{"), Empty, 5.0)


async def test_a_site_that_is_away_is_told_nothing(cluster, tmp_path):
    async with running(cluster, tmp_path) as keepers:
        await until("equal", keepers.equal)
        cluster.world.cut.add("right")
        await until("noticed", lambda: not keepers.at(LEFT)._peering.states()[0].reachable)
        await keepers.client(LEFT).put("telemetry/x", 1)
        assert not keepers.at(LEFT)._peering._peers["right"].pending
        assert "no route" in keepers.at(LEFT)._peering.states()[0].reason
        with pytest.raises(LinkDown):
            await Calls(LEFT, cluster.world).call(
                Calls(LEFT, cluster.world).central("facts", "right"), "exchange", Step(message=b"\x90"), Steps, 1.0
            )


async def test_a_site_whose_flag_is_off_neither_tells_nor_listens(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    async with running(cluster, tmp_path) as keepers:
        await until("equal", keepers.equal)
        write_flags(tmp_path / RIGHT, {"ass": Flag(component="ass", killed=True)})
        await until("the other site is refused", lambda: not keepers.at(LEFT)._peering.states()[0].reachable)
        assert "switched off" in keepers.at(LEFT)._peering.states()[0].reason
        assert not (await keepers.client(RIGHT).state()).exchanging
        await keepers.client(LEFT).put("telemetry/x", 1)
        await keepers.client(RIGHT).put("telemetry/y", 1)
        assert await keepers.read(RIGHT, "telemetry/x") is None
        write_flags(tmp_path / RIGHT, {"ass": Flag(component="ass")})
        await until("both are told", lambda: keepers.at(RIGHT)._facts.read("telemetry/x") is not None)
        await until("of both", lambda: keepers.at(LEFT)._facts.read("telemetry/y") is not None)
