"""Whose answer a client believes: members of which one lies, over the real state machine and client."""

import asyncio
import contextlib
import itertools
import time

import msgspec
import pytest

from actors.calls.messages import Address
from actors.control import client as client_module
from actors.control import engine, hearing
from actors.control.client import StateClient
from actors.control.commands import AcquireLease, DefineGuest, LoggedCommand, SetFlag, SetPolicy, StartGuest, seal
from actors.control.decision import Event
from actors.control.follower import Follower
from actors.control.hearing import Watching
from actors.control.messages import (
    ClusterView,
    FlagsAnswer,
    GuestAnswer,
    LeaseAnswer,
    Outcome,
    StandingAnswer,
    TermsAnswer,
    TrailPage,
    TrailQuery,
    Watched,
)
from actors.control.model import Flag, Guest, Lease, Run, Terms
from actors.control.ownership import Right, Standing, standing
from actors.control.watch import History
from actors.errors import (
    ActorDown,
    BodyInvalid,
    GuestUnknown,
    NoMajority,
    NovaCronError,
    StateRefused,
)
from tests.kits.agreed import Agreed
from tests.unit.control.test_actor import config_of

SITES = {"oslo": ["oslo-1"], "london": ["london-1", "london-2"], "paris": ["paris-1"], "rome": ["rome-1"]}
MEMBERS = ["london-1", "oslo-1", "paris-1", "rome-1"]
"""As a client in london asks them."""
_commands: msgspec.msgpack.Decoder[LoggedCommand] = msgspec.msgpack.Decoder(LoggedCommand)


class Members:
    """A directory to members that have one state; those in `lies` answer with what their function gives or raises."""

    site = "london"

    def __init__(self) -> None:
        self.agreed = Agreed("london-1", "london-2", "paris-1", "rome-1", "oslo-1")
        self.history = History(self.agreed.state.revision)
        self.lies, self.down, self.asked = {}, set(), []
        self.delays: dict[str, float] = {}
        self.news = asyncio.get_running_loop().create_future()
        self.watched = asyncio.Event()

    def on(self, service, node):
        return Address(service=service, node=node)

    async def call(self, to, method, request, response, deadline_s):
        self.asked.append((to.node, method))
        await asyncio.sleep(self.delays.get(to.node, 0.0))
        if to.node in self.down:
            raise ActorDown(service=to.node, reason="it is down")
        lie = self.lies.get(to.node)
        told = lie(method, request) if lie is not None else None
        if told is not None:
            return told
        return await getattr(self, f"_{method}")(request)

    async def _submit(self, request):
        entry = seal(
            _commands.decode(request.command),
            by=request.by, session=request.session, number=request.number, at_ms=request.at_ms,
        )  # fmt: skip
        applied = engine.apply(self.agreed.state, self.agreed.state.applied + 1, entry)
        self.history.add(applied.events)
        result = applied.result
        if not result.accepted:
            raise StateRefused(refusal=result.code, detail=result.detail)
        return Outcome(index=result.index, number=result.number, detail=result.detail)

    async def _standing(self, request):
        found = standing(self.agreed.state, request.guest, request.node)
        return StandingAnswer(right=found.right, epoch=found.epoch)

    async def _guest(self, request):
        return GuestAnswer(guest=await self.agreed.guest(request.guest))

    async def _lease(self, request):
        return LeaseAnswer(lease=await self.agreed.lease(request.node))

    async def _terms(self, _):
        return TermsAnswer(terms=self.agreed.state.cluster.terms)

    async def _flags(self, _):
        # The order in tables is another one at each member.
        known = list(self.agreed.state.flags.items())
        return FlagsAnswer(flags=dict(known if len(self.asked) % 2 else reversed(known)))

    async def _watch(self, request):
        until = time.monotonic() + request.wait_s
        if request.after < self.history.floor:
            return Watched(events=[], revision=self.agreed.state.revision, forgotten=True)
        while not (events := self.history.after(request.after)) and (left_s := until - time.monotonic()) > 0:
            self.watched.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.news), left_s)
        return Watched(events=events, revision=max(request.after, self.agreed.state.revision))

    def must(self, command, by="operator:ann"):
        applied = engine.apply(self.agreed.state, self.agreed.state.applied + 1, seal(command, by=by))
        assert applied.result.accepted, applied.result
        self.history.add(applied.events)
        self.news.set_result(None)
        self.news = asyncio.get_running_loop().create_future()
        return applied.result.number


