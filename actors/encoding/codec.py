"""Compression of the batches' payloads: the only place that knows zstd.

The payloads of a stream are one zstd frame, flushed after every batch, with a window of 64 MiB and long-distance
matching: a batch is coded with all that went before, whatever its size. ``docs/benchmarks.md`` says what that gained
over a frame for each batch. Another level begins a new frame, as does anything that breaks the order of payloads.
"""

from typing import IO, cast

import zstandard

from actors.encoding.format import CODEC_BEGIN, CODEC_GO_ON, CODEC_NONE, STREAM_MAX_BYTES
from actors.errors import StreamCorrupt

WINDOW_LOG = 26
# Shorter payloads are not worth a block of zstd's.
WORTH_BYTES = 64
# The most that any batch's payload comes to; zstd hands out what it has in pieces of this size, so in one.
_PAYLOAD_MAX_BYTES = 2 * STREAM_MAX_BYTES + 64


class Compressor:
    """Compresses the payloads of one stream, in the order in which they are sent, with a window of 2^`window_log`."""

    def __init__(self, window_log: int = WINDOW_LOG) -> None:
        self._window_log = window_log
        self._frame: zstandard.ZstdCompressionObj | None = None
        self._level = 0

    def compress(self, payload: bytes, level: int) -> tuple[int, bytes]:
        """(codec, body) at `level`, 1 or more; 0 leaves the payload as it is, out of the frame."""
        if level == 0 or len(payload) < WORTH_BYTES:
            return CODEC_NONE, payload
        codec = CODEC_GO_ON
        if self._frame is None or level != self._level:
            codec, self._level = CODEC_BEGIN, level
            options = zstandard.ZstdCompressionParameters.from_level(
                level, window_log=self._window_log, enable_ldm=True
            )
            self._frame = zstandard.ZstdCompressor(compression_params=options).compressobj()
        body = self._frame.compress(payload) + self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return codec, body


class _Payload:
    """Takes what zstd restores, and no more of it than was announced."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._left_bytes = 0

    def write(self, piece: memoryview) -> int:
        """Called by zstd."""
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise StreamCorrupt(reason="a compressed body is longer than its header says")
        self._pieces.append(bytes(piece))
        return len(piece)

    def expect(self, size: int) -> None:
        """The next payload has `size` bytes."""
        self._pieces, self._left_bytes = [], size

    def taken(self) -> bytes:
        """The payload."""
        if self._left_bytes:
            raise StreamCorrupt(reason="a compressed body is shorter than its header says")
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class Decompressor:
    """Restores payloads, in the order in which they were compressed."""

    def __init__(self) -> None:
        self._payload = _Payload()
        self._frame: zstandard.ZstdDecompressionWriter | None = None

    def decompress(self, codec: int, body: memoryview, payload_bytes: int) -> bytes | memoryview:
        """The payload of exactly `payload_bytes`.

        Raises:
            StreamCorrupt: the body is not what compressing a payload of that size gives.
        """
        if codec == CODEC_NONE:
            if len(body) != payload_bytes:
                raise StreamCorrupt(reason=f"a plain body of {len(body)} bytes instead of {payload_bytes}")
            return body.toreadonly()
        if codec == CODEC_BEGIN:
            context = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
            self._frame = context.stream_writer(
                cast(IO[bytes], self._payload), write_size=_PAYLOAD_MAX_BYTES, closefd=False
            )
        if self._frame is None:
            raise StreamCorrupt(reason="a body goes on with a compressed frame that never began")
        self._payload.expect(payload_bytes)
        try:
            self._frame.write(body)
        except zstandard.ZstdError as error:
            raise StreamCorrupt(reason=f"a body can't be decompressed: {error}") from error
        return self._payload.taken()
