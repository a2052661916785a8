"""This host's node as one process: claimed by it, found by others, started in the background, stopped.

The claim is a lock on a file in the node's run directory. The kernel drops it with its holder, however that ends, and
tells who holds it: there is no stale process number to mistake for the node's.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from actors.boot.status import BootStatus
from actors.errors import BootFailed, Conflict, DeadlineExceeded, Failed
from actors.locks import hold, holder

STATUS_FILE = "node-status.json"
_CLAIM_FILE = "node.lock"
_POLL_S = 0.1
_KILLED_S = 10.0
_LOG_END_BYTES = 4096

Ended = Literal["not running", "stopped", "killed"]


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Be this host's node while the block runs; the status of an earlier one is removed.

    The lock belongs to the process: it must not call `find` for the same directory meanwhile, which would drop it.

    Raises:
        Conflict: another process is the node.
        Failed: the directory can't be used.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        handle = hold(run_dir / _CLAIM_FILE)
    except BlockingIOError as error:
        raise Conflict(
            detail="NovaCron already runs on this host; `novacron node status` shows it, `node stop` ends it"
        ) from error
    except OSError as error:
        raise Failed(detail=f"can't use {run_dir}: {error}") from error
    with os.fdopen(handle, "r+"):
        (run_dir / STATUS_FILE).unlink(missing_ok=True)
        yield


def find(run_dir: Path) -> int | None:
    """Number of the process that is this host's node, or None when none is."""
    return holder(run_dir / _CLAIM_FILE)


def read_status(run_dir: Path) -> BootStatus | None:
    """How far the node's start was when it last said so, or None when it has not yet.

    Raises:
        Conflict: another version wrote it.
    """
    try:
        return msgspec.json.decode((run_dir / STATUS_FILE).read_bytes(), type=BootStatus)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Conflict(detail=f"{run_dir / STATUS_FILE} was written by another version: {error}") from error


def start(argv: Sequence[str], run_dir: Path, log: Path, deadline_s: float) -> BootStatus:
    """Have a node running and ready: start `argv` in a session of its own, or wait for the one that is there.

    Args:
        argv: command that runs the node in the foreground; what it writes is appended to `log`.

    Raises:
        BootFailed: a critical component did not start.
        Failed: it ended without having said why; carries the last line of its log.
        DeadlineExceeded: it is still starting, and goes on.
    """
    until = time.monotonic() + deadline_s
    child = None if find(run_dir) is not None else _start_apart(argv, run_dir, log)
    while True:
        # Asked before the status is read: what ended in between has left its last word there.
        ended = find(run_dir) is None if child is None else child.poll() is not None
        status = read_status(run_dir)
        if ended:
            raise _reason(status, log)
        if status is not None and status.phase == "ready":
            return status
        if time.monotonic() > until:
            raise DeadlineExceeded(what=f"the node (it goes on starting, its log is {log})", deadline_s=deadline_s)
        time.sleep(_POLL_S)


def _start_apart(argv: Sequence[str], run_dir: Path, log: Path) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    (run_dir / STATUS_FILE).unlink(missing_ok=True)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), "ab") as out:
        # A session of its own: it outlives the terminal or SSH connection that started it.
        return subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True
        )


def _reason(status: BootStatus | None, log: Path) -> Failed:
    components = status.components if status is not None else []
    failed = [one for one in components if (one.state, one.criticality) == ("failed", "critical")]
    # One that failed by itself is the cause; what was on its way then was cancelled.
    for one in sorted(failed, key=lambda one: one.reason == "cancelled"):
        stopped = ", ".join(other.name for other in components if other.state == "stopped")
        return BootFailed(component=one.name, reason=one.reason, rolled_back=stopped or "nothing")
    return Failed(detail=f"the node ended before it was ready; its log {log} ends with: {_last_line(log)}")


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_END_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError as error:
        return f"({error.strerror})"
    return lines[-1] if lines else "(it is empty)"


def stop(run_dir: Path, deadline_s: float) -> Ended:
    """End this host's node: SIGTERM, and SIGKILL if it has not ended in time. Guests are not touched by either.

    Raises:
        DeadlineExceeded: even killing did not end it.
    """
    pid = find(run_dir)
    if pid is None:
        return "not running"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return "not running"
    try:
        # Asked again: between the question and the handle the number may have passed to another process.
        if find(run_dir) != pid:
            return "not running"
        if _signal(process, signal.SIGTERM, deadline_s):
            return "stopped"
        if _signal(process, signal.SIGKILL, _KILLED_S):
            return "killed"
    finally:
        os.close(process)
    raise DeadlineExceeded(what=f"the end of process {pid}", deadline_s=deadline_s + _KILLED_S)


def _signal(process: int, number: signal.Signals, deadline_s: float) -> bool:
    """Send a signal to the process behind a pidfd; true when it has ended before the deadline."""
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return True
    poller = select.poll()
    poller.register(process, select.POLLIN)
    return bool(poller.poll(deadline_s * 1000))
