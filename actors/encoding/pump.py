"""Moves one job's bytes between two UNIX sockets: threads, deadlines and half-closes around an engine.

How many bytes may lie between QEMU and the wire is in ``docs/formats/hde.md``: nothing here waits to fill a batch, and
at most two batches are under way, the one being encoded and the one being written.
"""

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from actors.encoding import sockets
from actors.encoding.messages import CodecStats
from actors.errors import NovaCronError

log = structlog.get_logger()

# A target's QEMU that closes before the source's has ended the stream has either just finished or failed.
EARLY_END_S = 5.0
COPY_BYTES = 65536


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines in seconds.

    `peer_s`: for the first connection; `connect_s`: for the socket to connect to; `stall_s`: for any one read or write;
    `end_s`: for the return path to end after the stream has.
    """

    peer_s: float
    connect_s: float
    stall_s: float
    end_s: float


class Pump(ABC):
    """One stream: listens at `listen_path` and, when its peer needs it, connects to `connect_path`.

    `start` returns once the path can be connected to; all else happens in threads. Whatever fails ends both
    connections, so that both QEMUs see it at once. Without a path to listen at, `start` is given the peer.
    """

    def __init__(self, job: str, listen_path: Path | None, connect_path: Path, patience: Patience) -> None:
        self.job = job
        self.state = "waiting"
        self.reason = ""
        self._listen_path = listen_path
        self._connect_path = connect_path
        self._patience = patience
        self._stop = threading.Event()
        self._forwarded = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._main: threading.Thread | None = None
        self._helpers: list[threading.Thread] = []

    @abstractmethod
    def stats(self) -> CodecStats:
        """The job's account."""

    @abstractmethod
    def _forward(self, peer: socket.socket) -> None:
        """Move the stream that `peer` sends to its end, then `_end_forward`."""

    @property
    def ended(self) -> bool:
        """Whether the job is over, well or badly."""
        return self.state in ("done", "failed")

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._main is not None and not self._main.is_alive()

    def start(self, peer: socket.socket | None = None) -> None:
        """Listen, unless `peer` has come already, and work in the background."""
        if peer is None:
            assert self._listen_path is not None, "somebody has to come from somewhere"
            peer = sockets.listen(self._listen_path)
        first = self._keep(peer)
        self._main = threading.Thread(target=self._run, args=(first,), name=f"{self.job}-forward", daemon=True)
        self._main.start()

    def close(self) -> None:
        """End the job now; one that was not done has failed. Returns when its threads have ended; may be repeated."""
        self._fail("it was closed before its end")
        self._end_connections()
        if self._main is not None:
            self._main.join(timeout=self._patience.end_s)

    def _run(self, peer: socket.socket) -> None:
        try:
            if self._listen_path is not None:
                peer = self._keep(sockets.accept(peer, self._patience.peer_s, self._stop))
                self._listen_path.unlink(missing_ok=True)
            peer.settimeout(self._patience.stall_s)
            self.state = "running"
            self._forward(peer)
        except (OSError, NovaCronError) as error:
            self._fail(str(error))
        except Exception as error:  # a fault of ours: the job ends like any other failed one, the log has the trace
            log.exception("job failed", job=self.job)
            self._fail(repr(error))
        self._finish()

    def _finish(self) -> None:
        until = self._patience.end_s if self.state == "done" else 0.0
        for thread in self._helpers:
            thread.join(timeout=until)
        self._end_connections()
        for thread in self._helpers:
            thread.join(timeout=self._patience.end_s)
        for opened in self._sockets:
            opened.close()
        if self._listen_path is not None:
            self._listen_path.unlink(missing_ok=True)

    def _connect(self) -> socket.socket:
        far = self._keep(sockets.connect(self._connect_path, self._patience.connect_s, self._stop))
        far.settimeout(self._patience.stall_s)
        return far

    def _end_forward(self, far: socket.socket) -> None:
        """All has been written to `far`: tell it so. The return path may go on for a while."""
        far.shutdown(socket.SHUT_WR)
        with self._lock:
            if self.state != "failed":
                self.state = "done"
        self._forwarded.set()
        log.info("stream ended", **msgspec.to_builtins(self.stats()))

    def _returned(self, how: str) -> None:
        """The return path has ended: a failure only when the stream does not end too."""
        if not self._forwarded.wait(EARLY_END_S):
            self._fail(f"the return path ended before the stream did: {how}")

    def _help(self, work: Callable[[], None], name: str) -> None:
        """Run `work` in a thread of this job."""
        thread = threading.Thread(target=work, name=f"{self.job}-{name}", daemon=True)
        self._helpers.append(thread)
        thread.start()

    def _fail(self, reason: str) -> None:
        with self._lock:
            if self.ended:
                return
            self.state, self.reason = "failed", reason
        log.warning("stream failed", job=self.job, reason=reason)
        self._forwarded.set()
        self._end_connections()

    def _end_connections(self) -> None:
        # Shut down, not closed: whoever waits on one of them wakes up, and no descriptor is reused under a thread.
        self._stop.set()
        with self._lock:
            for opened in self._sockets:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def _keep(self, opened: socket.socket) -> socket.socket:
        with self._lock:
            self._sockets.append(opened)
        if self._stop.is_set():
            self._end_connections()
        return opened
