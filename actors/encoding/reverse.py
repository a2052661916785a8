"""What the decoder sends back: frames with QEMU's return path, the prints of its blocks, and what became of batches.

See ``docs/formats/hde.md``. Like every wire's, these bytes are hostile: lengths are checked before memory is taken,
the checksum before a body is looked at.
"""

import struct
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from actors.encoding.kernel import Words
from actors.encoding.keyed import KEY_BYTES
from actors.errors import StreamCorrupt

MAGIC = b"HR"
_HEAD = struct.Struct("<2sBxIQ")
HEAD_BYTES = _HEAD.size
BODY_MAX_BYTES = 65536

ANSWER = 1
SOURCES = 2
PRINTS = 3
READY = 4
DONE = 5
NEED = 6

_SOURCE = struct.Struct("<16sQII")
_FIRST = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
PRINT_BYTES = 6
SOURCES_MAX = 32
# All blocks that one job may refer to: 12 GiB. The encoder takes 24 to 40 bytes for each, the decoder 8.
BLOCKS_MAX = 3 << 20
PRINTS_MAX = (BODY_MAX_BYTES - _FIRST.size) // PRINT_BYTES


class Source(msgspec.Struct, frozen=True):
    """A source of blocks: `blocks` numbers from `first` on. `generation`: of what this job tells of it."""

    source: bytes
    generation: int
    first: int
    blocks: int


class Sources(msgspec.Struct, frozen=True):
    """The key of the digests, and every source."""

    key: bytes
    sources: tuple[Source, ...]


class Prints(msgspec.Struct, frozen=True, eq=False):
    """Prints of the blocks from number `first` on, 0: no block."""

    first: int
    prints: Words


class Ready(msgspec.Struct, frozen=True):
    """All prints have been told."""


class Answer(msgspec.Struct, frozen=True):
    """Bytes of QEMU's return path; none: its end."""

    data: bytes


class Done(msgspec.Struct, frozen=True):
    """All of the stream before `offset` has been rebuilt."""

    offset: int


class Need(msgspec.Struct, frozen=True):
    """Of the blocks that the batch at `offset` refers to these (by their place in it) are not here; none named: all."""

    offset: int
    places: tuple[int, ...] = ()


Message = Sources | Prints | Ready | Answer | Done | Need


def pack(message: Message) -> bytes:
    """The message's frame."""
    match message:
        case Answer(data):
            return _frame(ANSWER, data)
        case Sources(key, sources):
            body = b"".join(_SOURCE.pack(s.source, s.generation, s.first, s.blocks) for s in sources)
            return _frame(SOURCES, key + body)
        case Prints(first, prints):
            return _frame(PRINTS, _FIRST.pack(first) + pack_prints(prints))
        case Ready():
            return _frame(READY, b"")
        case Done(offset):
            return _frame(DONE, _OFFSET.pack(offset))
        case Need(offset, places):
            return _frame(NEED, _OFFSET.pack(offset) + np.array(places, "<u2").tobytes())


def pack_prints(prints: Words) -> bytes:
    """48 bits of each."""
    wide: npt.NDArray[np.uint8] = prints.astype("<u8").view(np.uint8)
    return wide.reshape(-1, 8)[:, :PRINT_BYTES].tobytes()


def _unpack_prints(body: memoryview) -> Words:
    wide = np.zeros((len(body) // PRINT_BYTES, 8), np.uint8)
    wide[:, :PRINT_BYTES] = np.frombuffer(body, np.uint8).reshape(-1, PRINT_BYTES)
    return wide.view("<u8").reshape(-1)


def _frame(kind: int, body: bytes) -> bytes:
    assert len(body) <= BODY_MAX_BYTES, "frames are cut before they are packed"
    return _HEAD.pack(MAGIC, kind, len(body), _sum(kind, body)) + body


def _sum(kind: int, body: bytes | memoryview) -> int:
    # The kind is the seed, so that it is covered too.
    return xxhash.xxh3_64_intdigest(body, seed=kind)


class Reader:
    """Cuts what comes back into messages; memory for one frame at most."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """The messages that `data` completes.

        Raises:
            StreamCorrupt: a frame is not exactly as the format says.
        """
        self._rest += data
        at = 0
        while len(self._rest) - at >= HEAD_BYTES:
            magic, kind, size, checksum = _HEAD.unpack_from(self._rest, at)
            if magic != MAGIC or size > BODY_MAX_BYTES:
                raise StreamCorrupt(reason="what came back is no frame")
            if len(self._rest) - at < HEAD_BYTES + size:
                break
            body = bytes(self._rest[at + HEAD_BYTES : at + HEAD_BYTES + size])
            if _sum(kind, body) != checksum:
                raise StreamCorrupt(reason="the checksum of what came back is wrong")
            at += HEAD_BYTES + size
            yield _message(kind, memoryview(body))
        del self._rest[:at]


def _message(kind: int, body: memoryview) -> Message:
    size = len(body)
    match kind:
        case 1:
            return Answer(bytes(body))
        case 2 if size >= KEY_BYTES and (size - KEY_BYTES) % _SOURCE.size == 0:
            sources = tuple(Source(*fields) for fields in _SOURCE.iter_unpack(body[KEY_BYTES:]))
            _check_sources(sources)
            return Sources(bytes(body[:KEY_BYTES]), sources)
        case 3 if size > _FIRST.size and (size - _FIRST.size) % PRINT_BYTES == 0:
            return Prints(_FIRST.unpack_from(body)[0], _unpack_prints(body[_FIRST.size :]))
        case 4 if size == 0:
            return Ready()
        case 5 if size == _OFFSET.size:
            return Done(_OFFSET.unpack(body)[0])
        case 6 if size >= _OFFSET.size and size % 2 == 0:
            places = np.frombuffer(body, "<u2", offset=_OFFSET.size).tolist()
            return Need(_OFFSET.unpack_from(body)[0], tuple(places))
    raise StreamCorrupt(reason=f"a frame of kind {kind} and {size} bytes came back")


def _check_sources(sources: tuple[Source, ...]) -> None:
    due = 0
    for source in sources:
        if source.first != due or source.blocks == 0:
            raise StreamCorrupt(reason="the sources' numbers don't follow each other")
        due += source.blocks
    if due > BLOCKS_MAX or len(sources) > SOURCES_MAX:
        raise StreamCorrupt(reason=f"{due} blocks of {len(sources)} sources announced")


def cut_prints(prints: Words, first: int, changed: npt.NDArray[np.bool_]) -> Iterator[Prints]:
    """Messages that tell at least those of `prints` that `changed` marks; `first` is the number of the first one."""
    places = np.flatnonzero(changed)
    at = 0
    while at < len(places):
        start = int(places[at])
        # As far as one frame goes; small gaps are told too, since a frame costs more than they do.
        within = places[at : np.searchsorted(places, start + PRINTS_MAX)]
        gaps = np.flatnonzero(np.diff(within) > HEAD_BYTES)
        count = int(gaps[0]) + 1 if len(gaps) else len(within)
        yield Prints(first + start, prints[start : int(within[count - 1]) + 1])
        at += count
