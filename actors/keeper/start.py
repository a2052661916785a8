"""Has a keeper on this host: starts it apart from everything that it must outlive, once."""

import os
import subprocess
import sys
import time

from actors.config.schema import Config
from actors.errors import DeadlineExceeded
from actors.keeper.files import LOCK_FILE
from actors.locks import holder

_POLL_S = 0.05


def alive(config: Config) -> bool:
    """True while a keeper keeps this node's guests."""
    return holder(config.node.run_dir / LOCK_FILE) is not None


def ensure(config: Config, deadline_s: float) -> None:
    """Have a keeper; one that runs is left alone. Blocking.

    Raises:
        DeadlineExceeded: it did not come up; its log says why.
    """
    if alive(config):
        return
    node = config.node
    log = node.state_dir / "log" / "keeper.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "actors.keeper", str(node.run_dir), str(node.state_dir), node.libvirt_uri, node.name]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640), "ab") as out:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True
        )
    until = time.monotonic() + deadline_s
    while not alive(config):
        if child.poll() is not None or time.monotonic() > until:
            raise DeadlineExceeded(what=f"the keeper's start (its log is {log})", deadline_s=deadline_s)
        time.sleep(_POLL_S)
