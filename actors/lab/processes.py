"""Finding and ending the processes of one lab, and only those.

Every process of a lab carries the lab's random id in its environment, from its first instruction on. So there is no
moment in which a process exists that a later `down` can't find, and a reused process number can't be mistaken for ours.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from actors.errors import DeadlineExceeded

LAB_VARIABLE = "NOVACRON_LAB"
HOLDER_VARIABLE = "NOVACRON_LAB_HOLDER"
_POLL_S = 0.02
# Flags of a process in the kernel's `sched.h`.
_EXITING, _KERNEL_THREAD = 0x4, 0x200000


class Found(msgspec.Struct, frozen=True):
    """One process: its number here, its number in its own PID namespace, its environment's holder entry, its name."""

    pid: int
    inner_pid: int
    holder: str
    comm: str


def processes_of(lab_id: str) -> Iterator[Found]:
    """Every process that carries `lab_id`, this process and its ancestors excepted.

    One that begins, or becomes another program, while we look is found too.
    """
    marker = f"{LAB_VARIABLE}={lab_id}".encode()
    looked_at = _self_and_ancestors()
    missed = True
    while missed:
        # What ended before it was looked at may have begun another one that is not in the list.
        missed = False
        for pid in _processes() - looked_at:
            try:
                environment = _environment(pid)
                if environment is None:
                    missed = True
                    continue
                looked_at.add(pid)
                if marker not in environment:
                    continue
                status = Path(f"/proc/{pid}/status").read_text()
            except PermissionError:
                looked_at.add(pid)  # another user's: not of a lab
            except (FileNotFoundError, ProcessLookupError):
                looked_at.add(pid)
                missed = True
            else:
                yield _found(pid, environment, status)


def _processes() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def _environment(pid: int) -> list[bytes] | None:
    """The process's environment; None while the kernel exchanges its program, when it has none for a moment."""
    if whole := Path(f"/proc/{pid}/environ").read_bytes():
        return whole.split(b"\0")
    fields = _stat(pid)
    if int(fields[6]) & (_EXITING | _KERNEL_THREAD):
        raise ProcessLookupError
    # The addresses of a new program's code are set last.
    return [] if fields[23] != "0" and fields[47] == fields[48] else None


def _stat(pid: int) -> list[str]:
    """The fields of the process's ``stat`` from the third, its state, on; see proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _found(pid: int, environment: list[bytes], status: str) -> Found:
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    prefix = f"{HOLDER_VARIABLE}=".encode()
    holder = next((item[len(prefix) :].decode() for item in environment if item.startswith(prefix)), "")
    return Found(pid, int(fields["NSpid"].split()[-1]), holder, fields["Name"].strip())


def _self_and_ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        pid = int(_stat(pid)[1])
    return found


def holders_of(lab_id: str) -> dict[str, int]:
    """Process number of each namespace holder that is ready, by its name.

    A node's holder is process 1 of its own PID namespace (`tini`); a router's is a plain `sleep`.
    """
    found = {}
    for process in processes_of(lab_id):
        node_init = process.inner_pid == 1 and process.comm == "tini"
        router = process.holder.startswith("router-") and process.comm == "sleep"
        if node_init or router:
            found[process.holder] = process.pid
    return found


def is_of(pid: int, lab_id: str) -> bool:
    """True while process `pid` lives and belongs to the lab."""
    try:
        return f"{LAB_VARIABLE}={lab_id}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end_all(lab_id: str, deadline_s: float) -> int:
    """Kill every process of the lab, wait until all are gone, and return how many were killed.

    With a node's first process the kernel ends everything in its PID namespace, its guests too.

    Raises:
        DeadlineExceeded: some are still there after `deadline_s`.
    """
    killed: set[int] = set()
    until = time.monotonic() + deadline_s
    while True:
        found = []
        for process in processes_of(lab_id):
            _kill(process.pid, lab_id)
            found.append(process.pid)
        killed.update(found)
        # A dying first process has no environment any more but lives until its whole PID namespace is empty.
        left = found + [pid for pid in killed if _is_ending(pid)]
        if not left:
            return len(killed)
        if time.monotonic() > until:
            raise DeadlineExceeded(what=f"the end of processes {sorted(set(left))}", deadline_s=deadline_s)
        time.sleep(_POLL_S)


def _is_ending(pid: int) -> bool:
    """True for a process that has lost its memory but is neither gone nor a zombie."""
    try:
        if _stat(pid)[0] in "ZX":
            return False
        return not Path(f"/proc/{pid}/environ").read_bytes()
    except ProcessLookupError:
        return Path(f"/proc/{pid}").exists()  # newer kernels say so of one without memory
    except OSError:
        return False


def _kill(pid: int, lab_id: str) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Asked again on the handle's process: between the search and now the number may have passed to another.
        if is_of(pid, lab_id):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
