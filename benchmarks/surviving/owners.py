"""The audit trail read a second time, by other code than the rules that made it: who might run what, and when."""

from collections.abc import Callable
from typing import Any

import msgspec

from actors.control.messages import TrailEntry
from actors.control.model import Terms
from benchmarks.surviving.history import NEVER

_PPM = 1_000_000
_LINEAGE_BITS = 32


class Hold(msgspec.Struct, kw_only=True):
    """`node` may have executed `guest` from `begin_ms` to `end_ms`."""

    guest: str
    node: str
    begin_ms: float
    end_ms: float = NEVER


class Gap(msgspec.Struct, kw_only=True):
    """`node` held no lease from `begin_ms` to `end_ms`; nothing may have executed there. `decreed`: an operator's word
    ended it, which proves nothing."""

    node: str
    begin_ms: float
    end_ms: float = NEVER
    decreed: bool = False


class _Move(msgspec.Struct, kw_only=True):
    guest: str
    source: str
    target: str
    epoch: int
    state: str = "begin"
    started: bool = False
    committed: bool = False


class _Owned(msgspec.Struct, kw_only=True):
    node: str = ""
    epoch: int = 0
    runs: bool = False
    job: str = ""


class Owners:
    """Read entry by entry; `faults` is what no good trail holds."""

    def __init__(self, trail: list[TrailEntry]) -> None:
        self.holds: list[Hold] = []
        self.gaps: list[Gap] = []
        self.moves: dict[str, _Move] = {}
        self.granted: dict[tuple[str, str], int] = {}
        """How often a guest was granted to a node by a start."""
        self.faults: list[str] = []
        self._guests: dict[str, _Owned] = {}
        self._newest: dict[str, int] = {}
        self._leases: dict[str, int] = {}
        self._members: set[int] = set()
        self._said: dict[tuple[str, int, int], set[int]] = {}
        self._lineage = 0
        self._duration_ms = self._least_wait_ms = 0.0
        self._terms(Terms())
        steps: dict[str, Callable[[TrailEntry, dict[str, Any]], None]] = {
            "setterms": self._set_terms,
            "acquirelease": self._acquire,
            "expirelease": self._expire,
            "attestexpiry": self._attest,
            "enrolmember": self._enrol,
            "removemember": self._unseat,
            "excludemember": self._unseat,
            "override": self._override,
            "defineguest": self._define,
            "removeguest": self._remove,
            "startguest": self._start,
            "stopguest": self._stop,
            "failover": self._fail_over,
            "beginmove": self._begin,
            "advancemove": self._advance,
            "commitmove": self._commit,
            "endmove": self._end,
            "voidmove": self._void,
        }
        for entry in trail:
            if step := steps.get(entry.command):
                step(entry, entry.body)

    def owner(self, guest: str) -> str:
        """Who may run it at the end of the trail; '' for nobody."""
        found = self._guests.get(guest)
        return found.node if found and found.runs else ""

    @property
    def leased(self) -> set[str]:
        """The nodes that hold a lease at the end of the trail."""
        return set(self._leases)

    def _fault(self, entry: TrailEntry, what: str) -> None:
        self.faults.append(f"entry {entry.number}, {entry.command} of {entry.subject}: {what}")

    # -- leases -------------------------------------------------------------------------------------------------------

    def _terms(self, terms: Terms) -> None:
        slow = terms.duration_ms * _PPM / (_PPM - terms.drift_ppm)
        # Which terms a lease had when it was last renewed is not in the trail: the latest end, the shortest wait.
        self._duration_ms = max(self._duration_ms, slow)
        wait_ms = slow * (1 + terms.drift_ppm / _PPM)
        self._least_wait_ms = min(self._least_wait_ms or wait_ms, wait_ms)

    def _set_terms(self, _: TrailEntry, body: dict[str, Any]) -> None:
        self._terms(Terms(duration_ms=body["duration_ms"], drift_ppm=body["drift_ppm"]))

    def _acquire(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        node = body["node"]
        if entry.by != f"node:{node}":
            self._fault(entry, f"asked by {entry.by}")
        if node not in self._leases:
            self._close_gap(node, entry.at_ms)
        self._leases[node] = entry.revision

    def _close_gap(self, node: str, at_ms: float) -> None:
        before = [gap for gap in self.gaps if gap.node == node]
        if before:
            before[-1].end_ms = at_ms
        else:
            self.gaps.append(Gap(node=node, begin_ms=0.0, end_ms=at_ms))

    def _expire(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        node = body["node"]
        if self._leases.pop(node, 0) != body["number"]:
            self._fault(entry, f"{node} did not hold lease {body['number']}")
        if body["waited_ms"] < self._least_wait_ms:
            self._fault(entry, f"only {body['waited_ms']} ms were waited")
        # The renewal was applied, and so sent, no later than this; its holder has paused all within its duration.
        ended_ms = entry.at_ms - body["waited_ms"] + self._duration_ms
        self.gaps.append(Gap(node=node, begin_ms=min(ended_ms, entry.at_ms)))

    def _enrol(self, _: TrailEntry, body: dict[str, Any]) -> None:
        self._members.add(body["number"])

    def _unseat(self, _: TrailEntry, body: dict[str, Any]) -> None:
        self._members.discard(body["number"])

    def _attest(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        """One member's word that a lease has run out; more of them than may lie end it."""
        node, number = body["node"], body["number"]
        said = self._said.setdefault((node, number, body["renewal"]), set())
        if body["member"] not in self._members:
            self._fault(entry, f"{body['member']} is no member")
        said.add(body["member"])
        if self._leases.get(node) != number:
            self._fault(entry, f"{node} did not hold lease {number}")
        elif 3 * (len(said) - 1) >= len(self._members) - 3:
            del self._leases[node]
            # One of them waited for as long as any must, from when it applied the renewal.
            ended_ms = entry.at_ms - self._least_wait_ms + self._duration_ms
            self.gaps.append(Gap(node=node, begin_ms=min(ended_ms, entry.at_ms)))

    def _override(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        # Its sentences may be too long for the trail to keep the body.
        for node in body.get("nodes", []):
            if self._leases.pop(node, 0):
                self.gaps.append(Gap(node=node, begin_ms=entry.at_ms, decreed=True))
        self._lineage += bool(body.get("lineage"))

    def _needs_lease(self, entry: TrailEntry, node: str) -> None:
        if node not in self._leases:
            self._fault(entry, f"{node} held no lease")

    def _needs_none(self, entry: TrailEntry, nodes: set[str]) -> None:
        for node in sorted(nodes & set(self._leases)):
            self._fault(entry, f"the lease of {node}, which may run it, had not ended")

    # -- guests -------------------------------------------------------------------------------------------------------

    def _define(self, _: TrailEntry, body: dict[str, Any]) -> None:
        if body:
            self._guests.setdefault(body["guest"], _Owned())

    def _remove(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        if self._at(entry, body).runs:
            self._fault(entry, "it was not stopped")
        self._guests.pop(body["guest"], None)

    def _at(self, entry: TrailEntry, body: dict[str, Any]) -> _Owned:
        """The guest, at the epoch that the command names."""
        guest = self._guests.setdefault(body["guest"], _Owned())
        if guest.epoch != body["epoch"]:
            self._fault(entry, f"it was at epoch {guest.epoch}, not {body['epoch']}")
        return guest

    def _epoch(self, entry: TrailEntry, guest: str) -> int:
        """The epoch that this entry grants: above each one before, also of an earlier guest of that name."""
        epoch = (self._lineage << _LINEAGE_BITS) + entry.revision
        if epoch <= self._newest.get(guest, 0):
            self._fault(entry, f"its epoch {epoch} is not above {self._newest[guest]}")
        self._newest[guest] = epoch
        return epoch

    def _give(self, entry: TrailEntry, name: str, node: str) -> None:
        epoch = self._epoch(entry, name)
        self._guests[name] = _Owned(node=node, epoch=epoch, runs=True)
        self._hold(name, node, entry.at_ms)
        self.granted[name, node] = self.granted.get((name, node), 0) + 1

    def _start(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        if self._at(entry, body).runs:
            self._fault(entry, "it ran already")
        self._needs_lease(entry, body["node"])
        self._give(entry, body["guest"], body["node"])

    def _stop(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        guest = self._at(entry, body)
        if guest.job:
            self._fault(entry, f"move {guest.job} held it")
        if entry.by != f"node:{guest.node}":
            self._needs_none(entry, {guest.node})
        guest.runs = False
        self._release(body["guest"], entry.at_ms, keeps="")

    def _fail_over(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        guest = self._at(entry, body)
        move = self.moves.get(guest.job)
        both = move is not None and move.started and not move.committed
        self._needs_none(entry, {move.source, move.target} if move and both else {guest.node})
        self._needs_lease(entry, body["to"])
        self._release(body["guest"], entry.at_ms, keeps="")
        self._give(entry, body["guest"], body["to"])

    # -- moves --------------------------------------------------------------------------------------------------------

    def _begin(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        name = body["guest"]
        guest = self._at(entry, body)
        if not guest.runs or guest.job:
            self._fault(entry, f"move {guest.job} held it" if guest.job else "it was stopped")
        for node in (guest.node, body["target"]):
            self._needs_lease(entry, node)
        guest.job = body["job"]
        epoch = self._epoch(entry, name)
        self.moves[guest.job] = _Move(guest=name, source=guest.node, target=body["target"], epoch=epoch)

    def _moving(self, entry: TrailEntry, body: dict[str, Any]) -> _Move | None:
        move = self.moves.get(body["job"])
        if move is None:
            self._fault(entry, "it was never begun")
        return move

    def _advance(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        if not (move := self._moving(entry, body)):
            return
        move.state = body["state"]
        if move.committed and move.state == "rolling-back":
            self._fault(entry, "it was past its point of no return")
        if move.state == "perform":
            move.started = True
            self._hold(move.guest, move.target, entry.at_ms)

    def _commit(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        if not (move := self._moving(entry, body)) or move.committed:
            return
        guest = self._guests.setdefault(move.guest, _Owned())
        if not move.started or move.state == "rolling-back" or guest.job != body["job"]:
            self._fault(entry, f"it was {move.state}, and {guest.job or 'no move'} held {move.guest}")
        move.committed = True
        guest.node, guest.epoch = move.target, move.epoch
        self._release(move.guest, entry.at_ms, keeps=move.target)

    def _end(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        if not (move := self._moving(entry, body)):
            return
        guest = self._guests.setdefault(move.guest, _Owned())
        if move.committed != (body["state"] == "completed"):
            self._fault(entry, f"{body['state']}, and it was {'' if move.committed else 'not '}committed")
        if guest.job != body["job"]:
            return
        guest.job = ""
        ended = move.started and not move.committed and body.get("ruling") == "guest-ended"
        guest.runs = guest.runs and not ended
        self._release(move.guest, entry.at_ms, keeps="" if ended else guest.node)

    def _void(self, entry: TrailEntry, body: dict[str, Any]) -> None:
        guest = self._guests.setdefault(body["guest"], _Owned())
        move = self.moves.get(body["job"])
        if move is None or guest.job != body["job"]:
            return
        if move.started:
            self._fault(entry, "it was started, so who has the guest had to be found out")
        guest.job = ""

    # -- times --------------------------------------------------------------------------------------------------------

    def _hold(self, guest: str, node: str, at_ms: float) -> None:
        if not any((each.guest, each.node, each.end_ms) == (guest, node, NEVER) for each in self.holds):
            self.holds.append(Hold(guest=guest, node=node, begin_ms=at_ms))

    def _release(self, guest: str, at_ms: float, keeps: str) -> None:
        for each in self.holds:
            if each.guest == guest and each.node != keeps and each.end_ms == NEVER:
                each.end_ms = at_ms
