"""Targets of HDE: QEMU's stream in the parser, through encoder and decoder, and damaged encodings in the decoder."""

import functools
import itertools
import struct
from typing import NamedTuple

import numpy as np
import xxhash

from actors.encoding import records as rec
from actors.encoding import reverse as rev
from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Settings
from actors.encoding.far import Acquaintances, FarStore
from actors.encoding.format import BATCH_HEADER_BYTES, OPENING_HEAD_BYTES, BatchHeader, Opening
from actors.encoding.parser import UNPARSED_MAX_BYTES, StreamParser
from actors.encoding.shelf import Shelf
from actors.encoding.window import Held, Window
from actors.errors import StreamCorrupt
from tests.fuzz.target import Script, Target
from tests.unit.encoding import kit

_MEMORY_MOST_BYTES = 32 << 20
_CACHE_MIB = 8
_CHECKSUM_BYTES = 8


class _Sum(NamedTuple):
    """A checksum lies at `at` and is taken over all else from `start` to `end`: an opening or a batch."""

    start: int
    end: int
    at: int


def _stream(script: Script) -> bytes:
    """A stream of QEMU's kind that the script tells record by record, sound or not."""
    out = [kit.FILE_HEADER]
    while script.goes_on:
        step = script.number()
        address = (script.number() % 8) << 12
        match step % 12:
            case 0:
                out.append(kit.section(1, kit.block_list(("pc.ram", 8 << 12), ("vga", 4096))))
            case 1:
                out.append(b"\2\0\0\0\2" + kit.page(address, _body(script), "pc.ram"))
            case 2 | 3 | 4:
                out.append(kit.page(address, _body(script)))
            case 5:
                out.append(kit.zero(address, script.number() & 1))
            case 6:
                out.append(kit.xbzrle(address, script.take(script.number())))
            case 7:
                out.append(kit.EOS + b"\x7e\0\0\0\2")
            case 8:
                out.append(kit.section(4, script.take(script.number()), section_id=9, name="cpu"))
            case 9:
                out.append((kit.CONFIGURATION, kit.SWITCHOVER, kit.DESCRIPTION, kit.EOS)[script.number() & 3])
            case 10:
                out.append(kit.page(address, _body(script))[: script.number(2)])
            case _:
                out.append(script.take(script.number()))
    return b"".join(out)


def _body(script: Script) -> bytes:
    """A page: one byte all over, and a few words changed."""
    body = bytearray(script.take(1).ljust(1, b"\1") * 4096)
    for _ in range(script.number() % 4):
        at = script.number(2) % 4089
        body[at : at + 8] = script.take(8).ljust(8, b"\0")
    return bytes(body)


