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


class Found(msgspec.Struct, frozen=True):
    """One process: its number here, its number in its own PID namespace, its environment's holder entry, its name."""

    pid: int
    inner_pid: int
    holder: str
    comm: str


def processes_of(lab_id: str) -> Iterator[Found]:
    """Every process that carries `lab_id`, this process and its ancestors excepted."""
    ours = _self_and_ancestors()
    marker = f"{LAB_VARIABLE}={lab_id}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in ours:
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if marker not in environment:
                continue
            status = (entry / "status").read_text()
        except OSError:
            continue  # it ended while we looked
        yield _found(int(entry.name), environment, status)


def _found(pid: int, environment: list[bytes], status: str) -> Found:
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    prefix = f"{HOLDER_VARIABLE}=".encode()
    holder = next((item[len(prefix) :].decode() for item in environment if item.startswith(prefix)), "")
    return Found(pid, int(fields["NSpid"].split()[-1]), holder, fields["Name"].strip())


def _self_and_ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
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
        found = [process.pid for process in processes_of(lab_id)]
        killed.update(found)
        # A dying first process has no environment any more but lives until its whole PID namespace is empty.
        left = found + [pid for pid in killed if _is_ending(pid)]
        if not left:
            return len(killed)
        if time.monotonic() > until:
            raise DeadlineExceeded(what=f"the end of processes {sorted(set(left))}", deadline_s=deadline_s)
        for pid in found:
            _kill(pid, lab_id)
        time.sleep(_POLL_S)


def _is_ending(pid: int) -> bool:
    """True for a process that has lost its memory but is neither gone nor a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return stat[0] not in "ZX" and not Path(f"/proc/{pid}/environ").read_bytes()
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
