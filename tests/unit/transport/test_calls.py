"""Peer calls: who called is known, deadlines hold, errors cross, and bulk data does not delay them."""

import asyncio

import msgspec
import pytest

from actors.calls.messages import Caller, Reply
from actors.errors import BodyInvalid, DeadlineExceeded, GuestUnknown, LinkDown
from actors.transport.calls import CALLS_MAX, MESSAGE_MAX_BYTES
from actors.transport.messages import PeerCall
from tests.kits.relay import relay_to
from tests.unit.transport.nodes import Lab, running, session_of, until


def call(body: bytes = b"", deadline_s: float = 60.0, peer: str = "b") -> PeerCall:
    return PeerCall(peer=peer, service="agent", method="look", body=body, deadline_s=deadline_s)


def decoded(raw: bytes) -> Reply:
    return msgspec.msgpack.decode(raw, type=Reply)


async def test_the_called_side_knows_the_caller_by_its_certificate(lab: Lab) -> None:
    a, b, c = lab.hub("a"), lab.hub("b"), lab.hub("c")
    async with running(a, b, c):
        assert decoded(await a.call(call(b"x"))).body == b"a/rome/False:agent.look:x"
        assert decoded(await c.call(call(peer="a"))).body == b"c/rome/True:agent.look:"
        assert decoded(await b.call(call(peer="a"))).body == b"b/paris/False:agent.look:"


async def test_many_calls_of_all_sizes_keep_their_answers_apart(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        sizes = [0, 1, 100, 70_000, 1_000_000, 3_000_000]
        bodies = [bytes([n]) * sizes[n % len(sizes)] for n in range(30)]
        answers = await asyncio.gather(*(a.call(call(body)) for body in bodies))
        assert [decoded(raw).body.split(b":", 2)[2] for raw in answers] == bodies


async def test_errors_cross_with_their_code_and_fields(lab: Lab) -> None:
    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        if body == b"known":
            raise GuestUnknown(guest="web1")
        raise RuntimeError("boom")

    a, b = lab.hub("a"), lab.hub("b", dispatch)
    async with running(a, b):
        reply = decoded(await a.call(call(b"known")))
        assert (reply.error, reply.fields) == ("guest-unknown", {"guest": "web1"})
        reply = decoded(await a.call(call(b"other")))
        assert reply.error == "internal"
        assert "boom" in str(reply.fields["detail"])


async def test_both_sides_keep_the_deadline(lab: Lab) -> None:
    cancelled = asyncio.Event()

    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return b""

    a, b = lab.hub("a"), lab.hub("b", dispatch)
    async with running(a, b):
        try:  # whichever side's clock strikes first
            assert decoded(await a.call(call(deadline_s=0.2))).error == DeadlineExceeded.code
        except DeadlineExceeded as error:
            assert 0 < float(error.fields["deadline_s"]) <= 0.2
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_without_a_link_a_call_fails_within_its_deadline(lab: Lab) -> None:
    a = lab.hub("a")
    async with running(a):
        async with asyncio.timeout(10):
            with pytest.raises(LinkDown):
                await a.call(call(deadline_s=0.3))


async def test_a_call_waits_through_a_short_cut(lab: Lab) -> None:
    async with relay_to(lab.ports["b"]) as relay:
        lab.reach["a"] = 1
        b = lab.hub("b")
        lab.reach["b"] = relay.port
        a = lab.hub("a")
        async with running(a, b):
            await a.connect("b", 0)
            relay.cut()
            await until(lambda: not session_of(a, "b").is_up)
            waiting = asyncio.create_task(a.call(call(b"patient")))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            relay.mend()
            assert decoded(await waiting).body.endswith(b"patient")


async def test_calls_in_flight_fail_when_the_session_ends(lab: Lab) -> None:
    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        called.set()
        await asyncio.sleep(60)
        return b""

    called = asyncio.Event()
    a, b = lab.hub("a"), lab.hub("b", dispatch)
    async with running(a):
        async with running(b):
            waiting = asyncio.create_task(a.call(call()))
            async with asyncio.timeout(10):
                await called.wait()
        with pytest.raises(LinkDown):
            async with asyncio.timeout(10):
                await waiting


async def test_too_large_and_too_many_are_refused_not_dropped(lab: Lab) -> None:
    release = asyncio.Event()

    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        await release.wait()
        return msgspec.msgpack.encode(Reply(body=bytes(MESSAGE_MAX_BYTES)) if body else Reply())

    a, b = lab.hub("a"), lab.hub("b", dispatch)
    async with running(a, b):
        with pytest.raises(BodyInvalid):
            await a.call(call(bytes(MESSAGE_MAX_BYTES)))
        waiting = [asyncio.create_task(a.call(call())) for _ in range(CALLS_MAX + 10)]
        await until(lambda: sum(task.done() for task in waiting) == 10)
        release.set()
        errors = [decoded(raw).error for raw in await asyncio.gather(*waiting)]
        assert sorted(errors) == [""] * CALLS_MAX + ["conflict"] * 10
        assert decoded(await a.call(call(b"big"))).error == "body-invalid"


async def test_a_call_overtakes_bulk_data_on_a_full_link(lab: Lab) -> None:
    """Compared in bytes: while a call goes and is answered, little bulk passes against what is queued before it."""
    lab.transport = lab.transport.model_copy(
        update={"notsent_lowat_bytes": 16384, "dead_after_s": 20.0, "resume_s": 60.0, "frame_bytes": 8192}
    )
    async with relay_to(lab.ports["b"], bytes_per_s=4_000_000) as relay:
        lab.reach["b"] = relay.port
        a, b = lab.hub("a"), lab.hub("b")
        async with running(a, b):
            session = await a.session_to("b", 10)
            streams: list[object] = []
            session_of(b, "a")._on_channel = lambda _session, stream, _service: streams.append(stream)
            bulk = session.open("bulk", 2)
            sending = asyncio.create_task(bulk.send(bytes(60_000_000)))
            await until(lambda: all(c.waits_for_network for c in session.connections.values()))
            await until(lambda: relay.carried_bytes["there"] > 1_000_000)
            before = relay.carried_bytes["there"]
            assert decoded(await a.call(call(b"urgent"))).body.endswith(b"urgent")
            passed = relay.carried_bytes["there"] - before
            assert not sending.done()
            # Window and queue of the bulk channel hold over 4 MiB; the call must not have waited for them.
            assert passed < 2_500_000
            sending.cancel()
