"""Targets of disks: what an NBD client may write, or anything, in the parser and through the codec."""

import numpy as np

from actors.encoding import records as rec
from actors.encoding.encoder import Settings
from actors.encoding.kernel import PAGE_BYTES
from actors.encoding.nbd import NbdParser
from tests.fuzz.target import Script, Target
from tests.unit.encoding import kit, nbd_kit

_SETTINGS = Settings(dedupe_cache_mib=8, batch_bytes=65536)


def _stream(script: Script) -> bytes:
    """A client's stream that the script tells message by message, sound or not."""
    out = [nbd_kit.HELLO]
    while script.goes_on:
        step = script.number()
        ask = nbd_kit.extended if step & 16 else nbd_kit.request
        offset = script.number(2) << 9
        match step % 8:
            case 0 | 1:
                out.append(nbd_kit.write(offset, script.take(1) * (script.number() << 9), long=bool(step & 16)))
            case 2:
                # More or less than it says.
                out.append(ask(nbd_kit.WRITE, offset, script.number(4), script.take(1) * (script.number(2) % 20000)))
            case 3:
                out.append(ask(script.number(), offset, script.number(4)))
            case 4:
                out.append(nbd_kit.extended(script.number(), offset << 38, script.number(8), script.take(step >> 4)))
            case 5:
                out.append(nbd_kit.option(script.number(), script.take(script.number())))
            case 6:
                out.append(nbd_kit.write(offset, script.take(1) * 8192)[: script.number(2)])
            case _:
                out.append(script.take(script.number()))
    return b"".join(out)


def _parts(script: Script, *, raw: int) -> list[bytes]:
    piece_bytes = 1 + script.number(2)
    stream = script.rest() if raw else _stream(script)
    return kit.pieces(stream, range(0, len(stream), max(piece_bytes, len(stream) // 64)))


def nbd(data: bytes) -> None:
    """Any bytes, any requests, any pieces: the parser finds only what is there, and holds little."""
    script = Script(data)
    parts = _parts(script, raw=script.number() & 1)
    parser = NbdParser()
    rest = b""
    for part in parts:
        rest += part
        found = rec.Records(len(rest))
        done = parser.parse(np.frombuffer(rest, np.uint8).copy(), len(rest), found)
        assert 0 <= len(rest) - done < PAGE_BYTES, "it holds too much"
        offsets = found.offsets[: found.count]
        assert np.all(np.diff(offsets) >= PAGE_BYTES), "blocks that overlap"
        assert not len(offsets) or 0 <= offsets[0] <= offsets[-1] <= done - PAGE_BYTES, "beyond what is done with"
        rest = rest[done:]


def disk(data: bytes) -> None:
    """Any requests, any pieces, through encoder and decoder: what comes out is what went in."""
    script = Script(data)
    flags = script.number()
    parts = _parts(script, raw=flags & 1)
    frames, _ = kit.encoded(parts, _SETTINGS, flush=bool(flags & 2), parser=NbdParser())
    assert kit.decoded(frames, 8) == b"".join(parts), "another stream came out"


def _seeds() -> list[bytes]:
    write = bytes([16, 0, 0, 7, 24])
    ends = bytes([2, 1, 0, 255, 255, 255, 255, 9, 0, 48])
    others = (
        bytes([3, 0, 0, 6, 0, 0, 1, 0, 52, 9, 9, 7])
        + bytes([255] * 8)
        + b"abc"
        + bytes([5, 0, 0, 5, 0, 6, 4, 0, 7, 0, 16])
    )
    told = [
        bytes([flags, low, high]) + write + others + write for flags in (0, 2) for low, high in ((255, 255), (9, 0))
    ]
    return [*told, b"\0\0\1" + write + ends, b"\1\xff\xff" + nbd_kit.client_stream(1, requests=2)[:4000]]


TARGETS = (
    Target("nbd", nbd, _seeds, longest_bytes=2048),
    Target("disk", disk, _seeds, longest_bytes=2048),
)
