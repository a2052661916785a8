"""The streams of one job: memory's, and one for each of its disks, all of which connect to one socket."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from actors.encoding import sockets
from actors.encoding.messages import CodecStats, DiskStats, add_layers
from actors.encoding.pump import Pump
from actors.errors import NovaCronError

log = structlog.get_logger()

# Connections at once. QEMU has one for each disk; a second one may come before the end of the first was noticed.
CONNECTIONS_PER_DISK = 2


class DiskGate:
    """Takes in the connections of `disks` disks at `path`.

    Args:
        make: a pump that is not started, for one connection.
        patience_s: how long each connection is waited for.
    """

    def __init__(self, job: str, path: Path, disks: int, make: Callable[[], Pump], patience_s: float) -> None:
        self._job = job
        self._path = path
        self._room = disks * CONNECTIONS_PER_DISK
        self._make = make
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._pumps: list[Pump] = []
        self._ended = DiskStats()
        self._stop = threading.Event()
        self._main: threading.Thread | None = None

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._main is not None and not self._main.is_alive() and all(pump.over for pump in self._pumps)

    def start(self) -> None:
        """Listen, and work in the background.

        Raises:
            Conflict, Unreachable: see `sockets.listen`.
        """
        listener = sockets.listen(self._path, backlog=self._room)
        self._main = threading.Thread(target=self._run, args=(listener,), name=f"{self._job}-disks", daemon=True)
        self._main.start()

    def stats(self) -> DiskStats:
        """The sum over all streams."""
        with self._lock:
            self._reap()
            total = self._ended
            for pump in self._pumps:
                total = _plus(total, pump.stats())
            return total

    def close(self) -> None:
        """End every stream now, and take no more; may be repeated."""
        self._stop.set()
        with self._lock:
            pumps = list(self._pumps)
        for pump in pumps:
            pump.close()
        if self._main is not None:
            self._main.join(timeout=self._patience_s)

    def _run(self, listener: socket.socket) -> None:
        try:
            with listener:
                while True:
                    self._take(sockets.accept(listener, self._patience_s, self._stop))
        except NovaCronError as error:
            # Closed, or nobody has come for as long as a whole move may take.
            log.debug("no more disks are taken in", job=self._job, reason=str(error))
        finally:
            self._path.unlink(missing_ok=True)

    def _take(self, peer: socket.socket) -> None:
        with self._lock:
            self._reap()
            if len(self._pumps) >= self._room:
                log.warning("a disk's connection refused", job=self._job, connections=len(self._pumps))
                peer.close()
                return
        pump = self._make()
        with self._lock:
            self._pumps.append(pump)
            pump.start(peer)
        if self._stop.is_set():
            pump.close()

    def _reap(self) -> None:
        """Keep of streams that are over the account alone, not their memory."""
        for pump in [each for each in self._pumps if each.over]:
            self._pumps.remove(pump)
            self._ended = _plus(self._ended, pump.stats())


def _plus(total: DiskStats, stats: CodecStats) -> DiskStats:
    return DiskStats(
        streams=total.streams + 1,
        stream_bytes=total.stream_bytes + stats.stream_bytes,
        wire_bytes=total.wire_bytes + stats.wire_bytes,
        layers=add_layers(total.layers, stats.layers),
    )


class Streams:
    """All streams of one job; without `disks`, memory's alone."""

    def __init__(self, memory: Pump, disks: DiskGate | None) -> None:
        self.job = memory.job
        self._memory = memory
        self._disks = disks

    @property
    def ended(self) -> bool:
        """Whether the job is over, well or badly."""
        return self._memory.ended and (self._disks is None or self._disks.over)

    def start(self) -> None:
        """Listen, and work in the background; what can't start leaves nothing behind."""
        if self._disks is not None:
            self._disks.start()
        try:
            self._memory.start()
        except NovaCronError:
            if self._disks is not None:
                self._disks.close()
            raise

    def stats(self) -> CodecStats:
        """The job's account."""
        stats = self._memory.stats()
        return stats if self._disks is None else msgspec.structs.replace(stats, disks=self._disks.stats())

    def close(self) -> None:
        """End the job now; may be repeated."""
        if self._disks is not None:
            self._disks.close()
        self._memory.close()
