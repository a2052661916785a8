"""Raft under the simulator: what must hold of it (§3.2 of the thesis, figure 3.2)."""

from random import Random
from typing import TYPE_CHECKING, Any

from actors.consensus.raft import Config, Raft
from actors.consensus.raft.members import encode
from actors.consensus.raft.messages import Install
from actors.consensus.raft.rules import RULES, Rules
from actors.consensus.ready import Entry, Kind, Member, Membership, Ready, Snapshot
from actors.consensus.storage import MemoryStorage
from benchmarks.agreeing.checks import Broken, Ledger
from benchmarks.agreeing.disk import State

if TYPE_CHECKING:
    from benchmarks.agreeing.lying.liar import Liar
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World


class RaftMode:
    """One run's Raft group. Its limits are small, so that they are met."""

    compacts_at_will = True
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
        self.elections = 0
        self._ledger, self._rules = ledger, rules
        self._leader_of: dict[int, Member] = {}
        self._written: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._seen: dict[Member, int] = {}

    def make(self, me: Member, storage: MemoryStorage, seed: int, applied: int) -> Raft:
        """See `Mode`."""
        self._seen.pop(me, None)
        return Raft(me, storage, self._config, seed, applied, self._rules)

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

    def trusts(self, founders: Membership) -> Membership | None:  # noqa: ARG002
        """See `Mode`: it is told by the leader."""
        return None

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

    def after_step(self, node: "Node") -> None:
        """One leader of a term, which has all that is committed; and what it commits is on a majority's disks."""
        core: Raft = node.core
        if not core.leads:
            return
        term, me = core.term, core.me
        first = self._leader_of.setdefault(term, me)
        if first != me:
            raise Broken("one leader of a term", f"{first} and {me} in term {term}")
        if self._seen.get(me) != term:
            self._elected(node)
            self._seen[me] = term
        if core.commit > self._ledger.top:
            self._is_durable(node)
            self._is_alone(node)
            self._ledger.top = core.commit

    def _elected(self, node: "Node") -> None:
        self.elections += 1
        core, last = node.core, self._ledger.last
        node.world.note("leads", core.me, core.term)
        node.world.faults.elected(node)
        if last > node.disk.storage.snapshot().index and core.term_at(last) != self._ledger.entry(last).term:
            raise Broken("a leader has what is committed", f"{core.me} in term {core.term} lacks {last}")

    def _is_durable(self, node: "Node") -> None:
        core, index = node.core, node.core.commit
        term = core.term_at(index)
        voters = core.membership.voters
        copies = [voter for voter in voters if _has(node.world.nodes[voter].disk.storage, index, term)]
        if 2 * len(copies) <= len(voters):
            raise Broken("what is committed is durable", f"{index} of term {term} is on {copies} of {voters}")

    def _is_alone(self, node: "Node") -> None:
        """Nobody else would answer a read by itself, without what was just committed."""
        for other in node.world.nodes.values():
            if other is not node and other.core is not None and other.core.has_lease:
                raise Broken("one lease", f"{other.me} holds one while {node.me} commits {node.core.commit}")

    def unwritten(self, node: "Node", ready: Ready[Any]) -> None:
        """Two logs that have an entry of the same index and term have the same entries up to it."""
        if not ready.entries:
            return
        before = node.core.term_at(ready.entries[0].index - 1)
        for entry in ready.entries:
            ours = self._written.setdefault((entry.index, entry.term), (before, entry))
            if ours[0] != before or (ours[1] is not entry and ours[1] != entry):
                raise Broken("logs match", f"{node.me} writes {entry} after term {before}, another wrote {ours}")
            before = entry.term


def _has(storage: MemoryStorage, index: int, term: int | None) -> bool:
    base = storage.snapshot().index
    return index <= base or (index <= storage.last() and storage.term(index) == term)
