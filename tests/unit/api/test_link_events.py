"""The stream of the links' changes of mode."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from actors.errors import ActorDown, Refused
from actors.migration.messages import Links
from actors.transport.modes import Switch
from api.link_events import as_sse, follow
from api.models import LinkSwitchView
from tests.unit.api.fake import AUTHORIZED, LINK, FakeBackend


def switch(at: float) -> Switch:
    return Switch(at=at, before="hybrid", after="datacenter", reason="forced")


class Switching(FakeBackend):
    """One link whose transport keeps these switches; `outages` are raised first."""

    kept: list[Switch]
    asked: asyncio.Event

    async def links(self) -> Links:
        self.asked.set()
        if self.outages:
            raise self.outages.pop(0)
        return Links(links=[msgspec.structs.replace(LINK, link=msgspec.structs.replace(LINK.link, switches=self.kept))])


@pytest.fixture
def switching() -> Switching:
    found = Switching()
    found.kept, found.asked = [switch(1.0), switch(2.5)], asyncio.Event()
    return found


async def take(stream: AsyncIterator[LinkSwitchView], count: int) -> list[float]:
    async with asyncio.timeout(20):
        return [(await anext(stream)).at for _ in range(count)]


async def test_without_an_id_it_begins_with_the_next_change(switching: Switching) -> None:
    stream = follow(switching, None, poll_s=0.001)
    coming = asyncio.create_task(take(stream, 1))
    await switching.asked.wait()
    switching.kept = [*switching.kept, switch(4.0)]
    assert await coming == [4.0]


async def test_it_goes_on_after_an_id_and_says_nothing_twice(switching: Switching) -> None:
    stream = follow(switching, 1000, poll_s=0.001)
    assert await take(stream, 1) == [2.5]
    # The transport keeps only so many: the oldest goes.
    switching.kept = [*switching.kept[1:], switch(2.6), switch(2.7)]
    assert await take(stream, 2) == [2.6, 2.7]


async def test_a_manager_that_is_away_for_a_while_is_waited_for(switching: Switching) -> None:
    switching.outages = [ActorDown(service="manager", reason="killed"), ActorDown(service="manager", reason="killed")]
    assert await take(follow(switching, 0, poll_s=0.0), 2) == [1.0, 2.5]


async def test_one_that_stays_away_ends_it_with_the_reason(switching: Switching) -> None:
    switching.outages = [ActorDown(service="manager", reason="killed")] * 2
    with pytest.raises(ActorDown):
        await take(follow(switching, 0, poll_s=0.0, patience_s=-1.0), 1)


async def test_as_server_sent_events(switching: Switching) -> None:
    events = as_sse(switching, 1000, "/v1/links/events")
    first = await anext(events)
    assert (first.event, first.id, first.data.node, first.data.peer) == ("mode", "2500", "madrid1", "paris1")
    await events.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_what_is_wrong_is_said_and_ends_it(switching: Switching) -> None:
    switching.outages = [Refused(detail="not here")]
    events = [event async for event in as_sse(switching, 0, "/v1/links/events")]
    assert [(event.event, event.data.code) for event in events] == [("problem", "refused")]


async def test_over_http_it_wants_a_token_and_a_number(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/links/events", headers={"Authorization": ""})).status_code == 401
    answer = await client.get("/v1/links/events", headers=AUTHORIZED | {"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
