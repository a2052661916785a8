"""UNIX stream sockets of one job: listen, accept one, connect once somebody listens; each with a deadline."""

import socket
import stat
import threading
import time
from pathlib import Path

from actors.errors import Conflict, DeadlineExceeded, Unreachable

# Linux' number for it; Python does not name it.
_SO_SNDBUFFORCE = 32
RETRY_S = 0.02
LOOK_UP_S = 0.1


def listen(path: Path, backlog: int = 1) -> socket.socket:
    """A listening socket at `path` that every local user may connect to; a socket left there before goes.

    `backlog`: how many may have connected and not been accepted; who comes then and won't wait fails.

    Raises:
        Conflict: something that is no socket lies there.
    """
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise Conflict(detail=f"{path} exists and is not a socket")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        # QEMU runs as a user of its own; the directory keeps others out.
        path.chmod(0o666)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise Unreachable(what=f"{path}: {error.strerror or error}") from error
    return listener


def accept(listener: socket.socket, patience_s: float, stop: threading.Event) -> socket.socket:
    """The first connection to `listener`, unless `stop` is set before.

    Raises:
        DeadlineExceeded: nobody connected within `patience_s`.
        Unreachable: `stop` was set.
    """
    path = listener.getsockname()
    until_s = time.monotonic() + patience_s
    # Shutting a listening UNIX socket down does not wake its accept, so it looks up now and then.
    listener.settimeout(min(LOOK_UP_S, patience_s))
    while True:
        try:
            return listener.accept()[0]
        except TimeoutError as error:
            if stop.is_set():
                raise Unreachable(what=f"{path}: the job was closed") from error
            if time.monotonic() >= until_s:
                raise DeadlineExceeded(what=f"the peer of {path}", deadline_s=patience_s) from error


def connect(path: Path, patience_s: float, stop: threading.Event) -> socket.socket:
    """A connection to `path`, tried again until somebody listens there or `stop` is set.

    Raises:
        DeadlineExceeded: nobody did within `patience_s`.
        Unreachable: `stop` was set.
    """
    until_s = time.monotonic() + patience_s
    while True:
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        attempt.settimeout(patience_s)
        try:
            attempt.connect(str(path))
            return attempt
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            attempt.close()
            if time.monotonic() >= until_s:
                raise DeadlineExceeded(what=str(path), deadline_s=patience_s) from error
        except OSError:
            attempt.close()
            raise
        if stop.wait(RETRY_S):
            raise Unreachable(what=f"{path}: the job was closed")


def widen(connection: socket.socket, size_bytes: int) -> None:
    """Let `connection` hold about so much that its peer has not read; but for root, as much as the host allows."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size_bytes)
    except OSError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size_bytes)
