"""The order of a node's start, without any I/O: events in, instructions out.

A component starts as soon as what it needs is up and what it comes after is settled. Phases are no barriers: they only
say who may need whom, and how far the start is. Times are seconds since the start began; the events bring them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import msgspec

from actors.boot.component import PHASES, Component
from actors.boot.status import BootStatus, ComponentStatus, Progress, State
from actors.errors import BootFailed

RETRY_DELAYS_S = (1.0, 2.0, 4.0)
_SETTLED: frozenset[State] = frozenset({"up", "failed", "skipped", "stopped"})


class Started(msgspec.Struct, frozen=True):
    """Event: the start of `name` returned."""

    name: str
    at_s: float


class Failed(msgspec.Struct, frozen=True):
    """Event: the start of `name` raised, ran out of time or was cancelled."""

    name: str
    reason: str
    at_s: float


class RetryDue(msgspec.Struct, frozen=True):
    """Event: the delay of a `RetryAfter` is over."""

    name: str
    at_s: float


class Interrupted(msgspec.Struct, frozen=True):
    """Event: whoever asked for the start does not want it any more."""

    at_s: float


class Start(msgspec.Struct, frozen=True):
    """Instruction: start `name`, report `Started` or `Failed`."""

    name: str


class RetryAfter(msgspec.Struct, frozen=True):
    """Instruction: report `RetryDue` after `delay_s`; `reason` is why the last try failed."""

    name: str
    delay_s: float
    reason: str


class GoOnWithout(msgspec.Struct, frozen=True):
    """Instruction: tell the log that the node goes on without `name`."""

    name: str
    reason: str


class Cancel(msgspec.Struct, frozen=True):
    """Instruction: cancel the starts of `names`; each still reports how it ended."""

    names: tuple[str, ...]


class RollBack(msgspec.Struct, frozen=True):
    """Instruction, the last of a failed start: stop `names` in this order; `component` failed for `reason`."""

    names: tuple[str, ...]
    component: str
    reason: str


class Ready(msgspec.Struct, frozen=True):
    """Instruction, the last of a good start: everything is up, or was given up without need to halt."""


Event = Started | Failed | RetryDue | Interrupted
Instruction = Start | RetryAfter | GoOnWithout | Cancel | RollBack | Ready


@dataclass
class _Item:
    component: Component
    state: State = "waiting"
    reason: str = ""
    tries: int = 0
    started_s: float | None = None
    settled_s: float | None = None


class Engine:
    """State machine of one start. Feed `begin` once, then every event to `handle`; obey what they return, in order.

    Raises:
        BootFailed: the components don't form a graph that can be started; every fault is named.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        self._sorter = _sorted(components)
        self._items = {component.name: _Item(component) for component in components}
        self._order: list[str] = []
        self._halt: tuple[str, str] | None = None
        self._ended_s: float | None = None

    def begin(self) -> list[Instruction]:
        """The first starts, at time 0."""
        return self._advance(0.0)

    def handle(self, event: Event) -> list[Instruction]:
        """What to do after `event`. Late events of a halted start are settled too."""
        match event:
            case Started(name, at_s):
                return self._started(self._items[name], at_s)
            case Failed(name, reason, at_s):
                return self._failed(self._items[name], reason, at_s)
            case RetryDue(name, at_s):
                item = self._items[name]
                return [self._start(item, at_s)] if item.state == "retrying" else []
            case Interrupted(at_s):
                return self._halt_for("boot", "interrupted", at_s) if self._ended_s is None else []

    def stop_order(self) -> tuple[str, ...]:
        """What is up, in the order to stop it: a component before everything it needs."""
        return tuple(name for name in reversed(self._order) if self._items[name].state == "up")

    def stopped(self, name: str) -> None:
        """Take note that `name` has been stopped."""
        self._items[name].state = "stopped"

    def status(self, now_s: float) -> BootStatus:
        """Where the start stands at `now_s`."""
        parts = [_status(item, now_s) for item in self._items.values()]
        return BootStatus(
            phase=self._phase(),
            ready=self._phase() == "ready",
            elapsed_s=now_s if self._ended_s is None else self._ended_s,
            sequential_s=sum(part.took_s for part in parts),
            components=parts,
        )

    def _phase(self) -> Progress:
        if self._halt:
            return "halted"
        if any(item.state == "stopped" for item in self._items.values()):
            return "stopped"
        open_phases = {item.component.phase for item in self._items.values() if item.state not in _SETTLED}
        for phase in PHASES:
            if phase in open_phases:
                return phase
        return "ready"

    def _advance(self, at_s: float) -> list[Instruction]:
        """Start whatever has its needs, pass over what lacks one, and say so when nothing is left to wait for."""
        todo: list[Instruction] = []
        while names := self._sorter.get_ready():
            for name in names:
                item = self._items[name]
                lacks = [need for need in item.component.needs if self._items[need].state != "up"]
                if not lacks:
                    todo.append(self._start(item, at_s))
                    continue
                todo += self._give_up(item, "skipped", f"it needs {', '.join(lacks)}, which did not start", at_s)
                if self._halt:
                    return todo
        if all(item.state in _SETTLED for item in self._items.values()) and self._ended_s is None:
            self._ended_s = at_s
            todo.append(Ready())
        return todo

    def _start(self, item: _Item, at_s: float) -> Start:
        item.state = "starting"
        item.tries += 1
        if item.started_s is None:
            item.started_s = at_s
        return Start(item.component.name)

    def _started(self, item: _Item, at_s: float) -> list[Instruction]:
        assert item.state == "starting", f"{item.component.name} was {item.state} and reports a start"
        item.state, item.settled_s = "up", at_s
        self._order.append(item.component.name)
        if self._halt:
            return self._roll_back()
        self._sorter.done(item.component.name)
        return self._advance(at_s)

    def _failed(self, item: _Item, reason: str, at_s: float) -> list[Instruction]:
        assert item.state == "starting", f"{item.component.name} was {item.state} and reports a failure"
        if self._halt:
            item.state, item.reason, item.settled_s = "failed", reason, at_s
            return self._roll_back()
        if item.component.criticality == "degraded" and item.tries <= len(RETRY_DELAYS_S):
            item.state, item.reason = "retrying", reason
            return [RetryAfter(item.component.name, RETRY_DELAYS_S[item.tries - 1], reason)]
        todo = self._give_up(item, "failed", reason, at_s)
        return todo if self._halt else todo + self._advance(at_s)

    def _give_up(self, item: _Item, state: State, reason: str, at_s: float) -> list[Instruction]:
        item.state, item.reason, item.settled_s = state, reason, at_s
        if item.component.criticality == "critical":
            return self._halt_for(item.component.name, reason, at_s)
        self._sorter.done(item.component.name)
        return [GoOnWithout(item.component.name, reason)]

    def _halt_for(self, component: str, reason: str, at_s: float) -> list[Instruction]:
        self._halt, self._ended_s = (component, reason), at_s
        for item in self._items.values():
            if item.state in {"waiting", "retrying"}:
                item.state, item.reason, item.settled_s = "skipped", f"halted by {component}", at_s
        in_flight = tuple(name for name, item in self._items.items() if item.state == "starting")
        return [Cancel(in_flight)] if in_flight else self._roll_back()

    def _roll_back(self) -> list[Instruction]:
        # Only when every start has reported: one that succeeds while it is cancelled must be stopped with the others.
        if any(item.state == "starting" for item in self._items.values()):
            return []
        assert self._halt is not None, "only a halted start is rolled back"
        return [RollBack(self.stop_order(), *self._halt)]


