"""The actor's door: requests as other actors send them, on an actor made without Ray."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import pytest

from actors.calls.messages import Caller, Empty, Reply
from actors.errors import BadRequest, LinkDown, NodeUnknown, NovaCronError, Refused, error_from
from actors.transport.actor import TransportStreams, ray_dispatch
from actors.transport.messages import (
    Connect,
    Expose,
    Forward,
    LinksQuery,
    LinkState,
    LinkStates,
    PeerAnswer,
    PeerCall,
    Tag,
)
from tests.unit.transport.nodes import Lab, echo

ME = Caller(node="a", site="rome", same_site=True)
_Answer = TypeVar("_Answer", bound=msgspec.Struct)


async def ask(
    actor: TransportStreams, method: str, request: msgspec.Struct, answer: type[_Answer], caller: Caller = ME
) -> _Answer:
    async with asyncio.timeout(20):
        raw = await actor.serve(caller, method, msgspec.msgpack.encode(request))
    reply = msgspec.msgpack.decode(raw, type=Reply)
    if reply.error:
        raise error_from(reply.error, reply.fields)
    return msgspec.msgpack.decode(reply.body, type=answer)


@asynccontextmanager
async def actors(lab: Lab) -> AsyncIterator[tuple[TransportStreams, TransportStreams]]:
    pair = TransportStreams(lab.config("a"), dispatch=echo), TransportStreams(lab.config("b"), dispatch=echo)
    yield pair
    for actor in pair:
        await ask(actor, "stop", Empty(), Empty)


async def test_a_forward_from_order_to_close(lab: Lab) -> None:
    async with actors(lab) as (a, b):
        await ask(b, "start", Empty(), Empty)
        state = await ask(a, "connect", Connect(peer="b", streams=2), LinkState)
        assert (state.state, state.streams, state.site, state.peer_site) == ("up", 2, "rome", "paris")

        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.close()

        far, near = str(lab.folder / "far"), str(lab.folder / "near")
        async with await asyncio.start_unix_server(shout, far):
            await ask(b, "expose", Expose(tag="t", service="libvirt:t", connect_path=far, peer="a"), Empty)
            await ask(
                a, "forward", Forward(tag="t", listen_path=near, peer="b", service="libvirt:t", priority=1), Empty
            )
            reader, writer = await asyncio.open_unix_connection(near)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"HELLO"
        for _ in range(2):
            await ask(a, "close", Tag(tag="t"), Empty)
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(near)
        links = await ask(a, "links", LinksQuery(), LinkStates)
        assert [(link.peer, link.state) for link in links.links] == [("b", "up")]


async def test_a_peer_call_is_answered_by_the_peers_dispatch(lab: Lab) -> None:
    async with actors(lab) as (a, b):
        await ask(b, "start", Empty(), Empty)
        order = PeerCall(peer="b", service="agent", method="look", body=b"!", deadline_s=10.0)
        answer = await ask(a, "peer_call", order, PeerAnswer)
        assert msgspec.msgpack.decode(answer.reply, type=Reply).body == b"a/rome/False:agent.look:!"


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        ("connect", Connect(peer="nobody"), NodeUnknown),
        ("connect", Connect(peer="b", streams=1000), BadRequest),
        ("forward", Forward(tag="t", listen_path="x", peer="b", service="s", priority=8), BadRequest),
        ("expose", Expose(tag="t", service="s", connect_path="/x", peer="nobody"), NodeUnknown),
        ("peer_call", PeerCall(peer="b", service="s", method="m", body=b"", deadline_s=0.3), LinkDown),
    ],
)
async def test_bad_orders_are_answered_with_their_error(
    lab: Lab, method: str, request_: msgspec.Struct, error: type[NovaCronError]
) -> None:
    a = TransportStreams(lab.config("a"), dispatch=echo)
    with pytest.raises(error):
        await ask(a, method, request_, Empty)
    await ask(a, "stop", Empty(), Empty)


async def test_other_sites_may_order_nothing(lab: Lab) -> None:
    a = TransportStreams(lab.config("a"), dispatch=echo)
    stranger = Caller(node="b", site="paris", same_site=False)
    for method, order in (("links", LinksQuery()), ("close", Tag(tag="t")), ("stop", Empty())):
        with pytest.raises(Refused):
            await ask(a, method, order, Empty, caller=stranger)
    await ask(a, "stop", Empty(), Empty)


@pytest.mark.parametrize("service", ["agent@a", "", "../x", "Agent", "a" * 64])
async def test_a_peer_can_name_services_of_this_node_only(service: str) -> None:
    with pytest.raises(BadRequest):
        await ray_dispatch("b")(ME, service, "look", b"")
