"""Frames: the one unit that crosses a connection. Byte tables: ``docs/formats/amst.md``.

Pure: bytes in, frames out. `FrameParser` trusts nothing: magic, version, type, flags and length are checked before the
payload is waited for, the checksum before a frame is handed on.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

import msgspec
from xxhash import xxh3_64

from actors.errors import StreamCorrupt

MAGIC = b"NC"
VERSION = 1
HEADER_BYTES = 32
PAYLOAD_MAX_BYTES = 262144
HANDSHAKE_MAX_BYTES = 4096

# magic, version, type, flags, 3 zero bytes, channel, seq, length; the checksum follows
_FIELDS = struct.Struct(">2sBBB3sIQI")
_CHECKSUM = struct.Struct(">Q")
_CHECKED_BYTES = _FIELDS.size
_ZEROS = b"\0\0\0"

CLOSED = 0x01
"""Flag of END: the sender's local end is gone altogether; it neither writes nor reads any more."""


class FrameType(IntEnum):
    """What a frame is; the numbers are on the wire and never change their meaning."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    OPEN = 4
    DATA = 5
    END = 6
    RESET = 7
    GONE = 8
    ACK = 9
    PING = 10
    PONG = 11
    BYE = 12


HANDSHAKE_TYPES = frozenset({FrameType.HELLO, FrameType.WELCOME, FrameType.REFUSE})
SEQUENCED_TYPES = frozenset({FrameType.OPEN, FrameType.DATA, FrameType.END})

# Shortest and longest payload of each type: a hostile length is refused before a byte of it is stored.
_LENGTHS: dict[FrameType, tuple[int, int]] = {
    FrameType.HELLO: (1, HANDSHAKE_MAX_BYTES),
    FrameType.WELCOME: (1, HANDSHAKE_MAX_BYTES),
    FrameType.REFUSE: (1, HANDSHAKE_MAX_BYTES),
    FrameType.OPEN: (2, 1024),
    FrameType.DATA: (1, PAYLOAD_MAX_BYTES),
    FrameType.END: (0, 0),
    FrameType.RESET: (0, 512),
    FrameType.GONE: (0, 0),
    FrameType.ACK: (8, 8),
    FrameType.PING: (0, 0),
    FrameType.PONG: (0, 0),
    FrameType.BYE: (0, 512),
}
_TYPES = {int(kind): kind for kind in FrameType}


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame. `seq` numbers frames of a channel (OPEN, DATA, END), acknowledges (ACK) or carries a clock (PING)."""

    type: FrameType
    channel: int = 0
    seq: int = 0
    flags: int = 0
    payload: bytes = b""


def encode(frame: Frame, version: int = VERSION) -> bytes:
    """The bytes of `frame`: header, checksum, payload."""
    assert len(frame.payload) <= _LENGTHS[frame.type][1], "senders cut data to size"
    fields = _FIELDS.pack(MAGIC, version, frame.type, frame.flags, _ZEROS, frame.channel, frame.seq, len(frame.payload))
    digest = xxh3_64(fields)
    digest.update(frame.payload)
    return b"".join((fields, _CHECKSUM.pack(digest.intdigest()), frame.payload))


class FrameParser:
    """Cuts the bytes of one connection into frames.

    Read into `space()`, tell `filled(count)`, then iterate `frames()`. Until `agree` only handshake frames pass, of any
    version, because the handshake is what finds the version; afterwards only other frames, of the agreed version.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(2 * (HEADER_BYTES + HANDSHAKE_MAX_BYTES))
        self._start = 0
        self._end = 0
        self._version: int | None = None
        self.handshake_version = 0

    def agree(self, version: int) -> None:
        """The handshake is over; from now on frames have `version`."""
        self._version = version
        self._make_room(4 * 32768)

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._buffer) - self._end < len(self._buffer) // 4:
            self._make_room(len(self._buffer))
        return memoryview(self._buffer)[self._end :]

    def filled(self, count: int) -> None:
        """`count` bytes were written to `space()`."""
        self._end += count

    def frames(self) -> Iterator[Frame]:
        """Every whole frame that has arrived.

        Raises:
            StreamCorrupt: these bytes are not ours; nothing after them can be used, so the connection must be closed.
        """
        while self._end - self._start >= HEADER_BYTES:
            frame = self._next()
            if frame is None:
                return
            yield frame

    def _next(self) -> Frame | None:
        start = self._start
        magic, version, number, flags, zeros, channel, seq, length = _FIELDS.unpack_from(self._buffer, start)
        kind = self._check(magic, version, number, flags, zeros, length)
        total = HEADER_BYTES + length
        if self._end - start < total:
            if len(self._buffer) - start < total:
                self._make_room(2 * total)
            return None
        view = memoryview(self._buffer)
        payload = bytes(view[start + HEADER_BYTES : start + total])
        digest = xxh3_64(view[start : start + _CHECKED_BYTES])
        digest.update(payload)
        (checksum,) = _CHECKSUM.unpack_from(self._buffer, start + _CHECKED_BYTES)
        if digest.intdigest() != checksum:
            raise StreamCorrupt(reason=f"checksum of a {kind.name} frame is wrong")
        self._start += total
        self.handshake_version = version
        return Frame(kind, channel, seq, flags, payload)

    def _check(self, magic: bytes, version: int, number: int, flags: int, zeros: bytes, length: int) -> FrameType:
        if magic != MAGIC:
            raise StreamCorrupt(reason="not a frame: wrong magic")
        kind = _TYPES.get(number)
        if kind is None:
            raise StreamCorrupt(reason=f"unknown frame type {number}")
        if (kind in HANDSHAKE_TYPES) != (self._version is None):
            raise StreamCorrupt(reason=f"{kind.name} frame at the wrong moment")
        if self._version not in (None, version):
            raise StreamCorrupt(reason=f"frame of version {version}, agreed was {self._version}")
        if zeros != _ZEROS or flags & ~CLOSED or (flags and kind is not FrameType.END):
            raise StreamCorrupt(reason=f"{kind.name} frame with unknown flags")
        shortest, longest = _LENGTHS[kind]
        if not shortest <= length <= longest:
            raise StreamCorrupt(reason=f"{kind.name} frame of {length} bytes")
        return kind

    def _make_room(self, capacity_bytes: int) -> None:
        """Move what is left to the front, of a larger buffer if need be."""
        left = self._buffer[self._start : self._end]
        if capacity_bytes > len(self._buffer):
            self._buffer = bytearray(capacity_bytes)
        self._buffer[: len(left)] = left
        self._start, self._end = 0, len(left)
