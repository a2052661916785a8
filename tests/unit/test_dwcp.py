"""The test vectors of ``docs/dwcp.md``: the code makes and reads them, and so does a reader made from the text."""

import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash
import zstandard

from actors.calls.messages import Reply
from actors.encoding import reverse
from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Settings
from actors.encoding.format import WANTS_FILES, WANTS_STORE, Known, Opening
from actors.transport.calls import Answer, Call, WantStreams
from actors.transport.frames import CLOSED, HANDSHAKE_TYPES, HEADER_BYTES, Frame, FrameParser, FrameType, encode
from actors.transport.handshake import Hello, Refuse, Welcome, decode_message
from tests.unit.encoding import kit

PAGE = Path(__file__).parents[2] / "docs" / "dwcp.md"
SESSION = bytes(range(16))
HANDSHAKE = {
    "hello": Hello(session=SESSION, node="rome-1", to="paris-1", resume=False, window_bytes=1 << 22, group="x25519"),
    "welcome": Welcome(node="paris-1", window_bytes=1 << 22),
    "refuse": Refuse(code="session-unknown", reason="paris-1 does not know this session"),
}
FRAMES = {
    **{n: Frame(FrameType[n.upper()], payload=msgspec.msgpack.encode(m)) for n, m in HANDSHAKE.items()},
    "open": Frame(FrameType.OPEN, 1, 0, payload=b"\2ram:job-7"),
    "data": Frame(FrameType.DATA, 1, 1, payload=b"sixteen bytes ok"),
    "end": Frame(FrameType.END, 1, 2),
    "end closed": Frame(FrameType.END, 2, 9, CLOSED),
    "reset": Frame(FrameType.RESET, 3, payload=b"local end failed"),
    "gone": Frame(FrameType.GONE, 3),
    "ack": Frame(FrameType.ACK, 1, 2, payload=struct.pack(">Q", 4194320)),
    "ping": Frame(FrameType.PING, seq=1_500_000_000),
    "pong": Frame(FrameType.PONG, seq=1_500_000_000),
    "bye": Frame(FrameType.BYE, payload=b"rome-1 stops"),
}
MESSAGES = {
    "call": Call(1, "agent", "facts", b"\x80", 5.0),
    "answer": Answer(1, msgspec.msgpack.encode(Reply(body=b"\x80"))),
    "streams": WantStreams(8),
}
OPENINGS = {
    "opening": Opening(2048, 69960),
    "opening known": Opening(0, 1 << 20, WANTS_STORE | WANTS_FILES, (Known(SESSION, 7),)),
}
BACK = {
    "back answer": reverse.Answer(b"\0\1"),
    "back sources": reverse.Sources(SESSION, (reverse.Source(SESSION[::-1], 7, 0, 3),)),
    "back prints": reverse.Prints(1, np.array([0x0102030405, 0], np.uint64)),
    "back ready": reverse.Ready(),
    "back done": reverse.Done(65536),
    "back need": reverse.Need(65536, (0, 2)),
}


def _qemu_stream() -> bytes:
    """A guest of four pages: every op but blocks, a record that is no page, device state."""
    body = bytes([7]) * 4096
    changed = body[:80] + b"8 bytes!" + body[88:]
    first = kit.page(0, body, "pc.ram") + kit.zero(0x1000) + kit.page(0x2000, body) + kit.page(0x3000, bytes(4096))
    second = kit.page(0x2000, changed, "pc.ram") + kit.xbzrle(0x3000, b"\1\2\3") + kit.EOS
    third = kit.page(0x2000, changed[:-8] + b"8 more..", "pc.ram") + kit.EOS
    start = kit.FILE_HEADER + kit.CONFIGURATION + kit.section(1, kit.block_list(("pc.ram", 4 << 12)))
    memory = kit.section(2, first + kit.EOS) + kit.section(2, second) + kit.section(3, third)
    return start + memory + kit.section(4, b"\xaa" * 9, 9, "cpu")


STREAM = _qemu_stream()


def vectors() -> dict[str, bytes]:
    """Every vector that the code makes."""
    made = {name: encode(frame) for name, frame in FRAMES.items()}
    for name, message in MESSAGES.items():
        raw = msgspec.msgpack.encode(message)
        made[name] = struct.pack(">I", len(raw)) + raw
    made |= {name: opening.pack() for name, opening in OPENINGS.items()}
    made |= {name: reverse.pack(message) for name, message in BACK.items()}
    layers = Settings(zstd=False, dedupe_cache_mib=8, batch_bytes=65536)
    made["stream zero"] = kit.encoded([kit.FILE_HEADER + kit.CONFIGURATION], layers)[0]
    made["stream"] = kit.encoded(kit.pieces(STREAM, [9000]), Settings(dedupe_cache_mib=8, batch_bytes=65536))[0]
    return made


