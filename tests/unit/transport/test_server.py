"""The port against strangers: each costs a counter and, now and then, a log line."""

import asyncio
import random
import socket
import ssl
from pathlib import Path

import pytest

from actors.config.schema import Security
from actors.errors import LinkDown, PeerRefused
from actors.security.authority import create_authority, issue
from actors.transport import handshake, server
from actors.transport.credentials import Credentials
from actors.transport.frames import HEADER_BYTES, VERSION, Frame, FrameParser, FrameType, encode
from actors.transport.handshake import Hello, Refuse, decode_message, encode_message
from actors.transport.hub import Hub
from actors.transport.sockets import tls_handshake, tls_receive, tls_send
from tests.kits.relay import relay_to
from tests.unit.transport.nodes import FAST, Lab, running, until


def refused(hub: Hub) -> int:
    return hub.links(0)[0].refused_peers


async def raw(lab: Lab, node: str = "b") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", lab.ports[node])


async def tls_to(lab: Lab, credentials: Credentials, node: str = "b") -> ssl.SSLSocket:
    connection = socket.create_connection(("127.0.0.1", lab.ports[node]))
    connection.setblocking(False)
    tls = credentials.client.wrap_socket(connection, do_handshake_on_connect=False)
    async with asyncio.timeout(10):
        await tls_handshake(tls)
    return tls


async def answer(tls: ssl.SSLSocket) -> Frame | None:
    """The first frame that comes, None if the connection ends."""
    parser = FrameParser()
    async with asyncio.timeout(10):
        try:
            return await server.read_handshake(tls, parser)
        except OSError:
            return None
        finally:
            tls.close()


def credentials_of(lab: Lab, node: str) -> Credentials:
    return Credentials.load(lab.config(node).security)


def hello(**changes: object) -> Hello:
    fields = {"session": bytes(16), "node": "a", "to": "b", "resume": False, "window_bytes": 1 << 20}
    return Hello(**(fields | changes))  # type: ignore[arg-type]


GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), random.Random(1).randbytes(100_000), b""]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_dropped_and_counted_and_disturbs_nobody(lab: Lab, garbage: bytes) -> None:
    lab.transport = FAST.model_copy(update={"dead_after_s": 30.0, "resume_s": 60.0})
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        await a.connect("b", 0)
        _, writer = await raw(lab)
        writer.write(garbage)
        writer.write_eof()
        await until(lambda: refused(b) == 1)
        writer.close()
        state = await a.connect("b", 0)
        assert state.state == "up"
        assert state.reconnects == 0


async def test_a_silent_stranger_is_dropped_at_the_deadline(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_S", 0.2)
    b = lab.hub("b")
    async with running(b):
        reader, _ = await raw(lab)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        assert refused(b) == 1


async def test_strangers_are_limited_in_number(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNKNOWN_MAX", 5)
    b = lab.hub("b")
    async with running(b):
        crowd = [await raw(lab) for _ in range(8)]
        await until(lambda: refused(b) == 3)
        for _, writer in crowd:
            writer.close()
        await until(lambda: refused(b) == 8)
        a = lab.hub("a")
        async with running(a):
            assert (await a.connect("b", 0)).state == "up"


async def test_refusals_do_not_fill_the_log(lab: Lab, said: list[dict[str, object]]) -> None:
    b = lab.hub("b")
    async with running(b):
        for number in range(20):
            _, writer = await raw(lab)
            writer.close()
            await until(lambda number=number: refused(b) == number + 1)
    assert sum(line["event"] == "peer refused" for line in said) == 1


async def test_a_certificate_of_another_authority_is_refused(lab: Lab, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    foreign = issue(tmp_path / "other", "a", "rome")
    mixed = Security(ca=tmp_path / "ca" / "ca.pem", certificate=foreign.certificate, key=foreign.key)
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, Credentials.load(mixed))
        assert await answer(tls) is None
        await until(lambda: refused(b) == 1)
        hub = Hub(lab.config("a"), Credentials.load(mixed), None)  # type: ignore[arg-type]
        with pytest.raises(LinkDown):
            await hub.session_to("b", 1.0)


async def test_without_a_certificate_nobody_gets_in(lab: Lab) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, Credentials(context, context))
        assert await answer(tls) is None
        await until(lambda: refused(b) == 1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (hello(node="c"), "calls itself"),
        (hello(to="a"), "looks for"),
        (hello(node="b"), "calls itself"),
    ],
)
async def test_an_identity_that_does_not_fit_is_refused_with_the_reason(lab: Lab, message: Hello, reason: str) -> None:
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, credentials_of(lab, "a"))
        await tls_send(tls, encode_message(message))
        frame = await answer(tls)
        assert frame is not None
        assert reason in decode_message(frame, Refuse).reason
        assert refused(b) == 1


