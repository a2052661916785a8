"""Agents, leases, moves and failovers together, on clocks that drift: at no true time do two copies of a guest execute.

The agents here do what agents must: run a guest only under a lease that their own clock grants, and only after they
read, under that same lease, that it is theirs.
"""

import random

import pytest

from actors.control import guest_rules
from actors.control.commands import (
    AcquireLease,
    AdvanceMove,
    BeginMove,
    CommitMove,
    DefineGuest,
    EndMove,
    FailOver,
    JoinNode,
    RenewLease,
    SetTerms,
    StartGuest,
    StopGuest,
    Upgrade,
    seal,
)
from actors.control.engine import apply
from actors.control.invariants import faults
from actors.control.leases import Book, Hold, Holder
from actors.control.model import VERSION, ControlState, LeaseState, Run
from actors.control.ownership import Right, standing
from actors.migration.states import PAST_NO_RETURN, Ruling, State

GUESTS = ("web", "db")
NODES = ("a", "b", "c")
DRIFT = 0.05
DURATION_MS, PAUSE_MS = 2000, 500


class Agent:
    """One node's: `executing` is what its hypervisor really does."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self.rng = name, rng
        self.rate, self.zero = 1 + rng.choice([-DRIFT, 0, DRIFT]), rng.uniform(0, 1e5)
        self.holder = Holder()
        self.executing: set[str] = set()
        self.frozen_until = 0.0
        self.plans: list[tuple[float, int, str]] = []

    def clock(self, true_ms: float) -> float:
        return self.zero + self.rate * true_ms

    def holds(self, true_ms: float) -> bool:
        return self.holder.hold(self.clock(true_ms)) is Hold.RUN

    def keep(self, true_ms: float) -> None:
        """The keeper: within `PAUSE_MS` of its time nothing executes any more, whatever became of the agent."""
        begins = self.holder.pause_at_ms()
        if begins is None or self.clock(true_ms) >= begins + PAUSE_MS * 0.9:
            self.executing.clear()


class Cluster:
    """One log, one book per node, and true time in steps of 25 ms."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.state = ControlState()
        self.agents = {name: Agent(name, self.rng) for name in NODES}
        self.books = {name: Book() for name in NODES}
        self.cut: dict[str, float] = dict.fromkeys(NODES, 0.0)
        self.true_ms, self.jobs = 0.0, 0
        self.counts: dict[str, int] = {}
        for name in NODES:
            self.ask(JoinNode(node=name, site="x", speaks=VERSION))
        self.ask(Upgrade(to=VERSION))
        terms = {"duration_ms": DURATION_MS, "pause_ms": PAUSE_MS, "drift_ppm": int(DRIFT * 1e6)}
        self.ask(SetTerms(after=1, takeover="lease", **terms))
        for guest in GUESTS:
            self.ask(DefineGuest(guest=guest, definition="<domain/>"))

    def ask(self, command, by="operator:ann"):
        applied = apply(self.state, self.state.applied + 1, seal(command, by=by))
        assert faults(self.state) == []
        for name, book in self.books.items():
            for event in applied.events:
                book.applied(event, self.agents[name].clock(self.true_ms))
        if applied.result.accepted:
            kind = type(command).__name__
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return applied.result

    def step(self) -> None:
        self.true_ms += 25
        for agent in self.agents.values():
            agent.keep(self.true_ms)
            if self.rng.random() < 0.002:
                self.cut[agent.name] = self.true_ms + self.rng.uniform(100, 8000)
            if self.rng.random() < 0.002:
                agent.frozen_until = self.true_ms + self.rng.uniform(100, 6000)
            if self.true_ms >= max(self.cut[agent.name], agent.frozen_until):
                self.turn(agent)
        self.lead()
        self.check()

    # -- an agent's turn ----------------------------------------------------------------------------------------------

    def turn(self, agent: Agent) -> None:
        now, lease = agent.clock(self.true_ms), self.state.leases.get(agent.name)
        if lease is None or lease.state is not LeaseState.ACTIVE or lease.number != agent.holder.number:
            agent.holder.lost()
            after = lease.number if lease else 0
            agent.holder.acquiring(after, now)
            if self.ask(
                AcquireLease(node=agent.name, after=after, boot="b", terms=2), by=f"node:{agent.name}"
            ).accepted:
                agent.holder.acquired(after, self.state.leases[agent.name])
        elif self.rng.random() < 0.1:
            renewal = agent.holder.renewing(now)
            command = RenewLease(node=agent.name, number=lease.number, renewal=renewal, terms=2)
            if self.ask(command, by=f"node:{agent.name}").accepted and self.rng.random() < 0.7:
                agent.holder.renewed(self.state.leases[agent.name])
        self.act_on_what_was_read(agent)
        if agent.holds(self.true_ms) and self.rng.random() < 0.3:
            guest = self.rng.choice(GUESTS)
            found = standing(self.state, guest, agent.name)
            if found.right is Right.RUN:
                # What was read is acted on later: only the lease under which it was read makes that safe.
                agent.plans.append((self.true_ms + self.rng.uniform(0, 600), agent.holder.number, guest))
            elif found.right is Right.NONE:
                agent.executing.discard(guest)
        guest = self.rng.choice(GUESTS)
        if guest in agent.executing and not self.state.guests[guest].job and self.rng.random() < 0.02:
            agent.executing.discard(guest)
            agent.plans = [plan for plan in agent.plans if plan[2] != guest]
            self.ask(StopGuest(guest=guest, epoch=self.state.guests[guest].epoch), by=f"node:{agent.name}")

    def act_on_what_was_read(self, agent: Agent) -> None:
        for plan in [plan for plan in agent.plans if plan[0] <= self.true_ms]:
            agent.plans.remove(plan)
            _, lease, guest = plan
            if agent.holds(self.true_ms) and agent.holder.number == lease:
                agent.executing.add(guest)

    # -- whoever leads ------------------------------------------------------------------------------------------------

    def lead(self) -> None:
        leader = self.rng.choice(NODES)
        for command in self.books[leader].due(self.agents[leader].clock(self.true_ms)):
            self.ask(command, by=f"member:{leader}")
        if self.rng.random() > 0.2:
            return
        name = self.rng.choice(GUESTS)
        guest, node = self.state.guests[name], self.rng.choice(NODES)
        if guest.job:
            self.drive(name)
        elif guest.run is Run.STOPPED:
            self.ask(StartGuest(guest=name, node=node, epoch=guest.epoch))
        elif self.rng.random() < 0.5:
            self.jobs += 1
            self.ask(BeginMove(job=f"m-{self.jobs}", guest=name, target=node, epoch=guest.epoch))
        self.ask(FailOver(guest=name, to=node, epoch=self.state.guests[name].epoch))

    def drive(self, guest: str) -> None:
        job = self.state.jobs[self.state.guests[guest].job]
        source, target = self.agents[job.source], self.agents[job.target]
        following = {State.BEGIN: State.PREPARE, State.PREPARE: State.PERFORM, State.PERFORM: State.SWITCHOVER}
        if job.state in following and self.rng.random() < 0.8:
            if job.state is State.BEGIN:
                # The source's agent freezes the guest: what it read of it before counts no more.
                source.plans = [plan for plan in source.plans if plan[2] != guest]
            self.ask(AdvanceMove(job=job.id, state=following[job.state]))
        elif job.state in PAST_NO_RETURN:
            self.ask(AdvanceMove(job=job.id, state=State.CONFIRM))
            self.ask(EndMove(job=job.id, state=State.COMPLETED))
        elif job.started and self.rng.random() < 0.6:
            if guest in source.executing and source.holds(self.true_ms) and target.holds(self.true_ms):
                # libvirt hands over: never both, and from now on only the target (V2).
                source.executing.discard(guest)
                target.executing.add(guest)
            if guest in target.executing:
                self.ask(CommitMove(job=job.id))
        elif guest not in target.executing:
            self.ask(AdvanceMove(job=job.id, state=State.ROLLING_BACK))
            self.ask(EndMove(job=job.id, state=State.FAILED, ruling=Ruling.SOURCE_KEEPS))

    def check(self) -> None:
        for guest in GUESTS:
            where = [name for name, agent in self.agents.items() if guest in agent.executing]
            assert len(where) <= 1, f"{guest} executes on {where} at {self.true_ms} (V1)"


def test_no_guest_ever_executes_twice():
    happened: set[str] = set()
    for seed in range(5):
        cluster = Cluster(seed)
        for _ in range(2400):
            cluster.step()
        happened |= cluster.counts.keys()
    assert happened >= {"ExpireLease", "FailOver", "CommitMove", "EndMove", "StopGuest", "StartGuest", "RenewLease"}


def test_a_failover_that_does_not_wait_for_the_lease_is_found(monkeypatch):
    monkeypatch.setattr(guest_rules, "held_by", lambda state, guest: [])
    with pytest.raises(AssertionError, match="V1"):
        for seed in range(20):
            cluster = Cluster(seed)
            for _ in range(1200):
                cluster.step()
