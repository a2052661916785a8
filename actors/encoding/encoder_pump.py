"""The source's half of a job: QEMU's socket → encoder → wire, and the return path back as it is."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from actors.config.schema import Encoding
from actors.encoding.encoder import Encoder, IndexedImage, Settings
from actors.encoding.handover import Handover
from actors.encoding.level import LevelChooser
from actors.encoding.messages import CodecStats
from actors.encoding.pump import Patience, Pump

# The beginning of a record waits so long for its rest, then it is sent as it is: QEMU may be waiting for an answer.
HELD_S = 0.003


class EncoderPump(Pump):
    """Encodes one job. Listens for QEMU at `qemu_path`, then connects to the transport at `wire_path`.

    Args:
        link_bytes_per_s: forecast of the link, 0: unknown.
        images: disk images that the target has too.
    """

    def __init__(
        self,
        job: str,
        qemu_path: Path,
        wire_path: Path,
        config: Encoding,
        patience: Patience,
        link_bytes_per_s: float = 0.0,
        images: Sequence[IndexedImage] = (),
    ) -> None:
        super().__init__(job, qemu_path, wire_path, patience)
        settings = Settings(
            zero=config.zero,
            dedupe=config.dedupe,
            delta=config.delta,
            zstd=config.zstd,
            dedupe_cache_mib=config.dedupe_cache_mib,
            batch_bytes=config.batch_bytes,
        )
        self._behind_bytes = config.qemu_buffer_bytes
        self._encoder = Encoder(settings, time.thread_time, images)
        self._chooser = LevelChooser(config.zstd_level, link_bytes_per_s)
        self._handover = Handover()

    def stats(self) -> CodecStats:
        """The job's account."""
        encoder = self._encoder
        return CodecStats(
            job=self.job,
            state=self.state,
            reason=self.reason,
            stream_bytes=encoder.stream_bytes,
            wire_bytes=encoder.wire_bytes,
            round=encoder.rounds,
            layers={name: tally.count() for name, tally in encoder.layers.items()},
            digest=encoder.digest,
            memory_mib=encoder.memory_bytes / (1 << 20),
        )

    def _forward(self, peer: socket.socket) -> None:
        wire = self._connect()
        self._help(lambda: self._write(wire), "write")
        self._help(lambda: self._copy_back(wire, peer), "back")
        try:
            while self._batch(peer):
                pass
            self._handover.put(self._encoder.finish(), self._patience.stall_s)
            self._handover.drain(self._patience.stall_s)
        finally:
            self._handover.stop()
        self._end_forward(wire)

    def _batch(self, peer: socket.socket) -> bool:
        """Encode what QEMU has ready; False at the end of its stream."""
        encoder = self._encoder
        start_s = time.perf_counter()
        # While the wire is behind, what is taken from QEMU only waits here, and QEMU takes it for sent.
        limit = encoder.settings.batch_bytes if self._handover.idle else self._behind_bytes
        peer.settimeout(HELD_S if encoder.held_bytes else self._patience.stall_s)
        try:
            size = peer.recv_into(encoder.room(limit))
            if size == 0:
                return False
        except TimeoutError:
            if not encoder.held_bytes:
                raise
            size = 0
        taken_s = time.perf_counter()
        encoder.level = self._chooser.level
        cpu_s = time.thread_time()
        frame = encoder.encode(size, flush=size == 0)
        encoded_s, cpu_s = time.perf_counter(), time.thread_time() - cpu_s
        if frame:
            self._handover.put(frame, self._patience.stall_s)
        self._chooser.observe(
            qemu_s=taken_s - start_s,
            encode_s=encoded_s - taken_s,
            cpu_s=cpu_s,
            wire_s=time.perf_counter() - encoded_s,
        )
        return True

    def _write(self, wire: socket.socket) -> None:
        try:
            while frame := self._handover.take():
                wire.sendall(frame)
                self._handover.written()
        except OSError as error:
            self._fail(f"the wire: {error}")
            self._handover.stop()