async def test_a_hello_that_is_not_utf8_is_refused_and_counted(lab: Lab) -> None:
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, credentials_of(lab, "a"))
        payload = encode_message(hello())[HEADER_BYTES:].replace(b"\xa1a", b"\xa1\xff")
        await tls_send(tls, encode(Frame(FrameType.HELLO, payload=payload)))
        assert await answer(tls) is None
        await until(lambda: refused(b) == 1)


async def test_a_node_outside_the_topology_is_refused(lab: Lab) -> None:
    stranger = issue(lab.folder / "ca", "d", "rome")
    security = Security(ca=stranger.ca, certificate=stranger.certificate, key=stranger.key)
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, Credentials.load(security))
        await tls_send(tls, encode_message(hello(node="d")))
        frame = await answer(tls)
        assert frame is not None
        assert "topology" in decode_message(frame, Refuse).reason


async def test_a_version_two_apart_is_refused_clearly(lab: Lab) -> None:
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, credentials_of(lab, "a"))
        await tls_send(tls, encode_message(hello(), VERSION + 2))
        frame = await answer(tls)
        assert frame is not None
        refuse = decode_message(frame, Refuse)
        assert refuse.code == "version"
        assert f"version {VERSION + 2}" in refuse.reason


async def test_the_next_version_is_answered_in_ours(lab: Lab) -> None:
    b = lab.hub("b")
    async with running(b):
        tls = await tls_to(lab, credentials_of(lab, "a"))
        await tls_send(tls, encode_message(hello(), VERSION + 1))
        parser = FrameParser()
        async with asyncio.timeout(10):
            frame = await server.read_handshake(tls, parser)
        assert frame.type is FrameType.WELCOME
        assert parser.handshake_version == VERSION
        tls.close()


async def test_the_dialler_refuses_the_wrong_node_at_the_right_address(lab: Lab) -> None:
    async with relay_to(lab.ports["c"]) as relay:
        c = lab.hub("c")
        lab.reach["b"] = relay.port
        a = lab.hub("a")
        async with running(a, c):
            with pytest.raises(PeerRefused, match="leads to c"):
                await a.session_to("b", 10)


async def test_the_dialler_says_why_it_was_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    b = lab.hub("b")
    a = lab.hub("a")
    async with running(a, b):
        monkeypatch.setattr(handshake, "VERSION", 7)  # how b judges, and what a says: b calls a too old
        monkeypatch.setattr("actors.transport.dialer.VERSION", 1)
        with pytest.raises(PeerRefused, match="upgrade"):
            await a.session_to("b", 10)


async def test_corrupt_frames_after_the_handshake_cost_only_their_connection(lab: Lab) -> None:
    a, b = lab.hub("a"), lab.hub("b")
    async with running(a, b):
        await a.connect("b", 2)
        session = a._peers["b"].sessions[0]
        tls = await tls_to(lab, credentials_of(lab, "a"))
        await tls_send(tls, encode_message(hello(session=session.id, resume=True)))
        async with asyncio.timeout(10):
            assert (await server.read_handshake(tls, FrameParser())).type is FrameType.WELCOME
        good = bytearray(encode(Frame(FrameType.DATA, 0, 0, payload=b"call")))
        good[-1] ^= 1
        await tls_send(tls, bytes(good))
        space = memoryview(bytearray(65536))
        async with asyncio.timeout(10):
            try:
                while await tls_receive(tls, space):
                    pass
            except OSError:
                pass
        tls.close()
        assert (await a.connect("b", 0)).state == "up"
        assert a._peers["b"].sessions == [session]