def written() -> dict[str, bytes]:
    """Every vector that the page has."""
    text = PAGE.read_text().partition("## Test vectors")[2]
    blocks = text.split("```")[1::2]
    rows = [line for block in blocks for line in block.removeprefix("text").splitlines() if line.strip()]
    found: dict[str, bytes] = {}
    name = ""
    for row in rows:
        if row.startswith(" "):
            found[name] += bytes.fromhex(row)
        else:
            name = row.strip()
            assert name not in found, f"{name} is there twice"
            found[name] = b""
    return found


def as_text(made: dict[str, bytes]) -> str:
    """The vectors as the page should have them."""
    return "\n".join(
        "\n".join([name, *(f"  {raw[at : at + 56].hex()}" for at in range(0, len(raw), 56))])
        for name, raw in made.items()
    )


def test_the_page_has_the_vectors_that_the_code_makes() -> None:
    made, found = vectors(), written()
    assert list(found) == list(made), f"the page should have:\n{as_text(made)}"
    # What zstd makes of a payload may change with its version; what it stands for is checked below.
    wrong = [name for name in made if name != "stream" and found[name] != made[name]]
    assert not wrong, f"the page should have:\n{as_text(made)}"


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_built_by_the_table_and_read_by_the_code(name: str) -> None:
    frame, raw = FRAMES[name], written()[name]
    head = b"NC" + bytes([1, frame.type, frame.flags]) + bytes(3) + frame.channel.to_bytes(4, "big")
    head += frame.seq.to_bytes(8, "big") + len(frame.payload).to_bytes(4, "big")
    assert raw == head + xxhash.xxh3_64_digest(head + frame.payload) + frame.payload
    parser = FrameParser()
    if frame.type not in HANDSHAKE_TYPES:
        parser.agree(1)
    parser.space()[: len(raw)] = raw
    parser.filled(len(raw))
    assert list(parser.frames()) == [frame]


@pytest.mark.parametrize("name", HANDSHAKE)
def test_handshakes_are_maps_with_the_keys_of_the_table(name: str) -> None:
    raw = written()[name]
    assert msgspec.msgpack.decode(raw[HEADER_BYTES:]) == msgspec.to_builtins(HANDSHAKE[name], builtin_types=(bytes,))
    assert decode_message(FRAMES[name], type(HANDSHAKE[name])) == HANDSHAKE[name]


def test_control_messages_are_arrays_behind_their_length() -> None:
    found = written()
    for name, values in (
        ("call", ["call", 1, "agent", "facts", b"\x80", 5.0]),
        ("answer", ["answer", 1, msgspec.msgpack.encode([b"\x80", "", {}])]),
        ("streams", ["streams", 8]),
    ):
        assert int.from_bytes(found[name][:4], "big") == len(found[name]) - 4
        assert msgspec.msgpack.decode(found[name][4:]) == values


def _sum(data: bytes, seed: int = 0) -> bytes:
    return xxhash.xxh3_64_intdigest(data, seed).to_bytes(8, "little")


def test_openings_are_built_by_the_table() -> None:
    plain = b"NHDE" + bytes([3, 0, 0, 0]) + (2048).to_bytes(4, "little") + (69960).to_bytes(4, "little")
    assert written()["opening"] == plain + _sum(plain)
    known = (
        b"NHDE" + bytes([3, 1, 3, 0]) + bytes(4) + (1 << 20).to_bytes(4, "little") + SESSION + (7).to_bytes(8, "little")
    )
    assert written()["opening known"] == known + _sum(known)


@pytest.mark.parametrize(
    ("name", "kind", "body"),
    [
        ("back answer", 1, b"\0\1"),
        ("back sources", 2, SESSION + SESSION[::-1] + struct.pack("<QII", 7, 0, 3)),
        ("back prints", 3, struct.pack("<I", 1) + bytes.fromhex("050403020100") + bytes(6)),
        ("back ready", 4, b""),
        ("back done", 5, struct.pack("<Q", 65536)),
        ("back need", 6, struct.pack("<QHH", 65536, 0, 2)),
    ],
)
def test_what_comes_back_is_built_by_the_table(name: str, kind: int, body: bytes) -> None:
    raw = b"HR" + bytes([kind, 0]) + len(body).to_bytes(4, "little") + _sum(body, kind) + body
    assert written()[name] == raw
    (read,) = reverse.Reader().feed(raw)
    assert reverse.pack(read) == raw


