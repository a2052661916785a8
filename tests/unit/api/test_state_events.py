"""The stream of what the agreed state becomes."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from actors.control.decision import Event
from actors.control.messages import Watched
from actors.control.model import Flag, Guest, Lease, LeaseState, Member, Run, Terms
from actors.errors import NoMajority, Refused
from api.state_events import as_sse, follow
from tests.unit.api.fake import AUTHORIZED, FakeBackend

OWNED = Guest(name="web1", definition="<domain/>" * 100, node="paris1", run=Run.RUNNING, epoch=9)
ENDED = Lease(node="madrid1", number=3, state=LeaseState.OVERRIDDEN, boot="b", terms=Terms())
FLAG = Flag(component="hde", percent=10, nodes_off=frozenset({"paris1", "madrid1"}))
MEMBER = Member(number=1, node="madrid1", site="madrid", key="ab" * 32)
AWAY = NoMajority(what="the answer to watch", deadline_s=1.0, outcome="unknown", reason="nobody answers")
EVENTS = [
    Event(8, "leases", "madrid1", ENDED),
    Event(9, "guests", "web1", OWNED),
    Event(9, "replicas", "web1/paris1", None),
    Event(10, "flags", "hde", FLAG),
    Event(11, "members", "1", MEMBER),
]


class Changing(FakeBackend):
    """Members that keep these events from revision `floor` on; `outages` are raised first."""

    kept: list[Event]
    floor: int

    async def watch(self, after: int, wait_s: float) -> Watched:
        await asyncio.sleep(0)
        if self.outages:
            raise self.outages.pop(0)
        revision = self.kept[-1].revision
        if after < self.floor:
            return Watched(events=[], revision=revision, forgotten=True)
        return Watched(events=[one for one in self.kept if one.revision > after], revision=max(after, revision))


@pytest.fixture
def changing() -> Changing:
    found = Changing()
    found.kept, found.floor = list(EVENTS), 5
    return found


async def take(stream: AsyncIterator[Watched]) -> list[int]:
    async with asyncio.timeout(20):
        return [event.revision for event in (await anext(stream)).events]


async def told(backend: Changing, count: int, after: int | None, tables: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    stream = as_sse(backend, after, tables, "/v1/events")
    async with asyncio.timeout(20):
        return [(one.event, one.id) for one in [await anext(stream) for _ in range(count)]]


async def test_it_goes_on_after_a_revision_and_says_nothing_twice(changing: Changing) -> None:
    stream = follow(changing, 9)
    assert await take(stream) == [10, 11]
    changing.kept.append(Event(14, "guests", "web1", None))
    assert await take(stream) == [14]


async def test_without_a_revision_it_begins_with_the_next_change(changing: Changing) -> None:
    changing.kept = changing.kept[:1]
    assert changing.control.revision == 7
    assert await take(follow(changing, None)) == [8]


async def test_what_one_command_changed_is_one_event(changing: Changing) -> None:
    stream = as_sse(changing, 8, (), "/v1/events")
    one = await anext(stream)
    assert (one.event, one.id) == ("changed", "9")
    owner, replica = one.data.changes
    assert (owner.table, owner.key, owner.record["node"], owner.record["epoch"]) == ("guests", "web1", "paris1", 9)
    assert "definition" not in owner.record
    assert (replica.table, replica.key, replica.record) == ("replicas", "web1/paris1", None)
    assert (await anext(stream)).data.changes[0].record["nodes_off"] == ["madrid1", "paris1"]


async def test_only_some_tables(changing: Changing) -> None:
    assert await told(changing, 2, 5, ("leases", "members")) == [("changed", "8"), ("changed", "11")]


async def test_what_is_not_kept_any_more_is_told_first(changing: Changing) -> None:
    changing.floor = 11
    assert await told(changing, 1, 3) == [("forgotten", "11")]


async def test_members_that_are_away_for_a_while_are_waited_for(changing: Changing) -> None:
    changing.outages = [AWAY, AWAY]
    assert await take(follow(changing, 10, retry_s=0.0)) == [11]
    changing.outages = [AWAY, AWAY]
    with pytest.raises(NoMajority):
        await take(follow(changing, 10, retry_s=0.0, patience_s=-1.0))


async def test_what_is_wrong_is_said_and_ends_it(changing: Changing) -> None:
    changing.outages = [Refused(detail="not here")]
    events = [event async for event in as_sse(changing, 0, (), "/v1/events")]
    assert [(event.event, event.data.code) for event in events] == [("problem", "refused")]


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({}, {"Authorization": ""}, 401),
        ({"after": "-1"}, AUTHORIZED, 400),
        ({"table": "sessions"}, AUTHORIZED, 400),
        ({}, AUTHORIZED | {"Last-Event-ID": "x"}, 400),
    ],
)
async def test_over_http_it_wants_a_token_a_revision_and_tables(
    client: httpx2.AsyncClient, params: dict[str, str], headers: dict[str, str], status: int
) -> None:
    assert (await client.get("/v1/events", params=params, headers=headers)).status_code == status
