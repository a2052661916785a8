"""What labs leave on the machine itself, apart from processes, and how it is removed again."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from actors.errors import Conflict, Failed, NotFound
from actors.lab.hostfiles import PRIVATE_DIRECTORIES
from actors.lab.journal import Entry, Journal
from actors.lab.namespace import run
from actors.lab.plan import LabPlan, decode_plan, encode_plan

_STEP_S = 60.0
_ROOT_LOCK_S = 60.0
_OWN_LOCK_S = 10.0
_POLL_S = 0.1
_LOCK = "lock"
_SHARED_JOURNAL = "directories.jsonl"


def lab_journal(plan: LabPlan) -> Journal:
    """Interfaces of this one lab."""
    return Journal(plan.state_dir / "journal.jsonl")


def shared_journal(state_root: Path) -> Journal:
    """Directories that all labs use, above all the mount points; they go with the last lab.

    Removing a mount point would unmount what another lab has mounted there, in that lab's own mount namespace too.
    """
    return Journal(state_root / _SHARED_JOURNAL)


def make_state_dir(plan: LabPlan) -> int:
    """Make the state directory with the plan in it, both or neither, also on a machine that crashes.

    Returns a file descriptor that owns the lab, see `owned`; the caller closes it.
    """
    fresh = plan.state_dir.with_name(f".{plan.name}.new")
    fresh.mkdir(mode=0o755)
    own = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(own, fcntl.LOCK_EX)
    with (fresh / "plan.json").open("wb") as out:
        out.write(encode_plan(plan))
        out.flush()
        os.fsync(out.fileno())
    fresh.rename(plan.state_dir)
    return own


def make_shared_directories(plan: LabPlan) -> None:
    """Make the directories that all labs need and that are not there yet; only while `exclusive`."""
    journal = shared_journal(plan.state_dir.parent)
    for directory in (plan.run_dir.parent, *PRIVATE_DIRECTORIES.values()):
        for missing in [path for path in reversed([directory, *directory.parents]) if not path.exists()]:
            journal.record(Entry(kind="directory", name=str(missing)))
            missing.mkdir(mode=0o755)


def ranges_of_labs(state_root: Path) -> list[str]:
    """The address ranges of every lab that is there or on its way."""
    files = state_root.glob("*/plan.json")
    return [router.subnet for file in files for router in decode_plan(file.read_bytes()).routers]


def remove_lab(plan: LabPlan) -> None:
    """Remove what the lab, whose processes have ended, has left. The plan goes last, so that this can be repeated."""
    if plan.run_dir.exists():
        shutil.rmtree(plan.run_dir)
    for entry in lab_journal(plan).entries():
        _remove_interface(entry.name)
    with exclusive(plan.state_dir.parent):
        gone = plan.state_dir.with_name(f".{plan.name}.gone")
        plan.state_dir.rename(gone)
        shutil.rmtree(gone)


def _remove_interface(name: str) -> None:
    try:
        run(["ip", "link", "delete", name], _STEP_S)
    except Failed:
        # It goes by itself, some time after the namespace of its other end; or it was never made.
        if name in {link["ifname"] for link in _interfaces()}:
            raise


def _interfaces() -> list[dict[str, Any]]:
    return msgspec.json.decode(run(["ip", "-json", "link", "show"], _STEP_S), type=list[dict[str, Any]])


@contextmanager
def owned(plan: LabPlan) -> Iterator[None]:
    """Be the only `up` or `down` at work on this lab. The kernel lets go of it when its owner dies.

    Raises:
        NotFound: the lab has gone meanwhile.
        Conflict: another one has been at work on it for too long.
    """
    try:
        own = os.open(plan.state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(what=f"lab {plan.name!r} on this machine") from error
    try:
        _lock(own, f"lab {plan.name!r}", _OWN_LOCK_S)
        if not plan.state_dir.exists() or not os.path.samestat(plan.state_dir.stat(), os.fstat(own)):
            raise NotFound(what=f"lab {plan.name!r} on this machine")
        yield
    finally:
        os.close(own)


def _lock(handle: int, what: str, deadline_s: float) -> None:
    until = time.monotonic() + deadline_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise Conflict(detail=f"another `novacron lab up` or `down` is at work on {what}") from error
            time.sleep(_POLL_S)
        else:
            return


@contextmanager
def exclusive(state_root: Path) -> Iterator[None]:
    """Be alone with what labs share, for a moment; sweeps up after the last lab.

    Raises:
        Conflict: another one has been at work for too long.
    """
    while (held := _lock_root(state_root)) is None:
        pass
    try:
        for half in state_root.glob(".*"):  # of a state directory, when a crash came between
            shutil.rmtree(half)
        yield
    finally:
        if not any(path.is_dir() for path in state_root.iterdir()):
            _remove_shared(state_root)
        os.close(held)


def _lock_root(state_root: Path) -> int | None:
    try:
        state_root.mkdir(parents=True, exist_ok=True)
        held = os.open(state_root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, FileNotFoundError):  # the last lab takes the directory away in between
        return None
    try:
        _lock(held, str(state_root), _ROOT_LOCK_S)
        # The last lab takes the lock's file with it: one that is held but no longer there locks nobody out.
        if os.path.samestat((state_root / _LOCK).stat(), os.fstat(held)):
            return held
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(held)
        raise
    os.close(held)
    return None


def _remove_shared(state_root: Path) -> None:
    """Remove what labs share, when the last one is gone; the lock's file and the root last."""
    for entry in reversed(shared_journal(state_root).entries()):
        _remove_if_empty(Path(entry.name))
    (state_root / _SHARED_JOURNAL).unlink(missing_ok=True)
    (state_root / _LOCK).unlink()
    _remove_if_empty(state_root)


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # somebody else uses it by now, or it was never made
