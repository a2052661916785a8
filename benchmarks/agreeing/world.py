"""One run: a group, its clients and its faults, from founding to healed."""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from actors.consensus.ready import Membership
from benchmarks.agreeing.checks import Broken, Ledger
from benchmarks.agreeing.clients import Client
from benchmarks.agreeing.disk import Disk
from benchmarks.agreeing.faults import Faults
from benchmarks.agreeing.history import Fate, Operation
from benchmarks.agreeing.linear import broken_keys
from benchmarks.agreeing.machine import Machine, What
from benchmarks.agreeing.mode import Mode
from benchmarks.agreeing.network import CALM, Network
from benchmarks.agreeing.node import TICK_US, Node
from benchmarks.agreeing.plan import draw_plan
from benchmarks.agreeing.schedule import Schedule

LIVE_TICKS = 400
"""Within so long of being healed everybody must be served and have caught up."""
_TRACE_LINES = 400


class World:
    """Everything in one run. `healed_us` is 0 until the faults have ended."""

    def __init__(
        self, seed: int, mode: Callable[[Ledger, int], Mode], trusting_disks: bool = False, trace: bool = False
    ):
        self.seed, self.plan, self.tracing = seed, draw_plan(seed), trace
        self.chance = Random(seed ^ 0x5EED)
        self.schedule = Schedule()
        self.ledger = Ledger(base=1)
        self.mode = mode(self.ledger, seed)
        self.network = Network(self.schedule, Random(self.chance.getrandbits(64)), self._deliver)
        self.network.weather = self.plan.weather
        self.faults = Faults(self, Random(self.chance.getrandbits(64)))
        self.operations: list[Operation] = []
        self.trace: deque[str] = deque(maxlen=_TRACE_LINES)
        self.healed_us = 0
        self._goal = 0
        self.snapshots = 0
        self._trusting = trusting_disks
        self.plan = msgspec.structs.replace(self.plan, faults=self.plan.faults + self.mode.faults)
        lying_chance = Random(seed ^ 0x11A5)
        voters, lying = self.mode.found(self.plan.members, lying_chance)
        self.founders = founders = Membership(voters)
        honest = [member for member in voters if member not in lying]
        self.nodes = {member: self._node(member, self.mode.founder(founders)) for member in honest}
        self.liars = {member: self.mode.liar(member, self, founders, lying_chance) for member in lying}
        self._clients = [
            Client(number, self, Random(self.chance.getrandbits(64))) for number in range(1, self.plan.clients + 1)
        ]

    def _node(self, member: int, disk: Disk) -> Node:
        disk.trusting = self._trusting
        tick_us = round(TICK_US / (1 + self.plan.drift * self.chance.choice((0, 0.5, 1))))
        return Node(member, self, disk, Random(self.chance.getrandbits(64)), tick_us)

    def run(self) -> None:
        """Run it all.

        Raises:
            Broken: a promise was broken.
            AssertionError: a core found itself in a state that can't be.
        """
        for node in self.nodes.values():
            node.start()
        for liar in self.liars.values():
            liar.start()
        for client in self._clients:
            self.schedule.after(self.chance.randrange(self.plan.pause_us), client.begin)
        self.schedule.after(self.plan.fault_us, self.faults.begin)
        self.schedule.run(self.plan.faulty_us)
        self.network.weather = CALM
        self.faults.heal()
        self.healed_us = self.schedule.now_us
        self.note("healed")
        while not self._is_live():
            if self.schedule.now_us > self.healed_us + LIVE_TICKS * TICK_US:
                raise Broken("progress", self._standing())
            self.schedule.run(self.schedule.now_us + 2 * TICK_US)
        self._check_end()

    def joiner(self) -> Node:
        """A new member's host, up, which nobody knows yet."""
        member = max([*self.nodes, *self.liars]) + 1
        self.nodes[member] = self._node(member, self.mode.joiner(self))
        self.nodes[member].start()
        return self.nodes[member]

    def leader(self) -> Node | None:
        """The member that leads; of several that believe to, one with the newest term."""
        leading = [node for node in self.nodes.values() if node.core is not None and self.mode.leads(node.core)]
        return max(leading, key=lambda node: int(node.core.term), default=None)

    def operation(self, client: int, what: What, key: int, expected: int) -> Operation:
        """A client's next operation; each writes a value that no other does."""
        number = len(self.operations) + 1
        operation = Operation(number, client, what, key, number, expected, self.schedule.now_us)
        self.operations.append(operation)
        return operation

    def note(self, event: str, *what: Any) -> None:
        """Remember an event for the trace."""
        if self.tracing:
            self.trace.append(f"{self.schedule.now_us / TICK_US:8.2f} {event:8} " + " ".join(map(str, what)))

    def _deliver(self, to: int, sender: int, message: Any) -> None:
        if self.tracing:
            self.note("receive", to, "from", sender, message[0])
        (self.nodes.get(to) or self.liars[to]).receive(sender, message)

    def _is_live(self) -> bool:
        informed = max(self.nodes.values(), key=lambda node: int(node.core.commit)) if self.liars else self.leader()
        if informed is None:
            return False
        membership: Membership = informed.core.membership
        served = {
            operation.what
            for operation in reversed(self.operations[-64:])
            if operation.asked_us > self.healed_us and operation.fate is Fate.DONE
        }
        if self._goal == 0 and What.GET in served and What.PUT in served:
            self._goal = self.ledger.top
        members = [member for member in membership.voters + membership.learners if member in self.nodes]
        caught_up = self._goal > 0 and all(self.nodes[member].machine.applied >= self._goal for member in members)
        return caught_up and not self.mode.unsettled(self)

    def _standing(self) -> str:
        standing = [
            f"{node.me}: term {node.core.term}, leader {node.core.leader}, commit {node.core.commit}, "
            f"applied {node.machine.applied}, {node.core.membership}"
            for node in self.nodes.values()
        ]
        left = (
            f"not within {LIVE_TICKS} ticks of healing; {self.ledger.top} is committed; {self.mode.unsettled(self)}; "
        )
        return left + "; ".join(standing)

    def _check_end(self) -> None:
        machines: list[Machine] = [node.machine for node in self.nodes.values()]
        replayed = Machine({}, self.ledger.base)
        states = {replayed.applied: dict(replayed.state)}
        for index in range(self.ledger.base + 1, self.ledger.last + 1):
            replayed.apply(self.ledger.entry(index))
            states[index] = dict(replayed.state)
        for node, machine in zip(self.nodes.values(), machines, strict=True):
            if machine.applied > self.ledger.base and machine.state != states[machine.applied]:
                raise Broken("the same state", f"{node.me} has {machine.state} after {machine.applied}")
        broken = broken_keys(self.operations)
        if broken:
            history = "\n".join(str(operation) for operation in self.operations if operation.key in broken)
            raise Broken("linearizable history", f"registers {broken}\n{history}")


class Outcome(msgspec.Struct, frozen=True):
    """What came of one seed; `broken` is the promise that was broken, `seen` what was seen of it."""

    seed: int
    counts: dict[str, int]
    broken: str = ""
    seen: str = ""
    trace: tuple[str, ...] = ()
