"""Guests in a lab, placed one after the other, rebalanced, and a node drained, seen from outside all the while."""

import time
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from actors.config.schema import Placement
from actors.control.messages import TrailEntry
from actors.errors import NovaCronError
from actors.hypervisor.messages import GuestInfo, Guests, NodeFacts
from actors.lab.guests import Load, build, guest_spec
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.migration.messages import CreateGuestAnywhere, SweepView
from actors.placement.messages import Standing
from api.cli.client import Client
from api.cli.guest_spec import IMAGES
from api.cli.target import Target
from benchmarks.placing.checks import Host, broken_rules, standing, strayed, unlike
from benchmarks.placing.plan import Asked
from benchmarks.report import Cell, Row
from benchmarks.surviving.checks import faults
from benchmarks.surviving.history import NEVER, Ended, History, spans
from benchmarks.surviving.observer import Observer
from benchmarks.surviving.owners import Owners
from benchmarks.surviving.run import until

COLUMNS = [
    "step", "guests", "moves", "promised_s", "moves_s", "took_s", "promised_mb", "moves_mb", "pause_ms_max",
    "fragmentation_8", "near_pairs", "split_pairs", "as_shown", "broken",
]  # fmt: skip
_API_PORT, _MEMORY_MIB = 8443, 128
_READY_S, _BOOT_S, _SWEEP_S, _TICKS_S = 180.0, 240.0, 420.0, 120.0
# Many of them share few cores: each does just enough to show that it lives and what its memory holds.
_LOAD, _TICK_MS = Load(region_mib=8, per_s=20, bytes_each=64), 500
_LIMITS = Placement()


