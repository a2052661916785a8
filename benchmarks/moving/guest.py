"""The guest that is moved: made through NovaCron's API for every system alike, and asked through its console."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from actors.errors import DeadlineExceeded
from actors.hypervisor.messages import GuestSpec
from actors.lab.guests.ticks import Tick, Verdict, stopped_ms
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.migration.messages import CreateGuestAnywhere
from api.cli.client import Client
from benchmarks.moving.rows import Judged

_BOOT_S: Final = 600.0
_TICKS_S: Final = 180.0
_CHECK_S: Final = 1800.0
_POLL_S: Final = 1.0
# Ten seconds of ticks on each side of a move: enough edges of the host's clock to date the pause, too few for the two
# clocks to drift apart.
DATING_TICKS: Final = 200
_READY: Final = re.compile(r"ready cached_mib=(?P<cached>\d{1,9}) checks=(?P<checks>\d{1,18})")


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest said when its workload began: MiB of files in its page cache; checks that cover all its memory."""

    cached_mib: int
    checks: int


def parse_ready(said: Sequence[str]) -> Ready | None:
    """The workload's `ready` line, once it is among the lines that the guest `said`."""
    matches = (_READY.fullmatch(line) for line in said)
    return next((Ready(cached_mib=int(m["cached"]), checks=int(m["checks"])) for m in matches if m), None)


def guest_pause_ms(before: Sequence[Tick], after: Sequence[Tick]) -> float | None:
    """The pause by the guest's clock, from the ticks before and after a move; None when too few seconds were seen."""
    if not (before and after):
        return None
    found = stopped_ms([*before[-DATING_TICKS:], *after[:DATING_TICKS]])
    return found if found >= 0 else None


def judge(whole: Verdict, ready: Ready, verified_before: int, pause_ms: float | None) -> Judged:
    """Judge a guest by all that it said.

    Args:
        verified_before: its count of checks at the move; all of its memory must have been checked since.
    """
    checks = whole.verified - verified_before
    problems = list(whole.problems)
    if checks < ready.checks:
        problems.append(f"only {checks} of the {ready.checks} checks that cover its memory were made since")
    return Judged(
        ok=not problems, pause_ms=pause_ms, cached_mib=ready.cached_mib, checks=max(checks, 0), problems=problems
    )


class BenchGuest:
    """One guest, from its creation to its removal.

    Args:
        spec: its definition; the console is put where this machine can read it.
        lab: whose nodes' files are read.
        node: where it is to start; `api`: of that node's site.
    """

    def __init__(self, spec: GuestSpec, lab: Lab, node: str, api: Client) -> None:
        self.name = spec.name
        self.node = node
        # Each node has a /run of its own, which is its `run_dir` on this machine.
        self._spec = msgspec.structs.replace(spec, console=f"/run/{spec.name}.log")
        self._files = {one.name: one.run_dir / f"{spec.name}.log" for one in lab.plan.nodes}
        self._watch = Watch(self.name, self._files, node)
        self._api = api
        self._before_move: list[Tick] = []

    def create(self) -> Ready:
        """Start it and wait until its cache is full, its workload runs and its clock can be dated."""
        self._api.create_guest(CreateGuestAnywhere(spec=self._spec, node=self.node))
        self._wait(lambda: parse_ready(self._watch.said) is not None, "its workload", _BOOT_S)
        self.wait_ticks(DATING_TICKS)
        ready = parse_ready(self._watch.said)
        assert ready is not None, "it was there a moment ago"
        return ready

    def wait_ticks(self, count: int) -> None:
        """Wait until it has ticked `count` times more."""
        self._watch.read()
        goal = len(self._watch.ticks) + count
        self._wait(lambda: len(self._watch.ticks) >= goal, f"{count} more of its ticks", _TICKS_S)

    def leave(self) -> None:
        """It is about to move: the console files that it left on other nodes are removed."""
        for node, file in self._files.items():
            if node != self.node:
                file.unlink(missing_ok=True)

    def arrived(self, node: str) -> None:
        """It has moved to `node`, or stayed there."""
        if node != self.node:
            self._watch.arrived(node)
            self.node = node
        else:
            self._watch.read()
        self._before_move = self._watch.ticks

    def judged(self, ready: Ready) -> Judged:
        """Wait until it has checked all of its memory since `arrived`, or said that something is wrong; its verdict."""
        verified_before = self._before_move[-1].verified if self._before_move else 0

        def enough() -> bool:
            found = self._watch.verdict
            return not found.ok or found.verified - verified_before >= ready.checks

        self._wait(enough, "its check of all of its memory", _CHECK_S)
        after = self._watch.ticks[len(self._before_move) :]
        return judge(self._watch.verdict, ready, verified_before, guest_pause_ms(self._before_move, after))

    def remove(self) -> None:
        """Stop and delete it, wherever it is, and its console files."""
        self._api.act(self.name, "stop")
        self._api.delete_guest(self.name)
        for file in self._files.values():
            file.unlink(missing_ok=True)

    def _wait(self, reached: Callable[[], bool], what: str, deadline_s: float) -> None:
        until = time.monotonic() + deadline_s
        while not reached():
            if time.monotonic() > until:
                said = self._watch.said[-3:]
                raise DeadlineExceeded(
                    what=f"{self.name} on {self.node}: {what}; it last said {said}", deadline_s=deadline_s
                )
            time.sleep(_POLL_S)
            self._watch.read()
