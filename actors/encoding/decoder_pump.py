"""The target's half of a stream: wire → decoder → QEMU's socket; back go QEMU's answers and the decoder's own."""

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from actors.encoding import sockets
from actors.encoding.decoder import Decoder
from actors.encoding.files import FileBlocks
from actors.encoding.filler import Filler
from actors.encoding.messages import CodecStats
from actors.encoding.pump import COPY_BYTES, Patience, Pump
from actors.encoding.reverse import Answer, Message, pack
from actors.encoding.shelf import Shelf
from actors.encoding.store import Store

# QEMU loads one batch while the next is rebuilt. With the 200 KiB that a host allows by itself they take turns.
INTAKE_BYTES = 1 << 20


class DecoderPump(Pump):
    """Decodes one stream. Listens for the transport at `wire_path`; connects to `qemu_path` with the first data.

    Args:
        cache_mib: the largest page ring that the sender may ask for, MiB.
        key: of the digests of this node's blocks.
        store: the node's store, referred to and filled; None: it has none.
        files: files that the sender may refer to; closed with the job once it was started.
        disk: QEMU is an NBD server: it speaks first, so it is connected to at once.
    """

    def __init__(
        self,
        job: str,
        wire_path: Path | None,
        qemu_path: Path,
        cache_mib: int,
        patience: Patience,
        key: bytes = bytes(16),
        store: Store | None = None,
        files: Sequence[FileBlocks] = (),
        *,
        disk: bool = False,
    ) -> None:
        super().__init__(job, wire_path, qemu_path, patience)
        self._files = files
        self._disk = disk
        self._decoder = Decoder(cache_mib, Shelf(key, store, files))
        self._filler = Filler(job, store, lambda: self._decoder.ring) if store is not None and store.slots else None
        self._back = threading.Lock()
        self._last_at = 0.0

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
            last_at=self._last_at,
        )

    def _forward(self, peer: socket.socket) -> None:
        decoder = self._decoder
        qemu = self._return_path(peer) if self._disk else None
        if self._filler is not None:
            self._filler.start()
        while not decoder.finished:
            size = peer.recv_into(decoder.room())
            if size == 0:
                decoder.end()
            for ready in decoder.decode(size):
                if qemu is None:
                    qemu = self._return_path(peer)
                qemu.sendall(ready)
                self._last_at = time.time()
            while decoder.replies:
                self._send_back(peer, decoder.replies.popleft())
        # A stream without a byte still has an end that QEMU must see.
        self._end_forward(qemu or self._return_path(peer))

    def _finish(self) -> None:
        super()._finish()
        if self._filler is not None:
            self._filler.end()
        for file in self._files:
            file.close()

    def _send_back(self, wire: socket.socket, message: Message) -> None:
        with self._back:
            wire.sendall(pack(message))

    def _return_path(self, wire: socket.socket) -> socket.socket:
        qemu = self._connect()
        sockets.widen(qemu, INTAKE_BYTES)
        self._help(lambda: self._copy_back(qemu, wire), "back")
        return qemu

    def _copy_back(self, qemu: socket.socket, wire: socket.socket) -> None:
        buffer = bytearray(COPY_BYTES)
        how = "closed its end"
        try:
            while size := qemu.recv_into(buffer):
                self._send_back(wire, Answer(bytes(buffer[:size])))
            self._send_back(wire, Answer(b""))
        except OSError as error:
            how = str(error)
        self._returned(how)
