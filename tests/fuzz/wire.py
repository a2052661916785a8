"""Targets of AMST: frames, the handshake, the control channel, and the hello of TLS."""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from actors.calls.directory import decode_reply
from actors.calls.messages import Caller, Reply
from actors.calls.service import Service, exposed
from actors.config.schema import Member, Site, Topology
from actors.errors import BodyInvalid, NovaCronError, StreamCorrupt
from actors.security.groups import chosen_group
from actors.transport.calls import CALLS_MAX, Answer, Call, PeerCalls, WantStreams
from actors.transport.channel_stream import ChannelReset
from actors.transport.frames import (
    CLOSED,
    HANDSHAKE_TYPES,
    HEADER_BYTES,
    PAYLOAD_MAX_BYTES,
    Frame,
    FrameParser,
    FrameType,
    encode,
)
from actors.transport.handshake import Hello, Refuse, Welcome, decode_message, encode_message, judge_hello
from tests.fuzz.target import Script, Target

_BUFFER_MOST_BYTES = 4 * (HEADER_BYTES + PAYLOAD_MAX_BYTES)
_SITES = [
    Site(name="rome", nodes=[Member(name="a", address="192.0.2.1")]),
    Site(name="paris", nodes=[Member(name="b", address="192.0.2.2")]),
]
_TOPOLOGY = Topology(sites=_SITES)
_HELLO = Hello(session=bytes(range(16)), node="a", to="b", resume=False, window_bytes=1 << 20, group="x25519")
_FRAMES = [
    Frame(FrameType.OPEN, 1, 0, payload=b"\2ram"),
    Frame(FrameType.DATA, 1, 1, payload=b"pages " * 20),
    Frame(FrameType.END, 1, 2, CLOSED),
    Frame(FrameType.ACK, 2, 7, payload=struct.pack(">Q", 1 << 20)),
    Frame(FrameType.RESET, 3, payload=b"enough"),
    Frame(FrameType.GONE, 3),
    Frame(FrameType.PING, seq=123456789),
    Frame(FrameType.PONG, seq=123456789),
    Frame(FrameType.BYE, payload=b"a stops"),
]


def frames(data: bytes) -> None:
    """Any bytes in any pieces: only whole frames come out, and each is exactly the bytes that went in."""
    script = Script(data)
    parser, mode = FrameParser(), script.number()
    if mode & 1:
        parser.agree(1)
    piece_bytes = 1 + script.number(2)
    stream = script.rest()
    piece_bytes = max(piece_bytes, len(stream) // 16)
    done = 0
    try:
        for start in range(0, len(stream), piece_bytes):
            left = memoryview(stream)[start : start + piece_bytes]
            while left:
                space = parser.space()
                assert len(space), "nowhere to put the next bytes"
                count = min(len(space), len(left))
                space[:count] = left[:count]
                assert space.nbytes <= _BUFFER_MOST_BYTES, "memory without bounds"
                space.release()
                parser.filled(count)
                left = left[count:]
                for frame in parser.frames():
                    size = HEADER_BYTES + len(frame.payload)
                    assert encode(frame, parser.handshake_version) == stream[done : done + size], "not what was sent"
                    assert (frame.type in HANDSHAKE_TYPES) != bool(mode & 1), "at the wrong moment"
                    done += size
    except StreamCorrupt:
        return
    assert len(stream) - done < HEADER_BYTES + PAYLOAD_MAX_BYTES, "a whole frame was kept back"


def _frame_seeds() -> list[bytes]:
    every = b"".join(encode(frame) for frame in _FRAMES)
    greeting = encode_message(_HELLO)
    return [
        b"\1\xff\xff" + every,
        b"\1\x06\0" + every,
        b"\0\xff\xff" + greeting,
        *(b"\1\x10\0" + encode(f) for f in _FRAMES),
    ]


def handshake(data: bytes) -> None:
    """Any payload: a message comes out only if it says what its bytes say, and nobody gets in under another name."""
    script = Script(data)
    kind = (Hello, Welcome, Refuse)[script.number() % 3]
    version = script.number()
    frame = Frame((FrameType.HELLO, FrameType.WELCOME, FrameType.REFUSE)[script.number() % 3], payload=script.rest())
    try:
        message = decode_message(frame, kind)
    except StreamCorrupt:
        return
    again = decode_message(Frame(frame.type, payload=msgspec.msgpack.encode(message)), kind)
    assert again == message, "not what it says"
    if isinstance(message, Hello):
        for certificate in (("a", "rome"), ("b", "paris"), ("a", "paris"), ("c", "rome")):
            agreed, refusal = judge_hello(message, version, "b", _TOPOLOGY, certificate)
            if refusal is None:
                assert certificate == ("a", "rome") == (message.node, "rome"), "another one got in"
                assert message.to == "b"
                assert agreed == 1
                assert version in (1, 2)


def _handshake_seeds() -> list[bytes]:
    messages = (_HELLO, Welcome(node="b", window_bytes=1 << 20), Refuse(code="identity", reason="no"))
    return [bytes([n, 1, n]) + encode_message(message)[HEADER_BYTES:] for n, message in enumerate(messages)]


class _Wire:
    """A control channel whose far end is the fuzzer: gives `data` in pieces, then ends by a reset."""

    def __init__(self, data: bytes, piece_bytes: int) -> None:
        self.peer_closed = False
        self.sent = bytearray()
        self._pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]

    async def send(self, data: bytes) -> None:
        self.sent += data

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        if not self._pieces:
            raise ChannelReset("the end")
        return self._pieces.pop(0)

    def end(self, *, closed: bool = False) -> None:
        raise AssertionError("the control channel never ends")

    def reset(self, reason: str) -> None:
        raise AssertionError("the session ends, not the channel")


