"""Sessions over real TLS sockets: conformance, lost connections, cuts, restarts, NAT."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actors.control.model import Flag
from actors.errors import LinkDown, NodeUnknown
from actors.flags.file import write_flags
from actors.transport import dialer
from actors.transport.channel_stream import ByteStream, ChannelReset, ChannelStream
from actors.transport.hub import Hub
from actors.transport.peer_session import PeerSession
from tests.kits.byte_stream import check, read_all
from tests.kits.relay import Relay, relay_to
from tests.unit.transport.nodes import FAST, Lab, running, session_of, until

PATIENT = FAST.model_copy(update={"dead_after_s": 30.0, "resume_s": 60.0})
"""No connection is lost but those that the test kills."""


@asynccontextmanager
async def relayed(lab: Lab, bytes_per_s: int = 0) -> AsyncIterator[tuple[Hub, Hub, Relay]]:
    """Node a reaches b through a relay."""
    async with relay_to(lab.ports["b"], bytes_per_s) as relay:
        lab.reach["a"] = 1  # only a can dial, or b would heal a cut past the relay
        b = lab.hub("b")
        lab.reach["b"] = relay.port
        a = lab.hub("a")
        async with running(a, b):
            yield a, b, relay


async def channel_pair(a: Hub, b: Hub, priority: int = 2) -> tuple[ChannelStream, ChannelStream]:
    """A channel from a to b, caught before it reaches the forwards of b."""
    session = await a.session_to("b", 10)
    far: asyncio.Future[ChannelStream] = asyncio.get_running_loop().create_future()
    session_of(b, "a")._on_channel = lambda _session, stream, _service: far.set_result(stream)
    near = session.open("test", priority)
    return near, await far


async def test_channels_are_byte_streams(lab: Lab) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
        a, b = lab.hub("a"), lab.hub("b")
        async with running(a, b):
            yield await channel_pair(a, b)

    await check(make)


async def test_channels_are_byte_streams_while_connections_keep_dying(lab: Lab) -> None:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
        async with relayed(lab) as (a, b, relay):
            pair = await channel_pair(a, b)
            killer = asyncio.create_task(_kill_often(relay))
            yield pair
            killer.cancel()

    await check(make)


async def _kill_often(relay: Relay) -> None:
    while True:
        await asyncio.sleep(0.05)
        if relay.connections:
            relay.kill_one()


def near_is_stuck(session: PeerSession) -> bool:
    """Every connection waits for the network, or the window is full."""
    unacked = session._engine._channels[1].send.unacked_bytes
    waiting = all(c.waits_for_network for c in session.connections.values())
    return waiting or unacked > FAST.channel_window_bytes - 2 * session.chunk_bytes


async def test_one_killed_connection_costs_only_what_it_carried(lab: Lab) -> None:
    lab.transport = PATIENT
    async with relayed(lab) as (a, b, relay):
        await a.connect("b", 4)
        near, far = await channel_pair(a, b)
        data = random.Random(3).randbytes(6_000_000)
        reading = asyncio.create_task(read_all(far))
        sending = asyncio.create_task(near.send(data))
        await until(lambda: relay.carried_bytes["there"] > 1_000_000)
        relay.freeze()  # so that the killed connection certainly carries something
        await until(lambda: near_is_stuck(session_of(a, "b")))
        relay.kill_one()
        relay.thaw()
        await sending
        near.end()
        assert await reading == data
        session = session_of(a, "b")
        await until(lambda: len(session.connections) == 4)
        assert 0 < session.resent_bytes < FAST.channel_window_bytes
        assert session.reconnects == 1


async def test_losing_the_only_connection_that_does_not_retire_stops_nothing(lab: Lab) -> None:
    lab.transport = PATIENT
    async with relayed(lab) as (a, b, relay):
        await a.connect("b", 4)
        near, far = await channel_pair(a, b)
        data = random.Random(5).randbytes(6_000_000)
        reading = asyncio.create_task(read_all(far))
        sending = asyncio.create_task(near.send(data))
        await until(lambda: relay.carried_bytes["there"] > 1_000_000)
        relay.freeze()  # so that every connection carries something
        session = session_of(a, "b")
        await until(lambda: near_is_stuck(session))
        a._peers["b"].steering.start_from(1)
        session.want_streams(1)
        (staying,) = [each for each in session.connections.values() if not each.retires]
        staying.close("killed by the test")
        relay.thaw()
        async with asyncio.timeout(20):
            await sending
            near.end()
            assert await reading == data
        await until(lambda: len(session.connections) == 1)


async def test_a_session_whose_task_fails_ends_and_the_next_one_serves(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        await a.connect("b", 0)
        first = session_of(a, "b")
        for connection in first.connections.values():
            monkeypatch.setattr(connection, "send_urgent", _fails)
        await until(lambda: first.is_over)
        assert "internal error" in first.why_down
        assert (await a.connect("b", 0)).state == "up"
        assert session_of(a, "b") is not first


def _fails(*_: object) -> None:
    raise RuntimeError("as the test wants it")


@pytest.mark.parametrize("silent", [False, True])
async def test_a_transfer_survives_a_cut_of_all_connections(lab: Lab, silent: bool) -> None:
    async with relayed(lab) as (a, b, relay):
        near, far = await channel_pair(a, b)
        data = random.Random(4).randbytes(3_000_000)
        reading = asyncio.create_task(read_all(far))
        sending = asyncio.create_task(near.send(data))
        await until(lambda: relay.carried_bytes["there"] > 500_000)
        relay.freeze()
        if silent:
            await until(lambda: not session_of(a, "b").is_up)  # noticed by its silence
            relay.cut()
            relay.thaw()
        else:
            relay.cut()
            relay.thaw()
            await until(lambda: not session_of(a, "b").is_up)
        (state,) = a.links(0)
        assert state.state == "connecting"
        relay.mend()
        await sending
        near.end()
        assert await reading == data
        (state,) = a.links(0)
        assert state.state == "up"
        assert state.reconnects >= 1


async def test_an_idle_session_without_connections_ends_after_resume_s(lab: Lab) -> None:
    lab.transport = FAST.model_copy(update={"dead_after_s": 0.4, "resume_s": 0.6})
    async with relayed(lab) as (a, b, relay):
        await a.connect("b", 0)
        relay.cut()
        await until(lambda: not a._peers["b"].sessions and not b._peers["a"].sessions)
        assert "no connection for 0.6 s" in b._peers["a"].why_down


async def test_a_session_with_channels_is_held_far_longer_and_goes_on(lab: Lab) -> None:
    lab.transport = FAST.model_copy(update={"dead_after_s": 0.4, "resume_s": 0.6, "hold_s": 3600.0})
    async with relayed(lab) as (a, b, relay):
        near, far = await channel_pair(a, b)
        data = random.Random(5).randbytes(2_000_000)
        reading = asyncio.create_task(read_all(far))
        sending = asyncio.create_task(near.send(data))
        await until(lambda: relay.carried_bytes["there"] > 200_000)
        relay.cut()
        sessions = (session_of(a, "b"), session_of(b, "a"))
        await until(lambda: not any(session.is_up for session in sessions))
        for session in sessions:  # as if hours had passed
            session._down_since -= 3000.0
        beats = asyncio.get_running_loop().time() + 5 * lab.transport.heartbeat_s
        await until(lambda: asyncio.get_running_loop().time() > beats)
        assert not any(session.is_over for session in sessions)
        assert sessions[0].in_flight_bytes <= FAST.channel_window_max_bytes
        relay.mend()
        await sending
        near.end()
        assert await reading == data


async def test_a_session_goes_on_when_both_sides_have_moved(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialler asks for the peer's address each time; the other knows it by session and certificate."""
    lab.transport = FAST.model_copy(update={"resume_s": 60.0})
    async with relay_to(lab.ports["b"]) as before, relay_to(lab.ports["b"]) as after:
        after.source = "127.0.0.2"
        lab.reach["a"] = 1
        b = lab.hub("b")
        lab.reach["b"] = 4  # stands for b wherever it is: the name is resolved below
        a = lab.hub("a")
        now_at = [before.port]
        loop = asyncio.get_running_loop()

        async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            at = now_at if port == 4 else [port]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, each)) for each in at]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        async with running(a, b):
            near, far = await channel_pair(a, b)
            session = session_of(b, "a")
            await near.send(b"sent from the old address, ")
            before.cut()
            now_at[:] = [before.port, after.port]  # two addresses: the first leads nowhere any more
            await near.send(b"and from the new one")
            near.end()
            assert await read_all(far) == b"sent from the old address, and from the new one"
            assert session_of(b, "a") is session
            assert after.connections > 0