@pytest.fixture
async def members(monkeypatch):
    monkeypatch.setattr(hearing, "_PAUSE_S", 0.01)
    monkeypatch.setattr(hearing, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(client_module, "_PAUSE_S", 0.01)
    return Members()


def client_on(members, folder, node="london-2", mode="bft") -> StateClient:
    config = config_of(folder, node, SITES, members=sorted(MEMBERS), mode=mode)
    config.node.state_dir.mkdir(parents=True, exist_ok=True)
    return StateClient(members, config)


def running(members) -> int:
    """A guest that paris owns; its epoch."""
    members.agreed.lease_for("paris-1")
    members.agreed.lease_for("london-2")
    members.must(DefineGuest(guest="web", definition="<d/>"))
    return members.must(StartGuest(guest="web", node="paris-1", epoch=0))


LIES = {
    "standing": StandingAnswer(right=Right.RUN, epoch=7),
    "guest": GuestAnswer(
        guest=Guest(name="web", definition="<d/>", definition_number=1, run=Run.RUNNING, node="london-2", epoch=7)
    ),
    "lease": LeaseAnswer(lease=Lease(node="london-2", number=99, boot="b", terms=Terms())),
    "terms": TermsAnswer(terms=Terms(duration_ms=10**9, takeover="lease")),
    "flags": FlagsAnswer(flags={"hde": Flag(component="hde", percent=0, killed=True)}),
}
ASKS = {
    "standing": lambda client: client.standing("web", "london-2", deadline_s=5),
    "guest": lambda client: client.guest("web", deadline_s=5),
    "lease": lambda client: client.lease("london-2", deadline_s=5),
    "terms": lambda client: client.terms(deadline_s=5),
    "flags": lambda client: client.flags(deadline_s=5),
}


@pytest.mark.parametrize("mode", ["bft", "adaptive"])
@pytest.mark.parametrize("liar", MEMBERS)
@pytest.mark.parametrize("method", LIES)
async def test_one_member_that_lies_makes_a_node_believe_nothing(members, tmp_path, method, liar, mode) -> None:
    running(members)
    members.must(SetFlag(component="pba", percent=50))
    members.must(SetFlag(component="hde", percent=100))
    truth = await ASKS[method](client_on(members, tmp_path))
    members.lies[liar] = lambda asked, _: LIES[asked]
    assert await ASKS[method](client_on(members, tmp_path, mode=mode)) == truth


@pytest.mark.parametrize("error", [GuestUnknown(guest="web"), BodyInvalid(detail="junk"), NovaCronError(detail="x")])
async def test_nor_does_one_that_raises_what_is_not_so(members, tmp_path, error) -> None:
    epoch = running(members)

    def lie(*_):
        raise error

    members.lies["london-1"] = lie
    assert (await client_on(members, tmp_path).guest("web", deadline_s=5)).epoch == epoch
    # And what is so is believed of those that say it.
    members.lies["london-1"] = lambda *_: LIES["guest"]
    with pytest.raises(GuestUnknown, match="other"):
        await client_on(members, tmp_path).guest("other", deadline_s=5)


async def test_two_that_lie_alike_are_more_than_four_members_bear(members, tmp_path) -> None:
    """What the rule rests on: of four at most one lies."""
    running(members)
    members.lies = {"london-1": lambda asked, _: LIES[asked], "oslo-1": lambda asked, _: LIES[asked]}
    assert await ASKS["standing"](client_on(members, tmp_path)) == Standing(Right.RUN, 7)


async def test_the_own_members_word_counts_alone(members, tmp_path) -> None:
    epoch = running(members)
    client = client_on(members, tmp_path, "london-1")
    assert (await client.guest("web", deadline_s=5)).epoch == epoch
    assert members.asked == [("london-1", "guest")]


async def test_while_the_own_member_is_silent_the_others_are_not_believed_alone(members, tmp_path) -> None:
    running(members)
    members.down.add("london-1")
    members.lies["oslo-1"] = lambda asked, _: LIES[asked]
    client = client_on(members, tmp_path, "london-1")
    assert await client.standing("web", "london-1", deadline_s=5) == Standing(Right.NONE, 0)


@pytest.mark.parametrize("mode", ["raft", "auto"])
async def test_in_raft_one_member_is_asked(members, tmp_path, mode) -> None:
    members.agreed.lease_for("london-2")
    client = client_on(members, tmp_path, mode=mode)
    await client.terms(deadline_s=5)
    await client.watch(0)
    assert members.asked == [("london-1", "terms"), ("london-1", "watch")]
    await client.submit(SetPolicy(name="p", value="x"), by="operator:ann", deadline_s=5)
    assert {node for node, _ in members.asked} == {"london-1"}


async def test_answers_from_before_and_after_a_change_are_not_alike_until_all_have_it(members, tmp_path) -> None:
    running(members)
    before = await members._flags(None)
    members.must(SetFlag(component="hde", percent=30))
    late = iter([before])
    members.lies["oslo-1"] = lambda *_: next(late, None)
    members.down |= {"paris-1", "rome-1"}
    flags = await client_on(members, tmp_path).flags(deadline_s=5)
    assert flags["hde"].percent == 30
    assert [node for node, _ in members.asked].count("oslo-1") == 2


async def test_too_few_that_answer_are_no_answer(members, tmp_path) -> None:
    members.down |= {"oslo-1", "paris-1", "rome-1"}
    began = time.monotonic()
    with pytest.raises(NoMajority, match="it is down"):
        await client_on(members, tmp_path).terms(deadline_s=0.5)
    assert time.monotonic() - began < 5, "there is a deadline"
    members.down.clear()
    numbers = itertools.count(1)
    for node in MEMBERS:
        members.lies[node] = lambda *_: TermsAnswer(terms=Terms(number=next(numbers)))
    with pytest.raises(NoMajority, match="too few members say the same"):
        await client_on(members, tmp_path).terms(deadline_s=0.5)


async def test_a_silent_member_takes_nobody_elses_turn(members, tmp_path) -> None:
    members.delays["london-1"] = 60.0
    async with asyncio.timeout(5):
        await client_on(members, tmp_path).terms(deadline_s=60)


async def test_a_member_that_is_slower_is_waited_for(members, tmp_path, monkeypatch) -> None:
    """Whoever is asked besides would have an entry in everybody's log for it."""
    monkeypatch.setattr(hearing, "_PATIENCE_S", 60.0)
    members.delays["oslo-1"] = 0.1
    await client_on(members, tmp_path).terms(deadline_s=5)
    assert sorted(node for node, _ in members.asked) == ["london-1", "oslo-1"]


async def test_the_trail_and_the_view_are_one_members_word(members, tmp_path) -> None:
    shown = TrailPage(entries=[], count=9, upto=9)
    view = ClusterView(
        node="london-1", mode="bft", configured="bft", part=1, leader="", settled=True, term=1, last=1, commit=1,
        applied=1, revision=1, version=1, lineage=0, snapshot=1, members=[],
    )  # fmt: skip
    members.lies["london-1"] = lambda asked, _: {"audit": shown, "cluster": view}[asked]
    client = client_on(members, tmp_path)
    assert await client.audit(TrailQuery(), deadline_s=5) == shown
    assert await client.cluster(deadline_s=5) == view


# -- what became of a command ---------------------------------------------------------------------------------------


def _granted(asked, request):
    """Says that whatever is asked for is granted, and does nothing."""
    return Outcome(index=7, number=7) if asked == "submit" and request.session else None


@pytest.mark.parametrize("liar", MEMBERS)
async def test_a_lease_that_one_member_says_is_granted_is_not_held(members, tmp_path, liar) -> None:
    client = client_on(members, tmp_path)
    members.lies[liar] = _granted
    acquire = AcquireLease(node="london-2", after=0, boot="b", terms=members.agreed.state.cluster.terms.number)
    granted = await client.submit(acquire, by="node:london-2", deadline_s=5)
    assert granted.number == members.agreed.state.leases["london-2"].number


async def test_a_grant_that_nobody_honest_has_agreed_on_is_none(members, tmp_path) -> None:
    members.lies["london-1"] = _granted
    client = client_on(members, tmp_path)
    await client.submit(SetPolicy(name="p", value="x"), by="node:london-2", deadline_s=5)
    members.down |= {"oslo-1", "paris-1", "rome-1"}
    with pytest.raises(NoMajority) as no:
        await client.submit(StartGuest(guest="web", node="london-2", epoch=0), by="node:london-2", deadline_s=0.5)
    assert no.value.fields["outcome"] == "unknown"


async def test_nobody_is_believed_alone_that_nothing_was_done(members, tmp_path) -> None:
    client = client_on(members, tmp_path)
    await client.submit(SetPolicy(name="p", value="x"), by="node:london-2", deadline_s=5)

    def lie(*_):
        raise NoMajority(what="it", deadline_s=1, outcome="not done", reason="so it says")

    for node in MEMBERS:
        members.lies[node] = lie
    with pytest.raises(NoMajority) as no:
        await client.submit(SetPolicy(name="p", value="y"), by="node:london-2", deadline_s=0.5)
    assert no.value.fields["outcome"] == "unknown"


@pytest.mark.parametrize("refusal", ["stale", "session-unknown", "unsigned", "full"])
async def test_a_refusal_that_one_member_makes_up_is_not_believed(members, tmp_path, refusal) -> None:
    def lie(asked, request):
        if asked == "submit" and (request.session or refusal == "full"):
            raise StateRefused(refusal=refusal, detail="a lie")

    members.lies["london-1"] = lie
    client = client_on(members, tmp_path)
    await client.submit(SetPolicy(name="p", value="x"), by="node:london-2", deadline_s=5)
    assert members.agreed.state.policies["p"].value == "x"
    # And what the rules refuse is refused.
    with pytest.raises(StateRefused) as no:
        await client.submit(StartGuest(guest="web", node="london-2", epoch=0), by="node:london-2", deadline_s=5)
    assert no.value.refusal == "unknown"


async def test_a_session_that_one_member_makes_up_is_asked_for_elsewhere(members, tmp_path) -> None:
    members.lies["london-1"] = lambda asked, _: Outcome(index=7, number=7) if asked == "submit" else None
    client = client_on(members, tmp_path)
    # One member says that it was done, the others know no such session: it might have been done before they forgot it.
    with pytest.raises(StateRefused) as no:
        await client.submit(SetPolicy(name="p", value="0"), by="node:london-2", deadline_s=10)
    assert (no.value.refusal, no.value.fields["doubt"]) == ("session-unknown", 1)
    for value in ("1", "2"):
        await client.submit(SetPolicy(name="p", value=value), by="node:london-2", deadline_s=10)
        assert members.agreed.state.policies["p"].value == value


# -- what has changed -----------------------------------------------------------------------------------------------


def _event(revision: int, component: str = "hde") -> Event:
    return Event(revision, "flags", component, Flag(component="hde", percent=0, killed=True))


async def test_events_that_one_member_makes_up_are_not_told(members, tmp_path) -> None:
    after = members.agreed.state.revision
    members.lies["london-1"] = lambda *_: Watched(events=[_event(10**6)], revision=10**6)
    watching = asyncio.create_task(client_on(members, tmp_path).watch(after, 20))
    await members.watched.wait()
    members.must(SetFlag(component="pba", percent=50))
    told = await asyncio.wait_for(watching, 5)
    assert [event.key for event in told.events] == ["pba"]
    assert told.revision == members.agreed.state.revision


async def test_one_that_hides_what_has_changed_keeps_nobody_from_it(members, tmp_path) -> None:
    after = members.agreed.state.revision
    members.lies["london-1"] = lambda _, request: Watched(events=[], revision=request.after)
    watching = asyncio.create_task(client_on(members, tmp_path).watch(after, 20))
    await members.watched.wait()
    members.must(SetFlag(component="pba", percent=50))
    told = await asyncio.wait_for(watching, 5)
    assert [event.key for event in told.events] == ["pba"]


async def test_without_news_a_watch_ends_where_it_began(members, tmp_path) -> None:
    after = members.agreed.state.revision
    assert await client_on(members, tmp_path).watch(after, 0.1) == Watched(events=[], revision=after)


def test_what_members_tell_is_believed_as_far_as_enough_tell_it() -> None:
    watching = Watching(2, "here", 10, time.monotonic() - 1)
    assert watching.counted("a", Watched(events=[_event(11), _event(14)], revision=14)) is None
    assert watching.counted("a", Watched(events=[_event(11), _event(14)], revision=14)) is None, "one is not two"
    assert watching.counted("b", Watched(events=[_event(11, "amst")], revision=12)) is None
    told = watching.counted("c", Watched(events=[_event(11)], revision=12))
    assert told == Watched(events=[_event(11)], revision=12)


def test_one_that_names_each_revision_by_itself_holds_nobody_up() -> None:
    watching = Watching(2, "here", 10, time.monotonic() + 60)
    assert watching.counted("a", Watched(events=[_event(20)], revision=21)) is None
    assert watching.counted("liar", Watched(events=[], revision=11)) is None
    assert watching.counted("c", Watched(events=[_event(20)], revision=20)) == Watched(events=[_event(20)], revision=20)
    # Without news they go on from there: renewals of leases are no events.
    watching = Watching(2, "here", 10, time.monotonic() + 60)
    assert watching.counted("a", Watched(events=[], revision=15)) is None
    assert watching.counted("b", Watched(events=[], revision=14)) == Watched(events=[], revision=14)


def test_what_is_forgotten_is_gone_on_from_no_later_than_an_honest_member_says() -> None:
    watching = Watching(2, "here", 10, time.monotonic() + 60)
    assert watching.counted("a", Watched(events=[], revision=10**9, forgotten=True)) is None
    assert watching.counted("b", Watched(events=[_event(50)], revision=50)) is None
    found = watching.counted("c", Watched(events=[], revision=60, forgotten=True))
    assert found == Watched(events=[], revision=60, forgotten=True)


async def test_a_flag_reaches_a_node_whose_nearest_member_lies(members, tmp_path) -> None:
    kept: asyncio.Queue[dict[str, Flag]] = asyncio.Queue()

    class Flags(Follower):
        async def renew(self) -> None:
            kept.put_nowait(await client.flags(deadline_s=5))

    def lie(asked, request):
        return Watched(events=[], revision=request.after + 10**6) if asked == "watch" else LIES["flags"]

    members.lies["london-1"] = lie
    client = client_on(members, tmp_path)
    task = asyncio.create_task(Flags(client, "flags", ("flags",)).run())
    async with asyncio.timeout(10):
        assert await kept.get() == {}
        members.must(SetFlag(component="acp", percent=100, killed=True))
        assert set(await kept.get()) == {"acp"}
    task.cancel()
