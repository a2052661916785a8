"""The source's half of a stream: QEMU's socket → encoder → wire; what comes back is answered, learnt or QEMU's."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from actors.config.schema import Encoding
from actors.encoding.codec import WINDOW_LOG
from actors.encoding.encoder import Encoder, Settings
from actors.encoding.far import Acquaintances
from actors.encoding.filler import Filler
from actors.encoding.handover import Handover
from actors.encoding.messages import CodecStats
from actors.encoding.nbd import NbdParser
from actors.encoding.plan import Planner, Seen
from actors.encoding.pump import COPY_BYTES, Patience, Pump
from actors.encoding.reverse import Answer, Done, Message, Need, Prints, Reader, Ready, Sources
from actors.encoding.store import Store
from actors.errors import DeadlineExceeded, NovaCronError

# The beginning of a record waits so long for its rest, then it is sent as it is: QEMU may be waiting for an answer.
HELD_S = 0.003
# QEMU hands over some 128 KiB at a time. What follows within so long goes into the same batch: each wakes every process
# on the way, and where most pages are found at the target it is but 1 KiB.
GATHER_S = 0.002
# QEMU's stream waits so long for what the far side has. That was asked for when the job was opened, so it is here.
READY_S = 1.0
# Disks may be many, each with a window of its own; 8 MiB are enough where blocks that repeat are found otherwise.
DISK_WINDOW_LOG = 23


def _gather(peer: socket.socket, room: memoryview) -> int:
    """Read what comes into `room`, and what follows at once; how much it was."""
    size = peer.recv_into(room)
    peer.settimeout(GATHER_S)
    with suppress(TimeoutError):
        while 0 < size < len(room) and (more := peer.recv_into(room[size:])):
            size += more
    return size


class EncoderPump(Pump):
    """Encodes one stream. Listens for QEMU at `qemu_path`, and connects to the transport at `wire_path` meanwhile.

    Args:
        link_bytes_per_s: forecast of the link, 0: unknown.
        acquaintances: what is remembered of other nodes' stores.
        store: this node's own, to be filled with what passes.
        disk: the stream is that of an NBD client, not that of a migration.
    """

    def __init__(
        self,
        job: str,
        qemu_path: Path | None,
        wire_path: Path,
        config: Encoding,
        patience: Patience,
        link_bytes_per_s: float = 0.0,
        acquaintances: Acquaintances | None = None,
        store: Store | None = None,
        *,
        disk: bool = False,
    ) -> None:
        super().__init__(job, qemu_path, wire_path, patience)
        settings = Settings(
            zero=config.zero,
            store=config.store_mib > 0,
            files=config.images,
            dedupe=config.dedupe,
            delta=config.delta,
            zstd=config.zstd,
            dedupe_cache_mib=config.dedupe_cache_mib,
            batch_bytes=config.batch_bytes,
            window_log=DISK_WINDOW_LOG if disk else WINDOW_LOG,
        )
        self._behind_bytes = config.qemu_buffer_bytes
        self._encoder = Encoder(settings, time.thread_time, acquaintances, NbdParser() if disk else None)
        self._planner = Planner(config.zstd_level, link_bytes_per_s)
        self._handover = Handover()
        self._filler = Filler(job, store, lambda: self._encoder.ring) if store is not None and store.slots else None
        self._qemu: socket.socket | None = None
        self._qemu_here = threading.Event()
        self._wire: socket.socket | None = None
        self._wire_here = threading.Event()
        self._ready = threading.Event()
        self._pages_at = self._last_at = 0.0

    def stats(self) -> CodecStats:
        """The job's account."""
        encoder = self._encoder
        return CodecStats(
            job=self.job,
            state=self.state,
            reason=self.reason,
            stream_bytes=encoder.stream_bytes,
            wire_bytes=encoder.wire_bytes,
            missed=encoder.missed,
            round=encoder.rounds,
            layers={name: tally.count() for name, tally in encoder.layers.items()},
            digest=encoder.digest,
            memory_mib=encoder.memory_bytes / (1 << 20),
            pages_at=self._pages_at,
            last_at=self._last_at,
        )

    def start(self, peer: socket.socket | None = None) -> None:
        """Listen for QEMU; meanwhile ask the far side what it has."""
        super().start(peer)
        self._help(self._meet, "back")

    def _meet(self) -> None:
        """Connect to the wire, open the stream, and take what comes back until the far side ends it."""
        how = "closed its end"
        reader = Reader()
        buffer = bytearray(COPY_BYTES)
        view = memoryview(buffer)
        try:
            self._wire = wire = self._connect()
            wire.sendall(self._encoder.open())
            self._wire_here.set()
            while size := wire.recv_into(buffer):
                for message in reader.feed(view[:size]):
                    self._take(message)
        except OSError as error:
            how = str(error)
        except NovaCronError as error:
            self._fail(str(error))
        finally:
            self._wire_here.set()
            self._ready.set()
            self._encoder.window.stop()
        self._returned(how)

    def _take(self, message: Message) -> None:
        encoder = self._encoder
        match message:
            case Sources():
                encoder.far.meet(message)
            case Prints():
                encoder.far.learn(message)
            case Ready():
                encoder.far.ready()
                self._ready.set()
            case Done(offset):
                encoder.window.done(offset)
            case Need():
                self._handover.answer(encoder.missing(message))
            case Answer(data):
                self._answer(data)

    def _answer(self, data: bytes) -> None:
        """Hand bytes of the return path to QEMU; none: their end."""
        if not self._qemu_here.wait(self._patience.connect_s) or self._qemu is None:
            raise DeadlineExceeded(what="QEMU, for which an answer came", deadline_s=self._patience.connect_s)
        if data:
            self._qemu.sendall(data)
        else:
            self._qemu.shutdown(socket.SHUT_WR)

    def _forward(self, peer: socket.socket) -> None:
        # What goes back has a deadline of its own, however short the next bytes are waited for.
        self._qemu = self._keep(peer.dup())
        self._qemu.settimeout(self._patience.stall_s)
        self._qemu_here.set()
        self._wire_here.wait(self._patience.connect_s)
        wire = self._wire
        if wire is None:
            raise DeadlineExceeded(what=str(self._connect_path), deadline_s=self._patience.connect_s)
        self._ready.wait(READY_S)
        self._help(lambda: self._write(wire), "write")
        if self._filler is not None:
            self._filler.start()
        try:
            while self._batch(peer):
                pass
            self._handover.put(self._encoder.finish(), self._patience.stall_s)
            self._handover.drain(self._patience.stall_s)
            # Until the last batch has been rebuilt there, pages of it may be asked for.
            self._encoder.window.wait_until_empty(self._patience.stall_s)
        finally:
            self._handover.stop()
        self._end_forward(wire)

    def _finish(self) -> None:
        super()._finish()
        if self._filler is not None:
            self._filler.end()

    def _batch(self, peer: socket.socket) -> bool:
        """Encode what QEMU has ready; False at the end of its stream."""
        encoder = self._encoder
        start_s = time.perf_counter()
        # While the wire is behind, what is taken from QEMU only waits here, and QEMU takes it for sent.
        limit = encoder.settings.batch_bytes if self._handover.idle else self._behind_bytes
        peer.settimeout(HELD_S if encoder.held_bytes else self._patience.stall_s)
        try:
            size = _gather(peer, encoder.room(limit))
            if size == 0:
                return False
        except TimeoutError:
            if not encoder.held_bytes:
                raise
            size = 0
        taken_s = time.perf_counter()
        encoder.level = level = self._planner.level
        before = encoder.layers["zstd"].count()
        cpu_s = time.thread_time()
        frame = encoder.encode(size, flush=size == 0)
        encoded_s, cpu_s = time.perf_counter(), time.thread_time() - cpu_s
        if frame:
            self._handover.put(frame, self._patience.stall_s)
            self._last_at = time.time()
            if encoder.found_pages:
                self._pages_at = self._last_at
        written_s = time.perf_counter()
        if frame:
            encoder.window.wait_for_room(self._patience.stall_s)
        after = encoder.layers["zstd"].count()
        self._planner.observe(
            Seen(
                level=level,
                encode_s=encoded_s - taken_s,
                wire_s=written_s - encoded_s,
                others_s=taken_s - start_s + time.perf_counter() - written_s,
                cpu_s=cpu_s,
                zstd_s=after.cpu_s - before.cpu_s,
                payload_bytes=after.bytes_in - before.bytes_in,
                body_bytes=after.bytes_out - before.bytes_out,
                past_bytes=len(frame) if after.bytes_in == before.bytes_in else 0,
                stream_bytes=size,
            )
        )
        return True

    def _write(self, wire: socket.socket) -> None:
        try:
            while frame := self._handover.take():
                wire.sendall(frame)
                self._handover.written(frame)
        except OSError as error:
            self._fail(f"the wire: {error}")
            self._handover.stop()