async def test_a_session_with_channels_ends_after_hold_s(lab: Lab) -> None:
    lab.transport = FAST.model_copy(update={"dead_after_s": 0.4, "resume_s": 0.6, "hold_s": 0.8})
    async with relayed(lab) as (a, b, relay):
        near, far = await channel_pair(a, b)
        relay.cut()
        for stream in (near, far):
            with pytest.raises(ChannelReset):
                async with asyncio.timeout(20):
                    await stream.receive()
        assert [link.state for link in b.links(0) if link.peer == "a"] == ["down"]


async def test_a_restarted_acceptor_ends_the_old_channels_and_takes_a_new_session(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a):
        async with running(b):
            near, _ = await channel_pair(a, b)
            _die(b)
        async with running(lab.hub("b")):
            with pytest.raises(ChannelReset, match="does not know"):
                async with asyncio.timeout(20):
                    await near.receive()
            assert (await a.connect("b", 0)).state == "up"


async def test_a_restarted_initiator_ends_the_old_channels_of_the_acceptor(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(b):
        async with running(a):
            _, far = await channel_pair(a, b)
            _die(a)
        async with running(lab.hub("a")):
            # Nothing makes the new a dial: b finds out by dialling itself.
            with pytest.raises(ChannelReset, match="does not know"):
                async with asyncio.timeout(20):
                    await far.receive()


def _die(hub: Hub) -> None:
    """What kill -9 does to sessions: connections end without a farewell, and nobody redials."""
    for peer in hub._peers.values():
        for session in peer.sessions:
            session.is_over = True
            for connection in list(session.connections.values()):
                connection.close("killed")
        peer.sessions.clear()


async def test_a_new_session_of_a_peer_replaces_its_old_one(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(b):
        async with running(a):
            _, far = await channel_pair(a, b)
            _die(a)
        async with running(again := lab.hub("a")):
            await again.connect("b", 0)
            with pytest.raises(ChannelReset):
                async with asyncio.timeout(20):
                    await far.receive()
            assert len(b._peers["a"].sessions) == 1


async def test_a_stopped_peer_is_noticed_at_once(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a):
        async with running(b):
            near, _ = await channel_pair(a, b)
        with pytest.raises(ChannelReset, match="stops"):
            async with asyncio.timeout(20):
                await near.receive()


async def test_a_transport_that_has_stopped_begins_no_session(lab: Lab) -> None:
    """The peer would take it for one of the node's next life, and give that one's up."""
    a, b = lab.hub("a"), lab.hub("b")
    async with running(b):
        await a.start()
        await a.session_to("b", 5.0)
        await a.stop()
        with pytest.raises(LinkDown, match="has stopped"):
            await a.session_to("b", 5.0)


async def test_an_attempt_that_is_cancelled_before_it_begins_is_not_waited_for(lab: Lab) -> None:
    """As when the peer comes by itself at that very moment, and its session ends later."""
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        entry = a._peers["b"]
        wanted = asyncio.create_task(a.session_to("b", 20.0))
        while entry.beginning is None:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0)
        entry.beginning.cancel()
        assert (await wanted).is_up


async def test_two_that_greet_each_other_at_the_same_moment_keep_one_session(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a long line, where each HELLO is on its way before the other arrives."""
    lab.transport = PATIENT  # neither may be healed by a later attempt
    a, b = lab.hub("a"), lab.hub("b")
    both, send = asyncio.Barrier(2), dialer.tls_send

    async def at_the_same_moment(tls: ssl.SSLSocket, data: bytes) -> None:
        await both.wait()
        await send(tls, data)

    monkeypatch.setattr(dialer, "tls_send", at_the_same_moment)
    async with running(a, b):
        there, back = await asyncio.gather(a.session_to("b", 20.0), b.session_to("a", 20.0))
        assert there.is_up
        assert back.is_up
        assert there.id == back.id
        assert there.initiator


async def test_the_peers_own_session_is_used_when_it_can_not_be_dialled(lab: Lab) -> None:
    lab.reach["a"] = 1  # behind NAT: nobody reaches it there
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        with pytest.raises(LinkDown):
            await b.session_to("a", 0.5)
        await a.connect("b", 0)
        state = await b.connect("a", 2)
        assert state.state == "up"
        await until(lambda: len(session_of(a, "b").connections) == 2)


async def test_the_number_of_streams_follows_the_request(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        assert (await a.connect("b", 0)).streams == FAST.streams
        assert (await a.connect("b", 7)).streams == 7
        assert (await a.connect("b", 1)).streams == 1
        await until(lambda: len(session_of(b, "a").connections) == 1)


async def test_unknown_and_absent_peers_are_told_apart(lab: Lab) -> None:
    a = lab.hub("a")
    async with running(a):
        with pytest.raises(NodeUnknown):
            await a.connect("z", 0)
        with pytest.raises(NodeUnknown):
            await a.connect("a", 0)
        with pytest.raises(LinkDown) as caught:
            await a.session_to("b", 0.3)
        assert caught.value.fields["peer"] == "b"
        assert "refused" in str(caught.value).lower()
        await until(lambda: [(link.peer, link.state) for link in a.links(0)] == [("b", "down")])


async def test_samples_are_taken_each_second(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        near, far = await channel_pair(a, b)
        reading = asyncio.create_task(read_all(far))
        await near.send(bytes(2_000_000))
        near.end()
        await reading
        await until(lambda: sum(s.acked_bytes for s in a.links(0)[0].samples) > 2_000_000)
        sample = a.links(0)[0].samples[-1]
        assert 0 < sample.rtt_ms < 1000
        assert 0 <= sample.busy_share <= 1
        assert not a.links(sample.at)[0].samples


async def test_a_rollout_flag_brings_a_link_down_to_one_connection_while_it_carries(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        near, far = await channel_pair(a, b)
        await a.connect("b", 4)
        session = session_of(a, "b")
        await until(lambda: len(session.connections) == 4)
        write_flags(lab.folder / "a", {"amst": Flag(component="amst", killed=True)})
        await until(lambda: len(session.connections) == 1)
        await near.send(b"still here")
        assert await far.receive() == b"still here"
        assert session_of(a, "b") is session
        write_flags(lab.folder / "a", {"amst": Flag(component="amst")})
        await until(lambda: len(session.connections) > 1)
