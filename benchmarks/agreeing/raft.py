"""Raft under the simulator: what must hold of it (§3.2 of the thesis, figure 3.2)."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from actors.consensus.chain import Protocol
from actors.consensus.raft import Config, Raft
from actors.consensus.raft.members import encode
from actors.consensus.raft.messages import Install
from actors.consensus.raft.rules import RULES, Rules
from actors.consensus.ready import Entry, Kind, Member, Membership, Ready, Snapshot
from actors.consensus.storage import MemoryStorage
from benchmarks.agreeing.checks import Broken, Ledger
from benchmarks.agreeing.disk import Disk, State, Volume

if TYPE_CHECKING:
    from benchmarks.agreeing.lying.liar import Liar
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World


class RaftMode:
    """One run's Raft group. Its limits are small, so that they are met."""

    faults: tuple[str, ...] = ()

    def __init__(self, ledger: Ledger, seed: int, rules: Rules = RULES) -> None:
        chance = Random(seed)
        self._config = Config(
            election_ticks=10,
            heartbeat_ticks=2,
            drift_pct=20,
            snapshot_ticks=20,
            append_entries=chance.choice((1, 1, 2, 8)),
            inflight=chance.choice((1, 4)),
        )
        self._rules = rules
        self._checks = Checks(ledger, lambda node, index, term: has_entry(node.disk.storage, index, term))

    @property
    def elections(self) -> int:
        """How many there were."""
        return self._checks.elections

    def compacts(self, core: Raft) -> bool:  # noqa: ARG002
        """See `Mode`."""
        return True

    def make(self, me: Member, disk: Disk, seed: int) -> Raft:
        """See `Mode`."""
        self._checks.seen.pop(me, None)
        return Raft(me, disk.storage, self._config, seed, disk.storage.snapshot().index, self._rules)

    def snapshot_in(self, message: Any) -> Snapshot | None:
        """See `Mode`."""
        return message.snapshot if isinstance(message, Install) else None

    def leads(self, core: Raft) -> bool:
        """See `Mode`."""
        return core.leads

    def found(self, members: int, chance: Random) -> tuple[tuple[Member, ...], tuple[Member, ...]]:  # noqa: ARG002
        """See `Mode`: nobody lies."""
        return tuple(range(1, members + 1)), ()

    def liar(self, member: Member, world: "World", founders: Membership, chance: Random) -> "Liar":
        """See `Mode`."""
        raise NotImplementedError("Raft's members don't lie")

    def digest(self, state: State) -> bytes:  # noqa: ARG002
        """See `Mode`: Raft compares none."""
        return b""

    def founder(self, founders: Membership) -> Disk:
        """See `Mode`."""
        return Disk(Volume(MemoryStorage(founders), Protocol.RAFT, {}))

    def joiner(self, world: "World") -> Disk:  # noqa: ARG002
        """See `Mode`: it is told everything by the leader."""
        return Disk(Volume(MemoryStorage(), Protocol.RAFT, {}))

    def proposers(self, world: "World", leader: "Node") -> "list[Node]":  # noqa: ARG002
        """See `Mode`."""
        return [leader]

    def may_change(self, membership: Membership) -> bool:  # noqa: ARG002
        """See `Mode`."""
        return True

    def done(self, node: "Node", ready: Ready[Any]) -> None:
        """See `Mode`."""

    def unsettled(self, world: "World") -> str:  # noqa: ARG002
        """See `Mode`."""
        return ""

    def change(self, membership: Membership) -> tuple[bytes, Kind]:
        """See `Mode`."""
        return encode(membership), Kind.MEMBERSHIP

    def has_lease(self, core: Raft) -> bool:
        """See `Mode`."""
        return core.has_lease

    def after_step(self, node: "Node") -> None:
        """See `Mode`."""
        self._checks.after_step(node, node.core)

    def unwritten(self, node: "Node", ready: Ready[Any]) -> None:
        """See `Mode`."""
        self._checks.unwritten(node, node.core, ready)


class Checks:
    """What must hold of the Raft cores that agree on one log, or on one part of it.

    `has(node, index, term)`: whether that entry is on the node's disk, or stands committed in what it has there.
    """

    def __init__(self, ledger: Ledger, has: "Has") -> None:
        self.elections = 0
        self.end = 0
        """Where the part ends, once that is known; other cores lead the log after it."""
        self.seen: dict[Member, int] = {}
        self._ledger, self._has = ledger, has
        self._leader_of: dict[int, Member] = {}
        self._written: dict[tuple[int, int], tuple[int | None, Entry]] = {}

    def after_step(self, node: "Node", core: Raft) -> None:
        """One leader of a term, which has all that is committed; and what it commits is on a majority's disks."""
        if not core.leads:
            return
        term, me = core.term, core.me
        first = self._leader_of.setdefault(term, me)
        if first != me:
            raise Broken("one leader of a term", f"{first} and {me} in term {term}")
        if self.seen.get(me) != term:
            self._elected(node, core)
            self.seen[me] = term
        if node.core.commit > self._ledger.top:
            self._is_durable(node, core)
            self._is_alone(node)
            self._ledger.top = node.core.commit

    def _elected(self, node: "Node", core: Raft) -> None:
        self.elections += 1
        last = min(self._ledger.last, self.end or self._ledger.last)
        node.world.note("leads", core.me, core.term)
        node.world.faults.elected(node)
        if last > node.disk.storage.snapshot().index and core.term_at(last) != self._ledger.entry(last).term:
            raise Broken("a leader has what is committed", f"{core.me} in term {core.term} lacks {last}")

    def _is_durable(self, node: "Node", core: Raft) -> None:
        index, voters = node.core.commit, core.membership.voters
        term = core.term_at(index)
        hosts = {voter: node.world.nodes.get(voter) or node.world.liars[voter] for voter in voters}
        copies = [voter for voter in voters if self._has(hosts[voter], index, term)]
        if 2 * len(copies) <= len(voters):
            raise Broken("what is committed is durable", f"{index} of term {term} is on {copies} of {voters}")

    def _is_alone(self, node: "Node") -> None:
        """Nobody else would answer a read by itself, without what was just committed."""
        for other in node.world.nodes.values():
            if other is not node and other.core is not None and node.world.mode.has_lease(other.core):
                raise Broken("one lease", f"{other.me} holds one while {node.me} commits {node.core.commit}")

    def unwritten(self, node: "Node", core: Raft, ready: Ready[Any]) -> None:
        """Two logs that have an entry of the same index and term have the same entries up to it."""
        if not ready.entries:
            return
        before: int | None = core.term_at(ready.entries[0].index - 1)
        for entry in ready.entries:
            ours = self._written.setdefault((entry.index, entry.term), (before, entry))
            if ours[0] != before or (ours[1] is not entry and ours[1] != entry):
                raise Broken("logs match", f"{node.me} writes {entry} after term {before}, another wrote {ours}")
            before = entry.term


Has = Callable[[Any, int, int | None], bool]


def has_entry(storage: MemoryStorage, index: int, term: int | None) -> bool:
    """Whether `storage` has that entry, or a snapshot of what comes after it."""
    base = storage.snapshot().index
    return index <= base or (index <= storage.last() and storage.term(index) == term)
