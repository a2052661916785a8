"""Helpers of the encoding tests: synthetic streams, and streams sent through encoder and decoder in pieces."""

import itertools
import random
import struct
from collections.abc import Iterable, Sequence

import blake3
import numpy as np

from actors.encoding import records as rec
from actors.encoding.decoder import BlockReader, Decoder
from actors.encoding.encoder import Encoder, IndexedImage, Settings
from actors.encoding.format import ImageName
from actors.encoding.images import index_of
from actors.encoding.parser import UNPARSED_MAX_BYTES, StreamParser

SMALL = Settings(dedupe_cache_mib=8, batch_bytes=65536)
RAM = 2


def no_clock() -> float:
    """A clock that stands still."""
    return 0.0


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`stream` cut at the positions `cuts`."""
    at = sorted({0, len(stream), *(cut for cut in cuts if 0 < cut < len(stream))})
    return [stream[a:b] for a, b in itertools.pairwise(at)]


class MemoryImage:
    """A disk image in memory, as the decoder reads it; `named` differs from `content` when the file was changed."""

    def __init__(self, content: bytes, named: bytes | None = None) -> None:
        named = content if named is None else named
        self.content = content
        self.name = ImageName(blake3.blake3(named).digest(), len(named) // 4096)

    def read(self, block: int, into: memoryview) -> bool:
        piece = self.content[block * 4096 :][: len(into)]
        into[: len(piece)] = piece
        return len(piece) == len(into)


def indexed(content: bytes) -> IndexedImage:
    """The same image as the encoder has it."""
    return IndexedImage(MemoryImage(content).name, index_of(content))


def encoded(
    parts: Iterable[bytes], settings: Settings = SMALL, *, flush: bool = False, images: Sequence[IndexedImage] = ()
) -> tuple[bytes, Encoder]:
    """All frames for a stream that comes in `parts`; with `flush` nothing is held back between them."""
    encoder = Encoder(settings, no_clock, images)
    frames = []
    for part in parts:
        frames.append(encoder.feed(part))
        if flush:
            frames.append(encoder.encode(0, flush=True))
            assert encoder.held_bytes == 0
    frames.append(encoder.finish())
    return b"".join(frames), encoder


def decoded(frames: bytes, cache_mib: int = 8, images: Sequence[BlockReader] = ()) -> bytes:
    """What the frames stand for."""
    decoder = Decoder(cache_mib, images)
    stream = decoder.feed(frames)
    decoder.end()
    return stream


def found_pages(parts: Iterable[bytes]) -> tuple[list[tuple[int, int]], StreamParser]:
    """(offset in the whole stream, kind) of everything that the parser finds in a stream that comes in `parts`."""
    parser = StreamParser()
    everything: list[tuple[int, int]] = []
    rest, base = b"", 0
    for part in parts:
        rest += part
        found = rec.Records(len(rest))
        done = parser.parse(np.frombuffer(rest, np.uint8).copy(), len(rest), found)
        assert len(rest) - done <= UNPARSED_MAX_BYTES
        offsets = found.offsets[: found.count].tolist()
        assert all(offset < done for offset in offsets), "found beyond what is done with"
        everything += [(base + o, k) for o, k in zip(offsets, found.kinds[: found.count].tolist(), strict=True)]
        rest, base = rest[done:], base + done
    return everything, parser


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
