"""One lab of sites, one guest that moves around, one fault after the other; all of it watched from outside."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from actors.control.messages import TrailEntry
from actors.errors import DeadlineExceeded, Failed, NovaCronError
from actors.keeper.files import LOCK_FILE, now_ms, read_order
from actors.lab.guests import Load, build, guest_spec
from actors.lab.guests.watch import Watch
from actors.lab.lab import Lab
from actors.lab.line import Change
from actors.locks import holder, signal_holder
from actors.migration.messages import CreateGuestAnywhere, JobView, MoveRequest
from actors.migration.states import ENDED
from api.cli.client import Client
from api.cli.guest_spec import IMAGES
from api.cli.target import Target
from benchmarks.report import Row
from benchmarks.surviving.checks import faults, margins_ms
from benchmarks.surviving.history import NEVER, Ended, History, Told, spans
from benchmarks.surviving.observer import Observer
from benchmarks.surviving.owners import Owners
from benchmarks.surviving.plan import Cell, Fault, Part

_Value = TypeVar("_Value")
GUEST = "mover"
COLUMNS = ["fault", "phase", "struck_in", "move", "on", "settled_s", "early_ms", "broken"]
_TITLES = {"member": "ray::ClusterState", "agent": "ray::NodeAgent", "manager": "ray::MigrationManager"}
_API_PORT = 8443
_READY_S, _BOOT_S, _MOVE_S, _TICKS_S, _EXPIRY_S = 180.0, 240.0, 240.0, 120.0, 60.0
# So slowly that there is time to strike while it copies.
_SLOW_BPS = 16_000_000
_COPIED_BYTES = 1 << 20
_LINE_CUT_S = 8.0
_POLL_S = 0.05


def until(what: str, ask: Callable[[], _Value], deadline_s: float, poll_s: float = _POLL_S) -> _Value:
    """The first true answer of `ask`.

    Raises:
        DeadlineExceeded: there was none in time.
    """
    end = time.monotonic() + deadline_s
    while not (answer := ask()):
        if time.monotonic() > end:
            raise DeadlineExceeded(what=f"{what} (last answer: {answer!r})", deadline_s=deadline_s)
        time.sleep(poll_s)
    return answer


class Sites:
    """The lab with everything that is known of the run.

    Args:
        lab: three sites of one node each or more, with NovaCron running; at least two have guests.
        observer: of all nodes with guests.
        mode: what their members are to agree by.
    """

    def __init__(self, lab: Lab, observer: Observer, mode: str) -> None:
        self.lab, self.observer, self.mode = lab, observer, mode
        token = lab.plan.api_token_file.read_text().strip()
        self.nodes = [node.name for node in lab.plan.hosts]
        self.witnesses = [node.name for node in lab.plan.nodes if node.witness]
        self.apis = {
            node.name: Client(Target(url=f"http://{node.address}:{_API_PORT}", token=token)) for node in lab.plan.hosts
        }
        self.told: list[Told] = []
        self.ended: list[Ended] = []
        self.node = self.nodes[0]
        self._files = {one.name: one.run_dir / f"console-{GUEST}.log" for one in lab.plan.hosts}
        self._watch = Watch(GUEST, self._files, self.node)

    def begin(self) -> None:
        """Wait until leases end by time and the protocol is the wanted one, then start the guest."""
        until("leases that end by time", self._settled, _READY_S)
        spec = guest_spec(GUEST, "memory", 128, Load(region_mib=16, per_s=300, bytes_each=64), 16, build(IMAGES))
        spec = msgspec.structs.replace(spec, console=f"/run/console-{GUEST}.log")
        self.apis[self.node].create_guest(CreateGuestAnywhere(spec=spec, node=self.node))
        self.told += [Told(command="defineguest", subject=GUEST), Told(command="startguest", subject=GUEST)]
        self._watch.until_ticks(5, _BOOT_S)

    def try_(self, cell: Cell) -> Row:
        """One fault: strike, heal, wait until all is well, and look at the whole history."""
        until("all to be well", self._settled, _READY_S)
        roles = self._roles()
        struck_in, job, early_ms = "idle", None, None
        for node in self.nodes:
            self.apis[node].clear_store(node)
        self._write(roles["target"])
        strike = self._armed(cell.fault, roles)
        try:
            if cell.phase != "idle":
                job, struck_in = self._moving(cell, roles)
            strike()
            self._hold(cell.fault, roles)
        finally:
            self.lab.restore_links()
        healed = time.monotonic()
        outcome = self._over(job, roles) if job else "none"
        until("all to be well again", self._settled, _READY_S)
        until("one running guest, where it was agreed on", self._home, _READY_S)
        settled_s = time.monotonic() - healed
        self._ticks()
        history = self.history()
        broken = faults(history)
        if cell.fault.part == "site":
            early_ms = margins_ms(history).get(roles[cell.fault.role])
        return {
            "fault": str(cell.fault), "phase": cell.phase, "struck_in": struck_in, "move": outcome, "on": self.node,
            "settled_s": round(settled_s, 1), "early_ms": round(early_ms) if early_ms is not None else None,
            "broken": "; ".join(broken),
        }  # fmt: skip

    def history(self) -> History:
        """Everything up to now."""
        trails = {node: self._trail(node) for node in self.nodes}
        return History(seen=self.observer.seen, trails=trails, told=self.told, ended=self.ended)

    # -- striking -----------------------------------------------------------------------------------------------------

    def _roles(self) -> dict[str, str]:
        at = self.nodes.index(self.node)
        around = self.nodes[at:] + self.nodes[:at] + self.witnesses
        return dict(zip(("source", "target", "third"), around[:3], strict=True))

    def _moving(self, cell: Cell, roles: dict[str, str]) -> tuple[JobView, str]:
        """Begin a move and come back at the wanted moment, with the state that the move was in."""
        source, target = roles["source"], roles["target"]
        if cell.phase == "copying":
            self._line(source, target, Change(rate_bps=_SLOW_BPS))
        for node, file in self._files.items():
            if node != source:
                file.unlink(missing_ok=True)
        before = len(self.observer.seen)
        job = self.apis[source].submit(MoveRequest(guest=GUEST, to=target))
        if cell.phase == "copying":
            until("the move to copy", lambda: self._copies(job.id, source), _MOVE_S)
        elif cell.phase in ("switchover", "arrived"):
            kind, where = ("stop", source) if cell.phase == "switchover" else ("resume", target)
            if not self.observer.wait(GUEST, where, kind, before, _MOVE_S):  # type: ignore[arg-type]
                raise DeadlineExceeded(what=f"{kind} of {GUEST} on {where}", deadline_s=_MOVE_S)
            return job, cell.phase
        return job, self.apis[source].job(job.id).state

    def _copies(self, job: str, node: str) -> bool:
        view = self.apis[node].job(job)
        return view.state in ENDED or (view.state == "perform" and view.progress.wire_bytes >= _COPIED_BYTES)

    def _armed(self, fault: Fault, roles: dict[str, str]) -> Callable[[], Any]:
        """What strikes; all that takes time is done before."""
        node = roles[fault.role]
        if fault.part == "line":
            one, other = (each for role, each in roles.items() if role != fault.role)
            return partial(self._dark, [(one, other)])
        if fault.part == "site":
            return partial(self._dark, [(node, other) for other in self.nodes + self.witnesses if other != node])
        if fault.part == "keeper":
            lock = self.lab.node(node).run_dir / "novacron" / LOCK_FILE
            return lambda: signal_holder(lock, signal.SIGKILL)
        # One that an earlier fault killed may not be back yet.
        pids = until(f"a {fault.part} of {node} to kill", lambda: self._pids(node, fault.part), _READY_S)
        return lambda: self.lab.run(node, ["kill", "-KILL", *pids])

    def _pids(self, node: str, part: Part) -> list[str]:
        if node in self.witnesses:
            return [self.lab.witness_pid(node)]
        with suppress(Failed):  # pgrep found none
            return self.lab.run(node, ["pgrep", "-f", f"^{_TITLES[part]}"]).split()
        return []

    def _dark(self, pairs: list[tuple[str, str]]) -> None:
        for one, other in pairs:
            self._line(one, other, Change(state="hole"))

    def _line(self, one: str, other: str, change: Change) -> None:
        ends = {self.lab.node(one).site, self.lab.node(other).site}
        (name,) = (link.name for link in self.lab.plan.links if {link.site_a, link.site_b} == ends)
        self.lab.link(name).change(change)

    def _hold(self, fault: Fault, roles: dict[str, str]) -> None:
        """Keep the fault for as long as it may do harm; the rest of the cluster is written to meanwhile."""
        node = roles[fault.role]
        others = (roles[role] for role in ("third", "target", "source") if role != fault.role)
        asked = next(each for each in others if each in self.apis)
        if fault.part == "site" and node in self.nodes:
            until(f"the end of the lease of {node}", lambda: self._expired(asked, node), _EXPIRY_S, 0.3)
        elif fault.part in ("line", "site"):
            time.sleep(_LINE_CUT_S)
        self._write(asked)
        if fault.part == "member" and node in self.witnesses:
            self.lab.start_witness(node)

    def _expired(self, asked: str, node: str) -> bool:
        with suppress(NovaCronError):
            return node not in Owners(self._trail(asked)).leased
        return False

    def _write(self, node: str) -> None:
        """A harmless command; what is not acknowledged is not counted on."""
        with suppress(NovaCronError):
            self.apis[node].set_flag("itp", {"percent": len(self.told) % 100, "reason": "written during a fault"})
            self.told.append(Told(command="setflag", subject="itp"))

    # -- healing ------------------------------------------------------------------------------------------------------

    def _settled(self) -> bool:
        """Actors answer, members are heard and have all, leases end by time, keepers are there."""
        with suppress(NovaCronError):
            for node, api in self.apis.items():
                api.jobs()
                api.store(node)
            if self.apis[self.nodes[0]].guests().silent:  # an agent that was killed is not back yet
                return False
            view = self.apis[self.nodes[0]].cluster()
            if (
                view.mode != self.mode
                or not view.leader
                or not all(0 <= each.silent_s < 5 and each.lag in (0, 1, 2) for each in view.members)
            ):
                return False
            leased = Owners(self._trail(view.leader if view.leader in self.apis else self.nodes[0])).leased
            locks = [self.lab.node(node).run_dir / "novacron" / LOCK_FILE for node in self.nodes]
            kept = all(holder(lock) is not None for lock in locks)
            return set(self.nodes) <= leased and kept and all(map(self._timed, self.nodes))
        return False

    def _timed(self, node: str) -> bool:
        """Its lease ends by time: what the first ones are taken under leaves their end to an operator."""
        order = read_order(self.lab.node(node).state_dir / "lib-novacron")
        return order is not None and order.pause_at_ms is not None and order.pause_at_ms > now_ms()

    def _over(self, job: JobView, roles: dict[str, str]) -> str:
        source, view = roles["source"], job

        def ended() -> bool:
            nonlocal view
            with suppress(NovaCronError):
                view = self.apis[source].job(job.id)
                return view.state in ENDED and self._agreed(job.id)
            return False

        try:
            until(f"the end of {job.id}, agreed on", ended, _MOVE_S, 0.2)
        except DeadlineExceeded as error:
            raise DeadlineExceeded(what=f"{error}; it is {view.state}, {view.message!r}", deadline_s=_MOVE_S) from error
        completed = view.state == "completed"
        self.ended.append(Ended(job=job.id, guest=GUEST, completed=completed, owner=view.owner))
        if completed:
            self._watch.arrived(roles["target"])
            self.node = roles["target"]
        return view.state

    def _agreed(self, job: str) -> bool:
        trail = self._trail(self.nodes[0])
        begun = any(entry.command == "beginmove" and entry.body.get("job") == job for entry in trail)
        return not begun or any((one.command, one.subject) == ("endmove", job) for one in trail)

    def _home(self) -> bool:
        """The guest executes once, where the agreed state has it."""
        now = [span.node for span in spans(self.observer.seen) if span.guest == GUEST and span.end_ms == NEVER]
        return now == [self.node] and Owners(self._trail(self.nodes[0])).owner(GUEST) == self.node

    def _ticks(self) -> None:
        verdict = self._watch.until_ticks(10, _TICKS_S)
        if not verdict.ok:
            raise NovaCronError(detail=f"the guest is damaged: {verdict.problems}")

    def _trail(self, node: str) -> list[TrailEntry]:
        entries: list[TrailEntry] = []
        after, count = 0, 1
        while after < count:
            page = self.apis[node].audit("", 0, after)
            entries += page.entries
            after, count = page.upto, page.count
        return entries
