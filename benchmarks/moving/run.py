"""One benchmark on one lab: fresh guests, one move each, measured from outside and judged by the guest itself."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from actors.errors import DeadlineExceeded, Failed, NovaCronError
from actors.hypervisor.messages import GuestSpec
from actors.lab.lab import Lab
from actors.lab.line import Change, Line
from actors.lab.topology import Shape
from api.cli.client import Client
from benchmarks.moving import probe, rivals
from benchmarks.moving.guest import DATING_TICKS, BenchGuest, Ready
from benchmarks.moving.loads import NamedLoad
from benchmarks.moving.memory import Growth
from benchmarks.moving.movers import Ended, LibvirtMover, Mover, NovaCronMover
from benchmarks.moving.plan import Task
from benchmarks.moving.rivals import NOVACRON, RAISED_RIVAL, Rival, Tuning
from benchmarks.moving.rows import Judged, Measured
from benchmarks.moving.switchover import Switchover, switchover
from benchmarks.moving.tuning import Tried

# Events travel from libvirtd to this process on their own connection, a little later than its answers.
_EVENTS_S: Final = 10.0
_EVENTS_POLL_S: Final = 0.05
# A store that is being filled grows at least once in so long.
SETTLED_POLL_S: Final = 2.0
_SETTLE_S: Final = 120.0
# A second of the guest's work between two moves of it.
_TICKS_BETWEEN: Final = 20
Tell = Callable[[str], None]


def line_change(shape: Shape) -> Change:
    """The change that gives a line this shape, and lets it pass."""
    return Change(
        rate_bps=shape.rate_bps,
        delay_us=shape.delay_us,
        jitter_us=round(shape.jitter_ms * 1000),
        loss_ppm=round(shape.loss_percent * 10_000),
        queue_bytes=shape.queue_bytes,
        state="pass",
    )


class Bench:
    """Measures moves between two nodes of a running lab.

    Args:
        shape: of the line between them, set anew before every move.
        spec: makes a guest's definition from its name and its load; the same for every system.
        apis: clients of the APIs of the two sites, by node.
        nodes: source and target; `link` joins their sites.
        deadline_s: a move that takes longer is given up.
        tell: called with each step, for people.
    """

    def __init__(
        self,
        lab: Lab,
        shape: Shape,
        spec: Callable[[str, NamedLoad], GuestSpec],
        apis: Mapping[str, Client],
        nodes: tuple[str, str],
        link: str,
        deadline_s: float,
        tell: Tell,
    ) -> None:
        self._lab = lab
        self._shape = shape
        self._spec = spec
        self._apis = apis
        self._nodes = nodes
        self._link = next(one for one in lab.plan.links if one.name == link)
        self._line: Line = lab.link(link)
        self._deadline_s = deadline_s
        self._tell = tell
        self._libvirt = {node: probe.connect(node, lab.node(node).libvirt_uri) for node in nodes}
        self._addresses = {node: lab.node(node).address for node in nodes}

    def measure(self, task: Task, tuning: Tuning) -> tuple[Measured, Judged]:
        """Move a fresh guest once and let it check all of its memory afterwards.

        Where the target is to have been `visited`, NovaCron moves it there and back first.
        """
        source, target = self._nodes
        if task.system == NOVACRON:
            self._forget()
        with self._guest(f"bench-{task.system}-{task.run}", task.load) as (guest, ready):
            if task.store == "visited":
                self._visit(guest)
            self._tell(f"{guest.name}: moving to {target}")
            measured = self._move(guest, target, self._mover(task.system, source, tuning))
            said = measured.failure or f"moved in {measured.total_s or 0:.1f} s, pause {measured.pause_ms or 0:.0f} ms"
            self._tell(f"{guest.name}: {said}; waiting until it has checked all of its memory")
            return measured, self._judged(guest, ready)

    def pauses(self, task: Task, moves: int, until: float) -> tuple[list[Measured], Judged]:
        """Move one guest to and fro `moves` times with NovaCron, no further after `until` (monotonic seconds)."""
        done: list[Measured] = []
        self._forget()
        with self._guest(f"bench-pauses-{task.load.name}", task.load) as (guest, ready):
            while len(done) < moves and time.monotonic() < until and not (done and done[-1].failure):
                done.append(self._there(guest))
                self._tell(f"{guest.name}: {done[-1].failure or f'pause {done[-1].pause_ms or 0:.0f} ms'}")
                guest.wait_ticks(_TICKS_BETWEEN)
            return done, self._judged(guest, ready)

    def tune(self, rival: Rival, load: NamedLoad, choose: Callable[[Tried], Tuning | None]) -> Tried:
        """Move one guest to and fro, each time with the tuning that `choose` makes of what was tried; None ends it."""
        tried: list[tuple[Tuning, Measured]] = []
        with self._guest(f"bench-tune-{rival}", load) as (guest, _):
            while (tuning := choose(tried)) is not None:
                target = next(node for node in self._nodes if node != guest.node)
                measured = self._move(guest, target, self._mover(rival, guest.node, tuning))
                tried.append((tuning, measured))
                said = measured.failure or f"{measured.total_s or 0:.1f} s"
                self._tell(f"{rival}: zstd level {tuning.zstd_level}, {tuning.channels} channels: {said}")
                guest.wait_ticks(DATING_TICKS)
        return tried

    def _forget(self) -> None:
        """Empty the nodes' stores of what earlier guests left there."""
        self._settle()
        for node, api in self._apis.items():
            api.clear_store(node)

    def _settle(self) -> None:
        """Wait until the stores grow no more: they are filled in the background, also after a move has ended."""
        until = time.monotonic() + _SETTLE_S
        before: list[int] = []
        while (now := [api.store(node).blocks for node, api in self._apis.items()]) != before:
            if time.monotonic() > until:
                raise DeadlineExceeded(what="the end of filling the stores", deadline_s=_SETTLE_S)
            before = now
            time.sleep(SETTLED_POLL_S)

    def _visit(self, guest: BenchGuest) -> None:
        for _ in self._nodes:
            moved = self._there(guest)
            if moved.failure:
                raise Failed(detail=f"{guest.name} could not visit the target: {moved.failure}")
            guest.wait_ticks(_TICKS_BETWEEN)
            self._settle()

    def _there(self, guest: BenchGuest) -> Measured:
        """Move it to the other node with NovaCron."""
        other = next(node for node in self._nodes if node != guest.node)
        return self._move(guest, other, self._mover(NOVACRON, guest.node, Tuning()))

    @staticmethod
    def _judged(guest: BenchGuest, ready: Ready) -> Judged:
        try:
            return guest.judged(ready)
        except DeadlineExceeded as error:
            return Judged(ok=False, cached_mib=ready.cached_mib, problems=[str(error)])

    @contextmanager
    def _guest(self, name: str, load: NamedLoad) -> Iterator[tuple[BenchGuest, Ready]]:
        source = self._nodes[0]
        guest = BenchGuest(self._spec(name, load), self._lab, source, self._apis[source])
        self._tell(f"{name}: booting on {source}")
        try:
            yield guest, guest.create()
        except BaseException:
            # What went wrong first is what the reader needs.
            with suppress(NovaCronError):
                guest.remove()
            raise
        guest.remove()

    def _mover(self, system: str, source: str, tuning: Tuning) -> Mover:
        if system == NOVACRON:
            return NovaCronMover(self._apis[source])
        known = "qemu-multifd-zstd" if system == RAISED_RIVAL else system
        rival = next(one for one in rivals.RIVALS if one == known)
        return LibvirtMover(self._libvirt[source], self._addresses, rival, tuning)

    def _move(self, guest: BenchGuest, target: str, mover: Mover) -> Measured:
        source = guest.node
        guest.leave()
        self._line.change(line_change(self._shape))
        from_a = self._lab.node(source).site == self._link.site_a
        with probe.Monitor(self._libvirt) as monitor:
            domain = self._libvirt[source].lookupByName(guest.name)
            before = probe.count(self._line, from_a)
            begin = time.time()
            stats = probe.SourceStats(domain, guest.name, source, monitor, begin)
            with stats, Growth(self._lab.plan.id) as growth:
                ended = mover(guest.name, target, self._deadline_s)
            carried = probe.count(self._line, from_a).since(before)
            switched = None if ended.failure else self._switchover(monitor, guest.name, source, target, begin)
        guest.arrived(self._apis[source].guest(guest.name).node if ended.failure else target)
        measured = self._measured(begin, ended, switched, carried, stats.downtime_ms, self._libvirt[target], guest.name)
        return msgspec.structs.replace(
            measured, encoder_growth_bytes=growth.encoder_bytes, decoder_growth_bytes=growth.decoder_bytes
        )

    @staticmethod
    def _switchover(monitor: probe.Monitor, guest: str, source: str, target: str, begin: float) -> Switchover | None:
        until = time.monotonic() + _EVENTS_S
        while (found := switchover(monitor.of(guest, begin), source, target)) is None and time.monotonic() < until:
            time.sleep(_EVENTS_POLL_S)
        return found

    @staticmethod
    def _measured(
        begin: float,
        ended: Ended,
        switched: Switchover | None,
        carried: probe.LineCount,
        qemu_ms: float | None,
        target: Any,
        guest: str,
    ) -> Measured:
        told = probe.TargetStats() if ended.failure else probe.target_stats(target, guest)
        return Measured(
            total_s=None if ended.failure else ended.at - begin,
            running_s=switched.resumed_at - begin if switched else None,
            pause_ms=switched.pause_ms if switched else None,
            pause_qemu_ms=qemu_ms,
            pause_libvirt_ms=told.downtime_ms,
            wire_bytes=carried.forth_bytes,
            wire_bytes_back=carried.back_bytes,
            queue_drops=carried.queue_drops,
            rounds=told.rounds,
            layers=ended.layers,
            load_average=os.getloadavg()[0],
            failure=ended.failure,
        )
