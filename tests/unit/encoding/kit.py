"""Helpers of the encoding tests: synthetic streams, and streams sent through encoder and decoder in pieces."""

import itertools
import random
import struct
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from actors.encoding import records as rec
from actors.encoding.decoder import Decoder
from actors.encoding.encoder import Encoder, Settings
from actors.encoding.far import Acquaintances
from actors.encoding.find import PRINT_MASK
from actors.encoding.format import Opening
from actors.encoding.kernel import Bytes, Ints, Words
from actors.encoding.keyed import digest_pages, key_words
from actors.encoding.parser import UNPARSED_MAX_BYTES, Parser, StreamParser
from actors.encoding.reverse import Done, Message, Need, Prints, Reader, Ready, Sources, pack
from actors.encoding.shelf import Blocks, Shelf

SMALL = Settings(dedupe_cache_mib=8, batch_bytes=65536)
RAM = 2


def no_clock() -> float:
    """A clock that stands still."""
    return 0.0


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`stream` cut at the positions `cuts`."""
    at = sorted({0, len(stream), *(cut for cut in cuts if 0 < cut < len(stream))})
    return [stream[a:b] for a, b in itertools.pairwise(at)]


KEY = bytes(range(16))


def digests_of(content: bytes) -> Words:
    """The digests of whole pages under `KEY`."""
    pages = np.frombuffer(content, np.uint64).reshape(-1, 512).copy()
    digests = np.empty((len(pages), 2), np.uint64)
    digest_pages(pages, key_words(KEY), digests)
    return digests


class MemoryBlocks:
    """A source of blocks in memory; `told` differs from `content` when it changed since it was told of."""

    def __init__(self, content: bytes, told: bytes | None = None, source: bytes = b"s" * 16) -> None:
        self.content = content
        self.source = source
        self.used = 0
        self.lost: list[int] = []
        self._prints = digests_of(content if told is None else told)[:, 0] & PRINT_MASK

    def prints(self) -> tuple[int, Words, Words]:
        return 1, self._prints, np.ones(len(self._prints), np.uint64)

    def read(self, blocks: Ints, places: Ints, pages: Bytes) -> None:
        for block, place in zip(blocks.tolist(), places.tolist(), strict=True):
            piece = np.frombuffer(self.content[block * 4096 :][:4096], np.uint8)
            pages[place * 4096 :][: len(piece)] = piece
            pages[place * 4096 + len(piece) : (place + 1) * 4096] = 0

    def use(self, blocks: Words) -> None:
        self.used += len(blocks)

    def spoilt(self, block: int, digest: Words) -> None:
        self.lost.append(block)


def tell(encoder: Encoder, message: Message) -> bytes:
    """What comes back, through its frame; the frame that answers it."""
    (told,) = Reader().feed(pack(message))
    match told:
        case Sources():
            encoder.far.meet(told)
        case Prints():
            encoder.far.learn(told)
        case Ready():
            encoder.far.ready()
        case Done(offset):
            encoder.window.done(offset)
        case Need():
            return encoder.missing(told)
    return b""


def encoded(
    parts: Iterable[bytes],
    settings: Settings = SMALL,
    *,
    flush: bool = False,
    blocks: Sequence[Blocks] = (),
    acquaintances: Acquaintances | None = None,
    parser: Parser | None = None,
) -> tuple[bytes, Encoder]:
    """All frames for a stream that comes in `parts`; with `flush` nothing is held back between them.

    `blocks`: what the far side has. `parser`: of the stream, if it is no migration's.
    """
    encoder = Encoder(settings, no_clock, acquaintances, parser)
    frames = [encoder.open()]
    for message in Shelf(KEY, None, blocks).tell(Opening.unpack(memoryview(frames[0]), 1 << 20)):
        tell(encoder, message)
    for part in parts:
        frames.append(encoder.feed(part))
        if flush:
            frames.append(encoder.encode(0, flush=True))
            assert encoder.held_bytes == 0
    frames.append(encoder.finish())
    return b"".join(frames), encoder


def decoded(frames: bytes, cache_mib: int = 8, blocks: Sequence[Blocks] = ()) -> bytes:
    """What the frames stand for."""
    decoder = Decoder(cache_mib, Shelf(KEY, None, blocks))
    stream = decoder.feed(frames)
    decoder.end()
    return stream


def moved(
    parts: Sequence[bytes],
    shelf: Shelf,
    settings: Settings = SMALL,
    acquaintances: Acquaintances | None = None,
    damage: tuple[int, Callable[[], object]] = (-1, lambda: None),
) -> tuple[bytes, Encoder, Decoder]:
    """A stream sent in `parts`, every question of the decoder answered after the part that raised it.

    `damage`: what happens before the part of that number.
    """
    encoder, decoder = Encoder(settings, no_clock, acquaintances), Decoder(8, shelf)
    out = [decoder.feed(encoder.open())]
    for number, part in enumerate([*parts, None]):
        if number == damage[0]:
            damage[1]()
        out.append(decoder.feed(encoder.finish() if part is None else encoder.feed(part)))
        while decoder.replies:
            out.append(decoder.feed(tell(encoder, decoder.replies.popleft())))
    decoder.end()
    return b"".join(out), encoder, decoder


def found_pages(parts: Iterable[bytes]) -> tuple[list[tuple[int, int]], StreamParser]:
    """(offset in the whole stream, kind) of everything that the parser finds in a stream that comes in `parts`."""
    parser = StreamParser()
    return [(offset, kind) for offset, kind, _ in found_by(parser, parts)], parser


def found_by(parser: Parser, parts: Iterable[bytes]) -> list[tuple[int, int, int]]:
    """(offset in the whole stream, kind, key) of everything that `parser` finds in a stream that comes in `parts`."""
    everything: list[tuple[int, int, int]] = []
    rest, base = b"", 0
    for part in parts:
        rest += part
        found = rec.Records(len(rest))
        done = parser.parse(np.frombuffer(rest, np.uint8).copy(), len(rest), found)
        assert len(rest) - done <= UNPARSED_MAX_BYTES
        offsets = found.offsets[: found.count].tolist()
        assert all(offset < done for offset in offsets), "found beyond what is done with"
        kinds, keys = found.kinds[: found.count].tolist(), found.keys[: found.count].tolist()
        everything += [(base + o, kind, key) for o, kind, key in zip(offsets, kinds, keys, strict=True)]
        rest, base = rest[done:], base + done
    return everything


def section(kind: int, payload: bytes, section_id: int = RAM, name: str = "ram") -> bytes:
    """A section with its footer."""
    head = struct.pack(">BI", kind, section_id)
    if kind in (1, 4):
        head += struct.pack(">B", len(name)) + name.encode() + struct.pack(">II", 0, 4)
    return head + payload + struct.pack(">BI", 0x7E, section_id)


def page(address: int, body: bytes, block: str = "") -> bytes:
    """A page record; with `block` the one that names it."""
    if block:
        return struct.pack(">QB", address | 0x08, len(block)) + block.encode() + body
    return struct.pack(">Q", address | 0x28) + body


def zero(address: int, fill: int = 0) -> bytes:
    """A zero page's record."""
    return struct.pack(">QB", address | 0x22, fill)


