"""What goes wrong, drawn one after the other from the plan's kinds, and how it is made good."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from actors.consensus.chain import Protocol, switch_to
from actors.consensus.ready import Kind, Membership
from benchmarks.agreeing.machine import What

if TYPE_CHECKING:
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World

_MEMBERS_MAX = 6
_EVEN = 4


class Faults:
    """The adversary of one run."""

    def __init__(self, world: "World", chance: Random) -> None:
        self.world, self.chance = world, chance
        self.done: dict[str, int] = {}
        self._plotted = 0
        self._ways: dict[str, Callable[[], None]] = {
            "isolate": lambda: self._isolate(self._anybody()),
            "isolate-leader": lambda: self._isolate(self._leader()),
            "one-way": self._one_way,
            "pair": self._pair,
            "split": self._split,
            "crash": lambda: self._crash(self._anybody()),
            "crash-leader": lambda: self._crash(self._leader()),
            "crash-all": self._crash_all,
            "blink": self._blink,
            "coup": self._plot,
            "members": self._members,
            "transfer": self._transfer,
            "switch": self._switch,
        }

    def begin(self) -> None:
        """Do something bad, or make something good, and come again until the world heals."""
        world, plan = self.world, self.world.plan
        if world.healed_us:
            return
        world.schedule.after(int(plan.fault_us * (0.5 + self.chance.random())), self.begin)
        draw = self.chance.random()
        if draw < 0.25:
            world.network.mend()
            world.note("mend")
        elif draw < 0.5 or not plan.faults:
            for node in self._down():
                node.start()
        else:
            fault = self.chance.choice(plan.faults)
            self.done[fault] = self.done.get(fault, 0) + 1
            world.note("fault", fault)
            self._ways[fault]()

    def elected(self, node: "Node") -> None:
        """A member has just begun to lead: the moment to ask one that believes to lead still, and for a coup."""
        for other in self.world.nodes.values():
            if other is not node and other.core is not None and self.world.mode.leads(other.core):
                self.world.schedule.after(self.chance.randrange(30_000), self._ask, other)
        if self._plotted:
            self._plotted -= 1
            if "members" in self.world.plan.faults:
                # Before anything of its term is committed, and so that not everybody hears of it.
                self.world.schedule.after(self.chance.randrange(2_000), self._change, node, self._one_voter)
                if self.chance.random() < 0.7:
                    self._part(node, self._anybody())
            delay_us = self.chance.randrange(self.chance.choice((2_000, 20_000, 60_000)))
            self.world.schedule.after(delay_us, self._coup, node)

    def _ask(self, node: "Node") -> None:
        key = self.chance.randrange(self.world.plan.keys)
        node.ask(self.world.operation(0, What.GET, key, 0))

    def heal(self) -> None:
        """Make everything good."""
        self._plotted = 0
        self.world.network.mend()
        for node in self._down():
            node.start()

    def _anybody(self) -> "Node":
        return self.world.nodes[self.chance.choice(list(self.world.nodes))]

    def _leader(self) -> "Node":
        return self.world.leader() or self._anybody()

    def _down(self) -> "list[Node]":
        return [node for node in self.world.nodes.values() if node.core is None]

    def _isolate(self, *nodes: "Node") -> None:
        ours = [node.me for node in nodes]
        theirs = [member for member in self.world.nodes if member not in ours]
        self.world.network.cut(ours, theirs)
        self.world.network.cut(theirs, ours)

    def _one_way(self) -> None:
        node, everybody = self._leader() if self.chance.random() < 0.5 else self._anybody(), list(self.world.nodes)
        if self.chance.random() < 0.5:
            self.world.network.cut([node.me], everybody)
        else:
            self.world.network.cut(everybody, [node.me])

    def _pair(self) -> None:
        """Two can't hear each other, though others hear both."""
        self._part(self._leader(), self._anybody())

    def _part(self, one: "Node", other: "Node") -> None:
        self.world.network.cut([one.me], [other.me])
        self.world.network.cut([other.me], [one.me])

    def _plot(self) -> None:
        self._plotted = self.chance.choice((1, 4))
        if self.chance.random() < 0.7:
            self._pair()
            self._crash(self._leader())

    def _coup(self, leader: "Node") -> None:
        """Cut off the new leader, or stop it, and start the others anew before they hear of it."""
        if self.world.healed_us:
            return
        if self.chance.random() < 0.8:
            self.world.network.mend()
        if "members" in self.world.plan.faults and self.chance.random() < 0.5:
            self._isolate(leader, self._anybody())
        elif self.chance.random() < 0.7:
            self._isolate(leader)
        else:
            self._crash(leader)
        for node in list(self.world.nodes.values()):
            if node is not leader and node.core is not None and self.chance.random() < 0.5:
                node.crash()
                node.start()

    def _split(self) -> None:
        ours = [member for member in self.world.nodes if self.chance.random() < 0.5]
        theirs = [member for member in self.world.nodes if member not in ours]
        self.world.network.cut(ours, theirs)
        self.world.network.cut(theirs, ours)

    def _crash(self, node: "Node") -> None:
        if node.core is not None:
            node.crash()

    def _blink(self) -> None:
        """Start somebody anew who may have said what the others still know."""
        node = self._leader() if self.chance.random() < 0.5 else self._anybody()
        if node.core is not None:
            node.crash()
            node.start()

    def _crash_all(self) -> None:
        for node in self.world.nodes.values():
            self._crash(node)
        for node in self.world.nodes.values():
            if self.chance.random() < 0.8:
                node.start()

    def _members(self) -> None:
        """Let a leader take in, promote, or take out members; sometimes more at once than it may."""
        for _ in range(self.chance.choice((1, 1, 3))):
            if (leader := self.world.leader()) is not None:
                self._change(leader, self._changed)

    def _change(self, leader: "Node", changed: Callable[[Membership], Membership]) -> None:
        if self.world.healed_us or leader.core is None:
            return
        membership = changed(leader.core.membership)
        if self.world.mode.may_change(membership):
            for node in self.world.mode.proposers(self.world, leader):
                node.propose(*self.world.mode.change(membership))

    def _switch(self) -> None:
        """Let the members go on in the other protocol."""
        leader = self.world.leader()
        if leader is not None:
            other = Protocol.BFT if leader.core.protocol is Protocol.RAFT else Protocol.RAFT
            for node in self.world.mode.proposers(self.world, leader):
                node.propose(switch_to(other), Kind.SWITCH)

    def _one_voter(self, now: Membership) -> Membership:
        """One voter less of four or more, else one more: back to an even number, whose halves need not meet."""
        if len(now.voters) >= _EVEN:
            gone = self.chance.choice(now.voters)
            return Membership(tuple(voter for voter in now.voters if voter != gone), now.learners)
        new = now.learners[0] if now.learners else self.world.joiner().me  # never one that was taken out
        return Membership(tuple(sorted((*now.voters, new))), tuple(each for each in now.learners if each != new))

    def _changed(self, now: Membership) -> Membership:
        everybody = now.voters + now.learners
        draw = self.chance.random()
        if draw < 0.4 and len(everybody) < _MEMBERS_MAX:
            new = self.world.joiner().me
            voters, learners = (now.voters, (*now.learners, new)) if draw < 0.2 else ((*now.voters, new), now.learners)
        elif draw < 0.6 and now.learners:
            voters, learners = (*now.voters, now.learners[0]), now.learners[1:]
        elif len(now.voters) > 1:
            gone = self.chance.choice(now.voters)
            voters, learners = tuple(voter for voter in now.voters if voter != gone), now.learners
        else:
            voters, learners = now.voters, now.learners
        if self.chance.random() < 0.2:
            voters = tuple(member for member in voters if self.chance.random() < 0.5) or voters
        return Membership(tuple(sorted(voters)), tuple(sorted(learners)))

    def _transfer(self) -> None:
        leader = self.world.leader()
        core = None if leader is None else getattr(leader.core, "core", leader.core)
        if leader is not None and (transfer := getattr(core, "transfer", None)) is not None:
            transfer(self.chance.choice(leader.core.membership.voters))
            leader.pump()
            if self.chance.random() < 0.5:
                self.world.schedule.after(self.chance.randrange(10_000), self._cut_off, leader)

    def _cut_off(self, node: "Node") -> None:
        if not self.world.healed_us:
            self._isolate(node)