def _status(item: _Item, now_s: float) -> ComponentStatus:
    until_s = now_s if item.settled_s is None else item.settled_s
    return ComponentStatus(
        name=item.component.name,
        phase=item.component.phase,
        criticality=item.component.criticality,
        state=item.state,
        reason=item.reason,
        started_after_s=item.started_s,
        took_s=0.0 if item.started_s is None else until_s - item.started_s,
    )


def _sorted(components: Sequence[Component]) -> TopologicalSorter[str]:
    """The prepared graph of `components`; raises `BootFailed` that names every fault in it."""
    by_name = {component.name: component for component in components}
    faults = [(component.name, fault) for component in components for fault in _faults(component, by_name)] + [
        (c.name, "its name is taken twice") for c in components if by_name[c.name] is not c
    ]
    sorter = TopologicalSorter({component.name: (*component.needs, *component.after) for component in components})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = list(reversed(error.args[1]))
        faults.append((cycle[0], f"a cycle: {' needs '.join(cycle)}"))
    if faults:
        names = ", ".join(dict.fromkeys(name for name, _ in faults))
        told = "; ".join(f"{name}: {fault}" for name, fault in faults)
        raise BootFailed(component=names, reason=told, rolled_back="nothing, nothing was started")
    return sorter


def _faults(component: Component, by_name: dict[str, Component]) -> list[str]:
    found = []
    for need in (*component.needs, *component.after):
        if need not in by_name:
            found.append(f"needs {need!r}, which does not exist")
        elif PHASES.index(by_name[need].phase) > PHASES.index(component.phase):
            found.append(f"is in {component.phase} and needs {need!r} of the later {by_name[need].phase}")
    return found
