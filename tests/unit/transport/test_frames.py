"""Frames and the handshake as bytes: round trips, golden bytes, and whatever a hostile peer may send."""

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from actors.config.schema import Member, Site, Topology
from actors.errors import StreamCorrupt
from actors.transport.frames import (
    CLOSED,
    HEADER_BYTES,
    PAYLOAD_MAX_BYTES,
    VERSION,
    Frame,
    FrameParser,
    FrameType,
    encode,
)
from actors.transport.handshake import (
    Hello,
    Refusal,
    Refuse,
    Welcome,
    agreed_version,
    decode_message,
    encode_message,
    judge_hello,
)

_u32 = st.integers(0, 2**32 - 1)
_u64 = st.integers(0, 2**64 - 1)
_data = st.builds(Frame, st.just(FrameType.DATA), _u32, _u64, st.just(0), st.binary(min_size=1, max_size=3000))
_end = st.builds(Frame, st.just(FrameType.END), _u32, _u64, st.sampled_from([0, CLOSED]))
_ack = st.builds(Frame, st.just(FrameType.ACK), _u32, _u64, st.just(0), st.binary(min_size=8, max_size=8))
_frames = st.lists(st.one_of(_data, _end, _ack), max_size=12)


def agreed_parser() -> FrameParser:
    parser = FrameParser()
    parser.agree(VERSION)
    return parser


def parse(parser: FrameParser, raw: bytes, sizes: list[int]) -> list[Frame]:
    """Feed `raw` in pieces of `sizes`, then the rest."""
    found: list[Frame] = []
    for size in [*sizes, len(raw)]:
        piece, raw = raw[:size], raw[size:]
        while piece:
            space = parser.space()
            count = min(len(space), len(piece))
            assert count, "the parser always has room"
            space[:count] = piece[:count]
            del space
            parser.filled(count)
            piece = piece[count:]
            found += parser.frames()
    return found


@given(_frames, st.lists(st.integers(1, 700), max_size=30))
def test_frames_survive_any_cut_into_pieces(frames: list[Frame], sizes: list[int]) -> None:
    raw = b"".join(encode(frame) for frame in frames)
    assert parse(agreed_parser(), raw, sizes) == frames


@given(_frames.filter(bool), st.data())
def test_one_flipped_bit_is_always_found(frames: list[Frame], data: st.DataObject) -> None:
    raw = bytearray(b"".join(encode(frame) for frame in frames))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StreamCorrupt):
        found = parse(agreed_parser(), bytes(raw), [])
        # A longer length may leave the parser waiting for bytes that do not come; the frame must not have come out.
        assert found == frames[: len(found)]
        assert len(found) < len(frames)
        raise StreamCorrupt(reason="still waiting")


@given(st.binary(min_size=HEADER_BYTES, max_size=400))
def test_random_bytes_are_never_a_frame(raw: bytes) -> None:
    with pytest.raises(StreamCorrupt):
        parse(agreed_parser(), raw, [])


def test_the_largest_frame_passes() -> None:
    frame = Frame(FrameType.DATA, 1, 1, 0, bytes(PAYLOAD_MAX_BYTES))
    assert parse(agreed_parser(), encode(frame) * 3, [10, 20000, 5]) == [frame] * 3


def test_the_bytes_of_version_1() -> None:
    """Changing this output changes what other nodes understand: that needs a new version."""
    frame = Frame(FrameType.DATA, channel=5, seq=258, payload=b"page")
    assert encode(frame).hex() == ("4e430105000000000000000500000000000001020000000442c8367612443683" + b"page".hex())