@pytest.mark.parametrize(("name", "stream"), [("stream zero", kit.FILE_HEADER + kit.CONFIGURATION), ("stream", STREAM)])
def test_streams_are_read_by_the_text_and_by_the_code(name: str, stream: bytes) -> None:
    raw = written()[name]
    decoder = Decoder(8)
    assert decoder.feed(raw) == stream
    decoder.end()
    reader = ByTheText(raw)
    assert reader.read() == stream
    assert name != "stream" or (reader.seen, reader.codecs) == ({0, 1, 2, 3, 4, 5, 6}, {0, 1, 2})


class Numbers:
    """A part of numbers: zigzag LEB128."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def next(self) -> int:
        """The next one."""
        value, shift = 0, 0
        while True:
            byte, self.raw = self.raw[0], self.raw[1:]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return (value >> 1) ^ -(value & 1)


class ByTheText:
    """A decoder written from ``docs/formats/hde.md`` alone: streams without blocks, rings that don't fill up."""

    def __init__(self, raw: bytes) -> None:
        self.left = raw
        self.out = b""
        self.ring: list[bytes] = []
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.seen: set[int] = set()
        """Ops that came."""
        self.codecs: set[int] = set()

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        assert len(self.left) >= size
        piece, self.left = self.left[:size], self.left[size:]
        return piece

    def read(self) -> bytes:
        """QEMU's stream."""
        opening = self.take(16)
        assert opening[:5] == b"NHDE\3"
        known = self.take(24 * opening[5])
        assert self.take(8) == _sum(opening + known)
        while self.batch():
            pass
        assert not self.left
        return self.out

    def batch(self) -> bool:
        """Read one batch; false for the final one."""
        head = self.take(84)
        checksum = self.take(8)
        magic, kind, codec, stream_bytes, body_bytes, *parts = struct.unpack("<2sBBII8I", head[:44])
        body = self.take(body_bytes)
        assert magic == b"HB"
        assert kind in (0, 1)
        assert checksum == _sum(head + body)
        assert int.from_bytes(head[44:52], "little") == len(self.out)
        assert head[68:84] == bytes(16)
        if codec == 1:
            self.frame = zstandard.ZstdDecompressor(max_window_size=1 << 26).decompressobj()
        self.codecs.add(codec)
        self.rebuild(self.frame.decompress(body) if codec else body, parts)
        assert head[52:68] == xxhash.xxh3_128_digest(self.out)
        assert kind == 1 or int.from_bytes(head[44:52], "little") + stream_bytes == len(self.out)
        return bool(kind == 0)

    def rebuild(self, payload: bytes, sizes: list[int]) -> None:
        """Turn the parts of a payload into the stream."""
        parts = [payload[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(8)]
        assert sum(sizes) == len(payload)
        ops, jumps, numbers = parts[0], Numbers(parts[1]), Numbers(parts[2])
        raw, masks, words, pages = parts[3:7]
        page_due = slot_due = 0
        for code in ops:
            op = code & 7
            self.seen.add(op)
            if code & 8:
                page = page_due + (jumps.next() if code & 16 else 0)
                page_due = page + 1
                self.out += struct.pack(">Q", page << 12 | 0x20 | (0x02 if op == 1 else 0x08))
            if op == 0:
                size = numbers.next()
                self.out, raw = self.out + raw[:size], raw[size:]
            elif op == 1:
                self.out += b"\0"
            elif op == 2:
                self.ring.append(pages[:4096])
                self.out, pages = self.out + pages[:4096], pages[4096:]
            elif op == 3:
                self.out += bytes(4096)
            else:
                slot = slot_due + numbers.next()
                slot_due = slot + 1
                if op != 4:
                    body, masks, words = _changed(self.ring[slot], masks, words)
                    self.ring.append(body)
                    if op == 5:
                        self.ring[slot] = self.ring.pop()
                self.out += self.ring[-1] if op == 6 else self.ring[slot]
        assert not any((jumps.raw, numbers.raw, raw, masks, words, pages, parts[7]))


def _changed(body: bytes, masks: bytes, words: bytes) -> tuple[bytes, bytes, bytes]:
    """The page with words changed, and what is left of masks and words."""
    mask = int.from_bytes(masks[:64], "little")
    for word in range(512):
        if mask >> word & 1:
            body, words = body[: word * 8] + words[:8] + body[word * 8 + 8 :], words[8:]
    return body, masks[64:], words