def xbzrle(address: int, run: bytes) -> bytes:
    """An XBZRLE record."""
    return struct.pack(">QBH", address | 0x60, 1, len(run)) + run


EOS = struct.pack(">Q", 0x10)
FILE_HEADER = b"QEVM" + struct.pack(">I", 3)
CONFIGURATION = b"\x07" + struct.pack(">I", 9) + b"pc-q35-10"
SWITCHOVER = b"\x08" + struct.pack(">HH", 11, 0)
DESCRIPTION = b"\x00\x06" + struct.pack(">I", 40) + b'{"devices": []}'.ljust(40)


def block_list(*blocks: tuple[str, int]) -> bytes:
    """What a RAM section's start says about its blocks."""
    listed = b"".join(struct.pack(">B", len(n)) + n.encode() + struct.pack(">Q", size) for n, size in blocks)
    return struct.pack(">Q", sum(size for _, size in blocks) | 0x04) + listed + EOS


def guest_stream(seed: int, pages: int = 24, rounds: int = 3, image: bytes = b"") -> bytes:
    """A stream of a small guest: pages new, zero, repeated and slightly changed, over several rounds and two blocks.

    With `image` about half of what it writes are blocks of that.
    """
    chance = random.Random(seed)
    memory = [chance.randbytes(4096) if chance.random() < 0.6 else bytes(4096) for _ in range(pages)]
    stream = FILE_HEADER + CONFIGURATION + section(1, block_list(("pc.ram", pages << 12), ("vga", 4096)))
    stream += section(1, chance.randbytes(30), section_id=7, name="dirty-bitmap")
    for number in range(rounds):
        body = page(0, memory[0], "pc.ram")
        for index in range(1, pages):
            if number and chance.random() < 0.5:
                continue
            kind = chance.randrange(6)
            if image and chance.random() < 0.5:
                at = chance.randrange(len(image) // 4096) * 4096
                memory[index] = image[at : at + 4096]
            elif kind == 0:
                memory[index] = memory[chance.randrange(pages)]
            elif kind == 1:
                at = chance.randrange(4032)
                memory[index] = memory[index][:at] + chance.randbytes(64) + memory[index][at + 64 :]
            elif kind == 2:
                body += xbzrle(index << 12, chance.randbytes(chance.randrange(200)))
                continue
            fill = 7 if chance.random() < 0.05 else 0
            body += page(index << 12, memory[index]) if any(memory[index]) or kind == 3 else zero(index << 12, fill)
        body += page(0, memory[0], "vga")
        if number == rounds - 1:
            stream += SWITCHOVER
        stream += section(3 if number == rounds - 1 else 2, body + EOS)
    return stream + section(4, chance.randbytes(300), section_id=9, name="cpu") + DESCRIPTION


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that nothing makes smaller, the same for the same seed."""
    return random.Random(seed).randbytes(size)
