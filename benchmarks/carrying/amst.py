"""AMST between two hosts of a lab: both ends' processes, and what is measured of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from actors.errors import DeadlineExceeded, Failed
from actors.lab.lab import Lab
from actors.lab.services import CONFIG
from benchmarks.carrying.points import Carried

_READY_S: Final = 30.0
Marks = list[tuple[float, int]]


class End:
    """One end's process; see `benchmarks.carrying.end`."""

    def __init__(self, lab: Lab, node: str, role: str) -> None:
        log = lab.node(node).state_dir / "log" / f"bench-{role}.log"
        argv = [sys.executable, "-m", "benchmarks.carrying.end", role, str(CONFIG)]
        with log.open("ab") as out:
            self._process = lab.popen(node, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out)
        self._log = log

    def ask(self, word: str) -> dict[str, Any]:
        """Have the process obey `word`, and return its answer.

        Raises:
            Failed: it has ended; says where its log is.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(word.encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            raise Failed(detail=f"an end of AMST has ended; its log is {self._log}") from error
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def pouring(lab: Lab, nodes: tuple[str, str]) -> Iterator[tuple[End, End]]:
    """(source, sink) with one job's channel between them that is always full.

    Raises:
        DeadlineExceeded: nothing had arrived after 30 s.
    """
    sink = End(lab, nodes[1], "sink")
    source = End(lab, nodes[0], "source")
    try:
        sink.ask("tell")
        source.ask("pour")
        until = time.monotonic() + _READY_S
        while not sink.ask("tell")["count_bytes"]:
            if time.monotonic() > until:
                raise DeadlineExceeded(what="the first byte over AMST", deadline_s=_READY_S)
            time.sleep(0.05)
        yield source, sink
    finally:
        source.close()
        sink.close()


def carry(lab: Lab, nodes: tuple[str, str], warm_s: float, seconds: float) -> Carried:
    """What AMST carries once `warm_s` have passed."""
    with pouring(lab, nodes) as (source, sink):
        time.sleep(warm_s)
        before = (source.ask("tell"), sink.ask("tell"))
        time.sleep(seconds)
        after = (source.ask("tell"), sink.ask("tell"))
    lasted_s = after[1]["at"] - before[1]["at"]
    return Carried(
        carried_bytes=after[1]["count_bytes"] - before[1]["count_bytes"],
        seconds=lasted_s,
        streams=after[0]["streams"],
        cpu_sender=(after[0]["cpu_s"] - before[0]["cpu_s"]) / (after[0]["at"] - before[0]["at"]),
        cpu_receiver=(after[1]["cpu_s"] - before[1]["cpu_s"]) / lasted_s,
        load_average=os.getloadavg()[0],
    )
