"""Holders, the processes that keep a node's or router's namespaces alive, and running programs inside them."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.errors import Conflict, DeadlineExceeded, Failed
from actors.lab.processes import HOLDER_VARIABLE, LAB_VARIABLE, holders_of

_ROUTER = ("unshare", "--net", "--", "sleep", "infinity")
# `tini` as the node's process 1 collects every orphan; when it ends, the kernel ends all that is left in the node.
_NODE = (
    "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child", "--",
    "tini", "-s", "--", "sleep", "infinity",
)  # fmt: skip
_NODE_NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
# `nsenter` must fork to enter a PID namespace: what it started must not outlive it.
_BOUND = ("setpriv", "--pdeathsig", "KILL", "--")
_POLL_S = 0.02
_STEP_S = 60.0


class Namespaces:
    """The namespaces of one lab, by the names of their holders: ``node-…`` or ``router-…``."""

    def __init__(self, lab_id: str, node_environment: Mapping[str, str]) -> None:
        self._lab_id = lab_id
        self._node_environment = dict(node_environment)
        self._pids: dict[str, int] = {}

    def start(self, holders: Sequence[str], deadline_s: float) -> None:
        """Start the holders and wait until each is ready.

        Raises:
            DeadlineExceeded: not all were ready in time.
        """
        for holder in holders:
            argv = _NODE if holder.startswith("node-") else _ROUTER
            detached(argv, self.environment(holder))
        until = time.monotonic() + deadline_s
        while missing := set(holders) - (found := holders_of(self._lab_id)).keys():
            if time.monotonic() > until:
                raise DeadlineExceeded(what=f"namespaces {', '.join(sorted(missing))}", deadline_s=deadline_s)
            time.sleep(_POLL_S)
        self._pids = found

    def pid(self, holder: str) -> int:
        """The holder's process number on this machine.

        Raises:
            Conflict: it is not running.
        """
        if holder not in self._pids:
            self._pids = holders_of(self._lab_id)
        if holder not in self._pids:
            raise Conflict(detail=f"the lab's {holder} is not running; `novacron lab down`, then `up`, builds it anew")
        return self._pids[holder]

    def environment(self, holder: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's environment with the lab's marks, as every process of the lab must have it."""
        own = self._node_environment if holder.startswith("node-") else {}
        return {**os.environ, LAB_VARIABLE: self._lab_id, HOLDER_VARIABLE: holder, **own, **(extra or {})}

    def argv(self, holder: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the holder's namespaces."""
        namespaces = _NODE_NAMESPACES if holder.startswith("node-") else ("--net",)
        return ["nsenter", f"--target={self.pid(holder)}", *namespaces, "--", *argv]

    def run(self, holder: str, argv: Sequence[str], deadline_s: float = _STEP_S, stdin: str = "") -> str:
        """Run `argv` to its end and return its standard output; raises as `run` does."""
        return run(self.argv(holder, [*_BOUND, *argv]), deadline_s, stdin, self.environment(holder))

    def popen(self, holder: str, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start `argv` as this process's child; killing the child kills `argv`."""
        command = self.argv(holder, [*_BOUND, *argv])
        return subprocess.Popen(command, env=self.environment(holder), cwd="/", **options)

    def daemon(
        self, holder: str, name: str, argv: Sequence[str], log: Path, extra: Mapping[str, str] | None = None
    ) -> None:
        """Start `argv` as nobody's child; its number inside the node is in ``/run/lab/NAME.pid`` there."""
        note = f'mkdir -p /run/lab; echo $$ > /run/lab/{name}.pid; exec "$@"'  # exec keeps the number
        inner = ["setsid", "--fork", "sh", "-c", note, name, *argv]
        detached(self.argv(holder, inner), self.environment(holder, extra), log)

    def ip(self, holder: str | None, lines: Sequence[str]) -> None:
        """Have `ip` carry out `lines` in the holder's namespace, or in this machine's own."""
        if lines:
            argv = ["ip", "-batch", "-"]
            run(self.argv(holder, argv) if holder else argv, _STEP_S, "\n".join(lines) + "\n", self.environment(""))


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


def run(argv: Sequence[str], deadline_s: float, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Run `argv` to its end and return its standard output.

    Raises:
        Failed: with the command and the end of its error output.
        DeadlineExceeded: it was killed after `deadline_s`.
    """
    try:
        done = subprocess.run(
            list(argv), env=None if environment is None else dict(environment), cwd="/", input=stdin, text=True,
            capture_output=True, timeout=deadline_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(what=" ".join(argv), deadline_s=deadline_s) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise Failed(detail=f"`{' '.join(argv)}` ended with {done.returncode}: {said}")
    return done.stdout
