"""The target's half of a job: wire → decoder → QEMU's incoming socket, and the return path back as it is."""

import socket
from collections.abc import Sequence
from pathlib import Path

from actors.encoding.decoder import Decoder
from actors.encoding.images import OpenImage
from actors.encoding.messages import CodecStats
from actors.encoding.pump import Patience, Pump


class DecoderPump(Pump):
    """Decodes one job. Listens for the transport at `wire_path`; connects to QEMU at `qemu_path` with the first data.

    Args:
        cache_mib: the largest page ring that the sender may ask for, MiB.
        images: disk images that the sender may refer to; closed with the job once it was started.
    """

    def __init__(
        self,
        job: str,
        wire_path: Path,
        qemu_path: Path,
        cache_mib: int,
        patience: Patience,
        images: Sequence[OpenImage] = (),
    ) -> None:
        super().__init__(job, wire_path, qemu_path, patience)
        self._images = images
        self._decoder = Decoder(cache_mib, images)

    def stats(self) -> CodecStats:
        """The job's account; what each layer did is the encoder's to tell."""
        decoder = self._decoder
        return CodecStats(
            job=self.job,
            state=self.state,
            reason=self.reason,
            stream_bytes=decoder.stream_bytes,
            wire_bytes=decoder.wire_bytes,
            digest=decoder.digest,
            memory_mib=decoder.memory_bytes / (1 << 20),
        )

    def _forward(self, peer: socket.socket) -> None:
        decoder = self._decoder
        qemu: socket.socket | None = None
        while not decoder.finished:
            size = peer.recv_into(decoder.room())
            if size == 0:
                decoder.end()
            ready = decoder.decode(size)
            if qemu is None:
                qemu = self._return_path(peer)
            if ready:
                qemu.sendall(ready)
        assert qemu is not None, "the final batch is not the first byte"
        self._end_forward(qemu)

    def _finish(self) -> None:
        super()._finish()
        for image in self._images:
            image.close()

    def _return_path(self, peer: socket.socket) -> socket.socket:
        qemu = self._connect()
        self._help(lambda: self._copy_back(qemu, peer), "back")
        return qemu
