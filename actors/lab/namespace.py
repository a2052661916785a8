"""Holders: the processes that keep a node's or router's namespaces alive, and running programs inside them."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from actors.errors import DeadlineExceeded, Failed
from actors.lab.processes import HOLDER_VARIABLE, LAB_VARIABLE, holders_of

_ROUTER = ["unshare", "--net", "--", "sleep", "infinity"]
_NODE = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
_NODE += ["tini", "-s", "--", "sleep", "infinity"]
_POLL_S = 0.02
_NODE_NAMESPACES = ["--net", "--mount", "--uts", "--ipc", "--pid"]


def marked_environment(lab_id: str, holder: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the lab's marks, as every process of the lab must have it."""
    return {**os.environ, LAB_VARIABLE: lab_id, HOLDER_VARIABLE: holder, **(extra or {})}


def start_holders(lab_id: str, names: Sequence[str], deadline_s: float) -> dict[str, int]:
    """Start the holders called `names` (``node-…`` or ``router-…``) and return their process numbers.

    Raises:
        DeadlineExceeded: not all were ready in time.
    """
    for name in names:
        argv = _NODE if name.startswith("node-") else _ROUTER
        detached(argv, marked_environment(lab_id, name))
    until = time.monotonic() + deadline_s
    while not set(names) <= (found := holders_of(lab_id)).keys():
        if time.monotonic() > until:
            raise DeadlineExceeded(what=f"namespaces {set(names) - found.keys()}", deadline_s=deadline_s)
        time.sleep(_POLL_S)
    return {name: found[name] for name in names}


def detached(argv: Sequence[str], environment: Mapping[str, str], log: Path | None = None) -> None:
    """Start `argv` in a session of its own, as nobody's child here; its output goes to `log` or nowhere.

    Raises:
        Failed: it could not be started.
    """
    with (log or Path(os.devnull)).open("ab") as out:
        done = subprocess.run(
            ["setsid", "--fork", *argv],
            env=dict(environment), cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False,
        )  # fmt: skip
    if done.returncode:
        raise Failed(detail=f"could not start {argv[0]} (status {done.returncode})")


def inside(pid: int, argv: Sequence[str], *, net_only: bool = False) -> list[str]:
    """The command line that runs `argv` in the namespaces that `pid` holds."""
    namespaces = ["--net"] if net_only else _NODE_NAMESPACES
    return ["nsenter", f"--target={pid}", *namespaces, "--", *argv]


def run(argv: Sequence[str], environment: Mapping[str, str], deadline_s: float, stdin: str = "") -> str:
    """Run `argv` to its end and return its standard output.

    Raises:
        Failed: with the command and the end of its error output.
        DeadlineExceeded: it was killed after `deadline_s`.
    """
    try:
        done = subprocess.run(
            list(argv), env=dict(environment), cwd="/", input=stdin, text=True, capture_output=True,
            timeout=deadline_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(what=" ".join(argv), deadline_s=deadline_s) from error
    if done.returncode:
        raise Failed(detail=f"`{' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def popen(argv: Sequence[str], environment: Mapping[str, str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start `argv` as a child; the caller waits for it."""
    return subprocess.Popen(list(argv), env=dict(environment), cwd="/", **options)


Pipe = IO[bytes]