class Placing:
    """The lab and its guests.

    Args:
        lab: with NovaCron running, and no guest.
        observer: of all nodes.
    """

    def __init__(self, lab: Lab, observer: Observer) -> None:
        self.lab, self.observer = lab, observer
        token = lab.plan.api_token_file.read_text().strip()
        self.apis = {
            node.site: Client(Target(url=f"http://{node.address}:{_API_PORT}", token=token))
            for node in lab.plan.nodes
            if node.leads
        }
        self._first = next(iter(self.apis.values()))
        self._images = build(IMAGES)
        self._watches: dict[str, Watch] = {}
        self._ended: list[Ended] = []
        self._before: dict[str, str] = {}

    def place(self, wanted: list[Asked]) -> Row:
        """Ask for each guest, and see where it runs."""
        until("a leader and the nodes' leases", self._ready, _READY_S)
        begun, broken = time.monotonic(), []
        for asked in wanted:
            files = {node.name: file for node, file in zip(self.lab.plan.nodes, self._files(asked.name), strict=True)}
            answered = self._create(asked)
            if asked.node and answered.node != asked.node:
                broken.append(f"{asked.name} is said to be on {answered.node}, asked for {asked.node}")
            self._watches[asked.name] = Watch(asked.name, files, answered.node)
            self._watches[asked.name].until_ticks(2, _BOOT_S)
            if (home := self._homes().get(asked.name)) != answered.node:
                broken.append(f"{asked.name} runs on {home}, said was {answered.node}")
            broken += [one for one in broken_rules(self._guests(), self._hosts()) if one not in broken]
        row: Row = {"step": "place", "guests": len(wanted), "moves": 0, "took_s": round(time.monotonic() - begun, 1)}
        return row | _stands(standing(self._guests(), self._hosts())) | {"broken": "; ".join(broken)}

    def rebalance(self, most: int) -> Row:
        """Rebalance, and hold what is there then against the plan. `as_shown`: the dry run had the same moves."""
        self._before = self._homes()
        shown = self._first.rebalance(dry_run=True, most=most)
        made = self._first.rebalance(dry_run=False, most=most)
        row = self._sweep("rebalance", made)
        worse = [f"{made.after.near_pairs:.2f} of the pairs that talk are apart"] * (made.after.near_pairs > 0)
        return row | {"as_shown": _steps(shown) == _steps(made), "broken": _joined(row["broken"], worse)}

    def drain(self, node: str) -> Row:
        """Drain `node`, groups after one another, and hold what is there then against the plan."""
        self._before = self._homes()
        shown = self._first.drain(node, dry_run=True, part_groups=True)
        made = self._first.drain(node, dry_run=False, part_groups=True)
        row = self._sweep(f"drain {node}", made)
        here = [name for name, home in self._homes().items() if home == node]
        state = next(one.state for one in self._facts() if one.node == node)
        broken = [f"{', '.join(here)} still on {node}"] * bool(here)
        broken += [f"{node} is shown as {state}"] * (state != "draining")
        return row | {"as_shown": _steps(shown) == _steps(made), "broken": _joined(row["broken"], broken)}

    def history(self) -> Row:
        """What is broken in all that was seen and agreed on so far: V1 to V5."""
        trails = {site: _trail(api) for site, api in self.apis.items()}
        broken = faults(History(seen=self.observer.seen, trails=trails, ended=self._ended))
        return {"step": "history", "guests": len(self._watches), "broken": "; ".join(broken)}

    # -- asking -------------------------------------------------------------------------------------------------------

    def _create(self, asked: Asked) -> GuestInfo:
        spec = guest_spec(asked.name, "memory", _MEMORY_MIB, _LOAD, 0, self._images, tick_ms=_TICK_MS)
        spec = replace(spec, console=f"/run/{self._files(asked.name)[0].name}", attributes=asked.attributes)
        for file in self._files(asked.name):
            file.unlink(missing_ok=True)
        return self.apis[asked.site].create_guest(CreateGuestAnywhere(spec=spec, node=asked.node))

    def _sweep(self, step: str, made: SweepView) -> Row:
        """Wait for its end; what was promised beside what is there."""
        before, begun = self._before, time.monotonic()
        (sweep,) = until(f"the end of {made.id}", lambda: self._ended_view(made.id), _SWEEP_S, 0.5)
        took_s = time.monotonic() - begun
        jobs = [self._first.job(move.job) for move in sweep.moves if move.job]
        self._ended += [
            Ended(job=job.id, guest=job.guest, completed=job.state == "completed", owner=job.owner) for job in jobs
        ]
        homes, guests, hosts = self._homes(), self._guests(), self._hosts()
        stands = standing(guests, hosts)
        broken = [f"{one.guest} stays on {one.node}: {one.reason}" for one in sweep.stays]
        broken += strayed(before, sweep, homes) + broken_rules(guests, hosts) + unlike(sweep.after, stands)
        broken += [f"{name} is told of on {node}" for name, node in _nodes(guests).items() if homes.get(name) != node]
        for name, home in homes.items():
            if home != before.get(name) and name in self._watches and "+" not in home:
                self._watches[name].arrived(home)
        for name, watch in self._watches.items():
            verdict = watch.until_ticks(2, _TICKS_S)
            broken += [] if verdict.ok else [f"{name} is damaged: {verdict.problems}"]
        plans = [move.plan for move in sweep.moves]
        row: Row = {
            "step": step,
            "guests": len(guests),
            "moves": len(plans),
            "promised_s": round(sum(plan.expected_s for plan in plans), 1),
            "moves_s": round(sum(job.total_s for job in jobs), 1),
            "took_s": round(took_s, 1),
            "promised_mb": round(sum(plan.expected_bytes for plan in plans) / 1e6, 1),
            "moves_mb": round(sum(job.progress.wire_bytes for job in jobs) / 1e6, 1),
            "pause_ms_max": round(max((job.pause_ms for job in jobs), default=0.0)),
        }
        return row | _stands(stands) | {"broken": "; ".join(broken)}

    def _ended_view(self, name: str) -> list[SweepView]:
        with suppress(NovaCronError):
            view = self._first.sweep(name)
            return [view] if view.state != "running" else []
        return []

    # -- looking ------------------------------------------------------------------------------------------------------

    def _homes(self) -> dict[str, str]:
        """Where each guest executes, by its QEMU's own word; one that executes twice is on both, with a `+`."""
        found: dict[str, list[str]] = {}
        for span in spans(self.observer.seen):
            if span.end_ms == NEVER:
                found.setdefault(span.guest, []).append(span.node)
        return {name: "+".join(nodes) for name, nodes in found.items()}

    def _guests(self) -> list[GuestInfo]:
        """As the cluster tells of them; every node answers."""
        (shown,) = until("every node to tell of its guests", self._told, _READY_S, 0.5)
        return shown.guests

    def _told(self) -> list[Guests]:
        shown = self._first.guests()
        return [] if shown.silent else [shown]

    def _facts(self) -> list[NodeFacts]:
        return [node for site in self._first.sites().sites for node in site.nodes]

    def _hosts(self) -> dict[str, Host]:
        return {
            one.node: Host(site=one.site, vcpus=int(one.cpus * _LIMITS.max_vcpus_per_cpu), takes=one.state == "up")
            for one in self._facts()
        }

    def _files(self, guest: str) -> list[Path]:
        return [node.run_dir / f"console-{guest}.log" for node in self.lab.plan.nodes]

    def _ready(self) -> bool:
        with suppress(NovaCronError):
            view = self._first.cluster()
            told = self._first.guests()
            leased = Owners(_trail(self._first)).leased
            return bool(view.leader) and not told.silent and {node.name for node in self.lab.plan.nodes} <= leased
        return False


def _joined(broken: Cell, more: list[str]) -> str:
    return "; ".join([str(broken)] * bool(broken) + more)


def _nodes(guests: list[GuestInfo]) -> dict[str, str]:
    return {guest.name: guest.node for guest in guests}


def _steps(sweep: SweepView) -> list[tuple[str, str]]:
    return [(move.plan.guest, move.plan.target) for move in sweep.moves]


def _stands(found: Standing) -> Row:
    names = ("fragmentation_8", "fragmentation_16", "near_pairs", "split_pairs")
    return {name: round(getattr(found, name), 4) for name in names}


def _trail(api: Client) -> list[TrailEntry]:
    entries: list[TrailEntry] = []
    after, count = 0, 1
    while after < count:
        page = api.audit("", 0, after)
        entries += page.entries
        after, count = page.upto, page.count
    return entries