_loop: list[asyncio.AbstractEventLoop] = []


def _run(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if not _loop:
        _loop.append(asyncio.new_event_loop())
    _loop[0].run_until_complete(make())


def control(data: bytes) -> None:
    """Any bytes on the control channel: what is no message ends it, each call is served once, as who the peer is."""
    script = Script(data)
    piece_bytes = 1 + 16 * script.number()
    wire = _Wire(script.rest(), piece_bytes)
    served: list[str] = []
    wanted: list[int] = []

    async def dispatch(caller: Caller, service: str, method: str, body: bytes) -> bytes:
        assert caller.node == "a"
        served.append(service)
        return msgspec.msgpack.encode(Reply(body=body))

    async def talk() -> None:
        calls = PeerCalls(wire, "b", Caller(node="a", site="rome", same_site=False), dispatch, wanted.append)
        with contextlib.suppress(StreamCorrupt):
            await calls.run()
        assert len(calls._serving) <= 2 * CALLS_MAX
        await asyncio.gather(*calls._serving, return_exceptions=True)

    _run(talk)
    assert len(served) + len(wanted) <= len(data), "more calls than bytes"


def _control_seeds() -> list[bytes]:
    def message(what: Call | Answer | WantStreams) -> bytes:
        raw = msgspec.msgpack.encode(what)
        return struct.pack(">I", len(raw)) + raw

    messages = [message(Call(1, "agent", "facts", b"\x80", 5.0)), message(Answer(1, b"\x80")), message(WantStreams(7))]
    return [b"\xff" + b"".join(messages), b"\0" + b"".join(messages), *(b"\xff" + one for one in messages)]


class _Guests(msgspec.Struct, frozen=True, kw_only=True):
    names: list[str]
    sizes: dict[str, int] = {}


class _Desk(Service):
    @exposed(to_peers=True)
    async def take(self, caller: Caller, request: _Guests) -> _Guests:
        return request


def bodies(data: bytes) -> None:
    """Any body of a call is answered, and any answer is the value or an error of ours."""
    caller = Caller(node="a", site="rome", same_site=False)

    async def ask() -> None:
        reply = await _Desk().serve(caller, "take", data)
        with contextlib.suppress(BodyInvalid):
            decode_reply(reply, _Guests)

    _run(ask)
    with contextlib.suppress(NovaCronError):
        decode_reply(data, _Guests)


def _body_seeds() -> list[bytes]:
    body = msgspec.msgpack.encode(_Guests(names=["web1"], sizes={"web1": 1024}))
    failed = Reply(error=BodyInvalid.code, fields={"detail": "no"})
    return [body, msgspec.msgpack.encode(Reply(body=body)), msgspec.msgpack.encode(failed)]


def hello(data: bytes) -> None:
    """Any bytes as the server's first: a name comes out, or none."""
    assert len(chosen_group(data)) < 32


def _hello_seeds() -> list[bytes]:
    extensions = struct.pack(">HHHHHHH", 43, 2, 0x0304, 51, 36, 29, 32) + bytes(32)
    body = b"\3\3" + bytes(32) + b"\x20" + bytes(32) + b"\x13\x02\0" + struct.pack(">H", len(extensions)) + extensions
    return [b"\x16\3\3" + struct.pack(">HB", len(body) + 4, 2) + len(body).to_bytes(3, "big") + body]


TARGETS = (
    Target("frames", frames, _frame_seeds),
    Target("handshake", handshake, _handshake_seeds),
    Target("control", control, _control_seeds),
    Target("bodies", bodies, _body_seeds),
    Target("hello", hello, _hello_seeds),
)