def parser(data: bytes) -> None:
    """Any bytes, and any records, in any pieces: the parser moves on and finds only what is there."""
    script = Script(data)
    raw, piece_bytes = script.number() & 1, 1 + script.number(2)
    stream = script.rest() if raw else _stream(script)
    piece_bytes = max(piece_bytes, len(stream) // 64)
    machine = StreamParser()
    rest, base = b"", 0
    for start in range(0, len(stream), piece_bytes):
        rest += stream[start : start + piece_bytes]
        found = rec.Records(len(rest))
        done = machine.parse(np.frombuffer(rest, np.uint8).copy(), len(rest), found)
        assert 0 <= len(rest) - done <= UNPARSED_MAX_BYTES, "it holds too much"
        offsets = found.offsets[: found.count].tolist()
        assert all(0 <= offset < done for offset in offsets), "found beyond what is done with"
        assert all(a < b for a, b in itertools.pairwise(offsets)), "found out of order"
        rest, base = rest[done:], base + done
    assert base + len(rest) == len(stream)


def _script_seeds() -> list[bytes]:
    page = bytes([2, 1, 7, 1, 40, 0]) + b"changed!"
    start = bytes([0, 0, 1, 0, 3, 0])
    ram = start + page + bytes([5, 2, 0, 5, 3, 1, 2, 4, 7, 0, 2, 1, 8, 0]) + page + bytes([7, 0])
    rest = bytes([8, 0, 20]) + bytes(range(20)) + bytes([9, 0, 1, 9, 0, 2, 6, 0, 4, 1, 2, 3, 4, 11, 0, 3, 1, 2, 3])
    return [
        b"\0\xff\xff" + ram + rest,
        b"\0\x10\0" + ram + ram,
        b"\0\xff\0" + ram[:30] + bytes([10, 0, 9, 0, 200, 0]) + ram,
    ]


def _parser_seeds() -> list[bytes]:
    return [*_script_seeds(), b"\1\xff\xff" + kit.guest_stream(1, pages=2, rounds=1)]


def roundtrip(data: bytes) -> None:
    """Any stream, any layers, any pieces: what comes out is what went in."""
    script = Script(data)
    flags, piece_bytes = script.number(), 64 + script.number(2)
    layers = Settings(
        zero=bool(flags & 1),
        dedupe=bool(flags & 2),
        delta=bool(flags & 4),
        zstd=not flags & 8,
        dedupe_cache_mib=_CACHE_MIB,
        batch_bytes=65536,
    )
    stream = _stream(script)
    piece_bytes = max(piece_bytes, len(stream) // 64)
    frames, _ = kit.encoded(kit.pieces(stream, range(0, len(stream), piece_bytes)), layers, flush=bool(flags & 16))
    assert kit.decoded(frames, _CACHE_MIB) == stream, "another stream came out"


def _roundtrip_seeds() -> list[bytes]:
    return [bytes([flags]) + seed[1:] for flags in (7, 15, 23) for seed in _script_seeds()]


def decoder(data: bytes) -> None:
    """Any bytes: what comes out is what the digest proves, in bounded memory."""
    machine, digest = Decoder(_CACHE_MIB), xxhash.xxh3_128()
    try:
        for start in range(0, len(data), 4096):
            digest.update(machine.feed(data[start : start + 4096]))
            assert machine.memory_bytes <= _MEMORY_MOST_BYTES, "memory without bounds"
        machine.end()
    except StreamCorrupt:
        return
    assert machine.digest == digest.hexdigest(), "bytes that no digest proves"


@functools.cache
def _encodings() -> list[tuple[bytes, bytes, list[_Sum]]]:
    """(stream, its encoding, its checksums)."""
    found = []
    for number, (zstd, flush) in enumerate(itertools.product((False, True), (False, True))):
        settings = Settings(zstd=zstd, dedupe_cache_mib=_CACHE_MIB, batch_bytes=65536)
        stream = _stream(Script(_script_seeds()[number % 3][3:]))
        frames, _ = kit.encoded(kit.pieces(stream, range(0, len(stream), 9000)), settings, flush=flush)
        found.append((stream, frames, _summed(frames)))
    return found


def _summed(frames: bytes) -> list[_Sum]:
    """The checksums of an opening and of every batch."""
    view = memoryview(frames)
    at = Opening.size(view[:OPENING_HEAD_BYTES])
    opening = Opening.unpack(view[:at], 1 << 20)
    parts, offset = [_Sum(0, at, at - _CHECKSUM_BYTES)], 0
    while at < len(frames):
        header = BatchHeader.unpack(view[at : at + BATCH_HEADER_BYTES], opening, offset)
        end = at + BATCH_HEADER_BYTES + header.body_bytes
        parts.append(_Sum(at, end, at + BATCH_HEADER_BYTES - _CHECKSUM_BYTES))
        at, offset = end, offset + header.stream_bytes
    return parts


def _seal(frames: bytearray, parts: list[_Sum]) -> None:
    """Make every checksum right again, as a peer that lies would."""
    for start, end, at in parts:
        digest = xxhash.xxh3_64(bytes(frames[start:at]))
        digest.update(bytes(frames[at + _CHECKSUM_BYTES : end]))
        frames[at : at + _CHECKSUM_BYTES] = digest.intdigest().to_bytes(_CHECKSUM_BYTES, "little")


def damage(data: bytes) -> None:
    """A valid encoding with bytes changed and batches repeated, checksums put right or not: the same stream or none."""
    script = Script(data)
    flags = script.number()
    stream, sound, parts = _encodings()[flags & 3]
    frames = bytearray(sound)
    while script.goes_on:
        start, end, _ = parts[script.number() % len(parts)]
        at = start + script.number(2) % (end - start)
        match script.number() % 3:
            case 0:
                frames[at] ^= script.number() or 1
            case 1:
                piece = script.take(1 + script.number() % 8)
                frames[at : at + len(piece)] = piece[: len(frames) - at]
            case _:
                value = (frames[at] + script.number() - 128) % 256
                frames[at] = value
    if flags & 4:
        _seal(frames, parts)
    if flags & 8:
        start, end, _ = parts[(flags >> 4) % len(parts)]
        frames[end:end] = frames[start:end]
    machine = Decoder(_CACHE_MIB)
    out = bytearray()
    try:
        for start in range(0, len(frames), 1000):
            out += machine.feed(bytes(frames[start : start + 1000]))
        machine.end()
    except StreamCorrupt:
        assert stream.startswith(out), "a wrong byte came out"
        return
    assert out == stream, "another stream came out"
    assert machine.memory_bytes <= _MEMORY_MOST_BYTES


_BLOCKS = b"".join(bytes([number]) * 4088 + b"block %d." % number for number in range(1, 5))


@functools.cache
def _stream_of_blocks() -> bytes:
    """A guest whose pages are blocks of the far side, out of order and twice, and one that is not."""
    pages = [_BLOCKS[at << 12 : (at + 1) << 12] for at in (2, 0, 3, 1, 2)]
    records = kit.page(0, pages[0], "pc.ram") + b"".join(kit.page(n << 12, each) for n, each in enumerate(pages[1:], 1))
    other = kit.page(5 << 12, bytes([9]) * 4096)
    start = kit.FILE_HEADER + kit.section(1, kit.block_list(("pc.ram", 8 << 12)))
    return start + kit.section(2, records + kit.EOS) + kit.section(3, kit.page(0, pages[1], "pc.ram") + other + kit.EOS)


def store(data: bytes) -> None:
    """Blocks that are not what was told, frames and needed pages that were changed: the same stream or none."""
    script = Script(data)
    flags = script.number()
    stream, settings = _stream_of_blocks(), Settings(zstd=bool(flags & 1), dedupe_cache_mib=_CACHE_MIB)
    sound, encoder = kit.encoded(kit.pieces(stream, (9000, 20000)), settings, blocks=[kit.MemoryBlocks(_BLOCKS)])
    content = bytearray(_BLOCKS)
    for _ in range(script.number() % 4):
        content[script.number(2) % len(content)] ^= script.number() or 1
    frames = _damaged(sound, script, seal=bool(flags & 2))
    machine = Decoder(_CACHE_MIB, Shelf(kit.KEY, None, [kit.MemoryBlocks(bytes(content), told=_BLOCKS)]))
    out = bytearray()
    try:
        for start, end, _ in _summed(sound):  # an answer comes between two frames
            out += machine.feed(frames[start:end])
            while machine.replies:
                said = machine.replies.popleft()
                if isinstance(said, rev.Need | rev.Done):
                    pages = kit.tell(encoder, said)
                    out += machine.feed(_damaged(pages, script, seal=True) if pages and flags & 4 else pages)
        machine.end()
    except StreamCorrupt:
        assert stream.startswith(out), "a wrong byte came out"
        return
    assert out == stream, "another stream came out"


def _damaged(frames: bytes, script: Script, *, seal: bool) -> bytes:
    """Frames with up to three bytes changed: a whole encoding, or one batch."""
    damaged = bytearray(frames)
    for _ in range(script.number() % 4):
        damaged[script.number(2) % len(damaged)] ^= script.number() or 1
    if seal:
        batch = _Sum(0, len(frames), BATCH_HEADER_BYTES - _CHECKSUM_BYTES)
        _seal(damaged, _summed(frames) if frames.startswith(b"NHDE") else [batch])
    return bytes(damaged)


def _store_seeds() -> list[bytes]:
    spoilt = [bytes([flags, 1, 7, at, 1, 0]) for flags in range(8) for at in (0, 16, 48)]
    forged = [bytes([flags, 1, 7, 0, 1, 0, 1, 200, 0, 1]) for flags in (4, 5)]
    lies = [bytes([flags, 0, 1, at, 0, 1]) for flags in (2, 3) for at in (30, 60, 100, 130, 150)]
    return [*spoilt, *forged, *lies, b"\0\0\0", b"\1\0\0"]


def _damage_seeds() -> list[bytes]:
    return [bytes([flags, part, low, 0, 0, 1]) for flags in range(16) for part in (0, 1, 2) for low in (4, 20, 80)]


def _decoder_seeds() -> list[bytes]:
    return [frames for _, frames, _ in _encodings()]


def reverse(data: bytes) -> None:
    """Any bytes that come back: messages in bounded memory, and nothing is found that was not told."""
    script = Script(data)
    sealed, piece_bytes = script.number() & 1, 1 + script.number(2)
    frames = script.rest()
    if sealed:
        frames = b"".join(rev._frame(body[0] % 8, body[1:]) for body in frames.split(b"|") if body)
    reader, far, window = rev.Reader(), FarStore(Acquaintances()), Window()
    window.hold(Held(0, 100, np.arange(3), np.zeros((3, 512), np.uint64)))
    try:
        for start in range(0, len(frames), piece_bytes):
            for message in reader.feed(frames[start : start + piece_bytes]):
                match message:
                    case rev.Sources():
                        far.meet(message)
                    case rev.Prints():
                        far.learn(message)
                    case rev.Ready():
                        far.ready()
                    case rev.Done(offset):
                        window.done(offset)
                    case rev.Need():
                        numbers, pages = window.needed(message)
                        assert 0 < len(numbers) == len(pages) <= 3
                    case rev.Answer(answer):
                        assert len(answer) <= rev.BODY_MAX_BYTES
    except StreamCorrupt:
        return
    assert far.memory_bytes <= 40 * rev.BLOCKS_MAX + (1 << 20)


def _reverse_seeds() -> list[bytes]:
    sources = kit.KEY + struct.pack("<16sQII", b"s" * 16, 7, 0, 40)
    prints = struct.pack("<I", 3) + b"prints" * 9
    need = struct.pack("<QHH", 0, 0, 2)
    bodies = [b"\2" + sources, b"\3" + prints, b"\4", b"\6" + need, b"\5" + struct.pack("<Q", 100), b"\1answer"]
    return [b"\1\xff\xff" + b"|".join(bodies), b"\1\x20\0" + b"|".join(bodies[2:])]


TARGETS = (
    Target("parser", parser, _parser_seeds, longest_bytes=12000),
    Target("roundtrip", roundtrip, _roundtrip_seeds),
    Target("decoder", decoder, _decoder_seeds, longest_bytes=65536),
    Target("damage", damage, _damage_seeds),
    Target("store", store, _store_seeds),
    Target("reverse", reverse, _reverse_seeds),
)
