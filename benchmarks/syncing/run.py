"""The partition: one site cut off, writes on both sides, and what it takes until all have the same again."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from actors.errors import DeadlineExceeded, Failed
from actors.lab.lab import Lab
from actors.lab.line import Change
from actors.lab.services import CONFIG
from benchmarks.report import Row

SYSTEMS: Final = {"novacron": ("digest", "sent_bytes"), "full-state gossip": ("rival_digest", "rival_sent_bytes")}
COLUMNS: Final = [
    "system", "phase", "differences", "facts", "cut_s", "converged_s", "exchanged_bytes", "difference_bytes", "ratio",
]  # fmt: skip
_STEP_S: Final = 120.0
_LOOK_S: Final = 0.1
_WRITE_AFTER_S: Final = 15.0


class _End:
    """One site's process; see `benchmarks.syncing.end`."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.log = lab.node(node).state_dir / "log" / "bench-sync.log"
        argv = [sys.executable, "-m", "benchmarks.syncing.end", str(CONFIG)]
        with self.log.open("ab") as out:
            self._process = lab.popen(node, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out)

    def ask(self, write: list[str] | None = None) -> dict[str, Any]:
        """Write these facts, if any; how it stands then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"write": write or []}).encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            raise Failed(detail=f"a site's process has ended; its log is {self.log}") from error
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def sites(lab: Lab) -> Iterator[dict[str, _End]]:
    """Every site's process by the site's name."""
    ends: dict[str, _End] = {}
    try:
        for node in lab.plan.nodes:
            ends[node.site] = _End(lab, node.name)
        yield ends
    finally:
        for end in ends.values():
            end.close()


def measure(lab: Lab, guests: int, differences: list[int], cut_s: float) -> Iterator[Row]:
    """First filling, idling, then one partition for each number of differences; a row for each system."""
    with sites(lab) as ends:
        begun = time.monotonic()
        before = _all(ends)
        written = 0
        for site, end in ends.items():
            for first in range(0, guests, 200):
                keys = [_key(site, guest) for guest in range(first, min(first + 200, guests))]
                written += end.ask(keys)["written_bytes"]
        took = _until_equal(ends, begun)
        yield from _rows("filled", 0, ends, before, took, written, 0.0)
        before, begun = _all(ends), time.monotonic()
        time.sleep(30.0)
        yield from _rows("30 s of nothing", 0, ends, before, dict.fromkeys(SYSTEMS, (0.0, _all(ends))), 0, 0.0)
        for count in differences:
            yield from _partition(lab, ends, guests, count, cut_s)


def _partition(lab: Lab, ends: dict[str, _End], guests: int, count: int, cut_s: float) -> Iterator[Row]:
    alone, *others = ends
    lines = [lab.link(link.name) for link in lab.plan.links if alone in (link.site_a, link.site_b)]
    begun = time.monotonic()
    for line in lines:
        line.change(Change(state="cut"))
    time.sleep(_WRITE_AFTER_S)
    here = count // 2
    # Each fact is written once; some of a site's own, some of the same guests' at the other side.
    written = ends[alone].ask([_key(alone, number % guests) for number in range(here)])["written_bytes"]
    for place in range(here, count):
        site = others[place % len(others)]
        written += ends[site].ask([_key(site, place % guests)])["written_bytes"]
    time.sleep(max(0.0, begun + cut_s - time.monotonic()))
    before, healed = _all(ends), time.monotonic()
    for line in lines:
        line.change(Change(state="pass"))
    yield from _rows("after the cut", count, ends, before, _until_equal(ends, healed), written, cut_s)


_Standing = dict[str, dict[str, Any]]


def _all(ends: dict[str, _End]) -> _Standing:
    return {site: end.ask() for site, end in ends.items()}


def _until_equal(ends: dict[str, _End], since: float) -> dict[str, tuple[float, _Standing]]:
    """For each system the seconds after `since` at which all sites had the same, and how they stood then."""
    done: dict[str, tuple[float, _Standing]] = {}
    while len(done) < len(SYSTEMS):
        now = _all(ends)
        took = time.monotonic() - since
        for system, (digest, _) in SYSTEMS.items():
            if system not in done and len({each[digest] for each in now.values()}) == 1:
                done[system] = (took, now)
        if took > _STEP_S:
            missing = ", ".join(system for system in SYSTEMS if system not in done)
            raise DeadlineExceeded(what=f"the same facts everywhere ({missing})", deadline_s=_STEP_S)
        time.sleep(_LOOK_S)
    return done


def _rows(
    phase: str,
    count: int,
    ends: dict[str, _End],
    before: _Standing,
    took: dict[str, tuple[float, _Standing]],
    written: int,
    cut_s: float,
) -> Iterator[Row]:
    for system, (_, sent) in SYSTEMS.items():
        seconds, after = took[system]
        exchanged = sum(after[site][sent] - before[site][sent] for site in ends)
        yield {
            "system": system,
            "phase": phase,
            "differences": count,
            "facts": next(iter(after.values()))["facts"],
            "cut_s": cut_s or None,
            "converged_s": round(seconds, 2) if seconds else None,
            "exchanged_bytes": exchanged,
            "difference_bytes": written or None,
            "ratio": round(exchanged / written, 2) if written else None,
        }


def _key(site: str, guest: int) -> str:
    return f"{site}/guest-{guest}/store"