def header(**changes: int) -> bytes:
    """A frame with one field of the header replaced and a checksum that fits."""
    fields = {"version": VERSION, "type": 5, "flags": 0, "zero": 0, "length": 4} | changes
    head = struct.pack(
        ">2sBBBxxBIQI",
        b"NC",
        fields["version"],
        fields["type"],
        fields["flags"],
        fields["zero"],
        1,
        1,
        fields["length"],
    )
    return head + struct.pack(">Q", xxh3_64_intdigest(head + b"page")) + b"page"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": VERSION + 1}, "version"),
        ({"type": 0}, "unknown frame type"),
        ({"type": 99}, "unknown frame type"),
        ({"type": FrameType.HELLO}, "wrong moment"),
        ({"flags": CLOSED}, "flags"),
        ({"flags": 0x80}, "flags"),
        ({"zero": 1}, "flags"),
        ({"length": PAYLOAD_MAX_BYTES + 1}, "bytes"),
        ({"length": 2**32 - 1}, "bytes"),
        ({"length": 0}, "bytes"),
        ({"type": FrameType.ACK}, "bytes"),
    ],
)
def test_a_wrong_header_is_refused_before_its_payload_is_waited_for(changes: dict[str, int], reason: str) -> None:
    assert parse(agreed_parser(), header(), [])
    with pytest.raises(StreamCorrupt, match=reason):
        parse(agreed_parser(), header(**changes)[:HEADER_BYTES], [])


def test_before_the_handshake_only_small_handshake_frames_pass() -> None:
    with pytest.raises(StreamCorrupt, match="wrong moment"):
        parse(FrameParser(), header(), [])
    with pytest.raises(StreamCorrupt, match="bytes"):
        parse(FrameParser(), header(type=FrameType.HELLO, length=5000), [])


HELLO = Hello(session=bytes(16), node="a", to="b", resume=False, window_bytes=1 << 20)
TOPOLOGY = Topology(
    sites=[
        Site(name="rome", nodes=[Member(name="a", address="10.0.0.1")]),
        Site(name="paris", nodes=[Member(name="b", address="10.0.0.2")]),
    ]
)


@pytest.mark.parametrize("message", [HELLO, Welcome(node="b", window_bytes=1 << 20), Refuse(code="x", reason="y")])
def test_handshake_messages_cross(message: Hello | Welcome | Refuse) -> None:
    (frame,) = parse(FrameParser(), encode_message(message), [3])
    assert decode_message(frame, type(message)) == message


def test_a_later_version_may_add_fields() -> None:
    later = msgspec.to_builtins(HELLO, builtin_types=(bytes,)) | {"compression": "zstd"}
    assert decode_message(Frame(FrameType.HELLO, payload=msgspec.msgpack.encode(later)), Hello) == HELLO


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"not msgpack at all",
        msgspec.msgpack.encode({"session": bytes(16)}),
        msgspec.msgpack.encode(msgspec.structs.replace(HELLO, session=bytes(15))),
        msgspec.msgpack.encode(msgspec.structs.replace(HELLO, window_bytes=-1)),
        msgspec.msgpack.encode(msgspec.structs.replace(HELLO, window_bytes=1 << 50)),
    ],
)
def test_a_malformed_hello_is_corrupt(payload: bytes) -> None:
    with pytest.raises(StreamCorrupt):
        decode_message(Frame(FrameType.HELLO, payload=payload), Hello)


@pytest.mark.parametrize(
    ("own", "theirs", "agreed"),
    [(1, 1, 1), (2, 1, 1), (1, 2, 1), (5, 4, 4), (5, 5, 5), (5, 6, 5), (5, 3, None), (5, 7, None), (1, 0, None)],
)
def test_versions_n_and_n_minus_1_agree(own: int, theirs: int, agreed: int | None) -> None:
    assert agreed_version(own, theirs) == agreed


@pytest.mark.parametrize(
    ("certificate", "hello", "reason"),
    [
        (("a", "rome"), HELLO, ""),
        (("a", "paris"), HELLO, "topology says"),
        (("b", "paris"), HELLO, "calls itself"),
        (("x", "rome"), msgspec.structs.replace(HELLO, node="x"), "does not stand in"),
        (("a", "rome"), msgspec.structs.replace(HELLO, to="z"), "looks for"),
        (("b", "paris"), msgspec.structs.replace(HELLO, node="b"), "this node itself"),
    ],
)
def test_a_hello_is_judged_by_certificate_and_topology(certificate: tuple[str, str], hello: Hello, reason: str) -> None:
    _, refusal = judge_hello(hello, VERSION, "b", TOPOLOGY, certificate)
    if reason:
        assert refusal is not None
        assert refusal.code == Refusal.IDENTITY
        assert reason in refusal.reason
    else:
        assert refusal is None
