"""Switches between Raft and BFT under the simulator, with members that lie in BFT's parts of the log."""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from actors.consensus.bft.messages import Install as BftInstall
from actors.consensus.chain import RULES, Chain, ChainReady, Cores, Protocol, Rules
from actors.consensus.raft import Config
from actors.consensus.raft.messages import Install as RaftInstall
from actors.consensus.ready import Evidence, HardState, Kind, Member, Membership, Ready, Snapshot
from actors.consensus.storage import MemoryStorage
from benchmarks.agreeing.bft import SETTINGS, MacKeys, lasting, unsettled
from benchmarks.agreeing.checks import Asked, Broken, Ledger
from benchmarks.agreeing.disk import Disk, Volume
from benchmarks.agreeing.lying.chained import ChainLiar
from benchmarks.agreeing.lying.lies import LIES
from benchmarks.agreeing.lying.twin import digest_of
from benchmarks.agreeing.raft import Checks, has_entry

if TYPE_CHECKING:
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World

KINDS = tuple(kind for kind in LIES if kind != "burial")
"""What liars do in BFT's parts; two cores under one name, or an old disk, would lie in Raft's too."""


class SwitchMode:
    """One run's group. With which protocol it begins, and who lies, the seed says."""

    faults: tuple[str, ...] = ("blink", "members", "switch", "switch")

    def __init__(self, ledger: Ledger, seed: int, rules: Rules = RULES) -> None:
        chance = Random(seed)
        self._config = Config(
            election_ticks=10,
            heartbeat_ticks=2,
            drift_pct=20,
            snapshot_ticks=20,
            append_entries=chance.choice((1, 2, 8)),
            inflight=chance.choice((1, 4)),
        )
        self._first = chance.choice((Protocol.RAFT, Protocol.BFT))
        self._joins = chance
        self._ledger, self._rules = ledger, rules
        self.liars: tuple[Member, ...] = ()
        self.lies: dict[Member, tuple[str, ...]] = {}
        self.begun: dict[int, tuple[Protocol, Snapshot]] = {}
        """By part, as the first member that began it did."""
        self._checks: dict[int, Checks] = {}
        self._accused: dict[int, set[Member]] = {}
        self._part_of: dict[int, int] = {}
        self._asked = Asked()
        self._checked = ledger.base

    @property
    def elections(self) -> int:
        """How many leaders Raft's parts had."""
        return sum(checks.elections for checks in self._checks.values())

    def _checks_of(self, part: int) -> Checks:
        def has(host: Any, index: int, term: int | None) -> bool:
            volume = host.disk.volumes.get(part)
            return host.disk.part > part or (volume is not None and has_entry(volume.storage, index, term))

        return self._checks.setdefault(part, Checks(self._ledger, has))

    def found(self, members: int, chance: Random) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
        """See `Mode`: up to f lie in groups of 4 and 7, in half of the runs."""
        size = chance.choice((4, 4, 4, 7)) if chance.random() < 0.7 else max(members, 2)
        lying = 0 if size < 4 or chance.random() < 0.5 else (size - 1) // 3
        voters = tuple(range(1, size + 1))
        self.liars = tuple(sorted(chance.sample(voters, lying)))
        for liar in self.liars:
            told = tuple(kind for kind in KINDS if chance.random() < 0.25)
            self.lies[liar] = told or (chance.choice(KINDS),)
        return voters, self.liars

    def liar(self, member: Member, world: "World", founders: Membership, chance: Random) -> ChainLiar:
        """See `Mode`."""
        return ChainLiar(member, world, self.founder(founders), chance, self.lies[member])

    def founder(self, founders: Membership) -> Disk:
        """See `Mode`; its snapshot can be handed to a member that joins with nothing."""
        begins = Snapshot(index=1, term=0, membership=founders, digest=digest_of({}))
        return Disk(Volume(MemoryStorage.loaded(HardState(), begins, ()), self._first, {}))

    def joiner(self, world: "World") -> Disk:
        """See `Mode`: an empty log of the newest part where that is Raft's, as operators add members; or a copy of the
        newest snapshot of whoever is furthest."""
        disks = [node.disk for node in world.nodes.values()]
        disk = max(disks, key=lambda disk: (disk.part, disk.storage.snapshot().index))
        if disk.volumes[disk.part].protocol is Protocol.RAFT and self._joins.random() < 0.5:
            return Disk(Volume(MemoryStorage(), Protocol.RAFT, {}), disk.part)
        storage, snapshot = MemoryStorage(), disk.storage.snapshot()
        storage.write(Ready(snapshot=snapshot, hard_state=HardState(term=snapshot.term, commit=snapshot.index)))
        return Disk(Volume(storage, disk.volumes[disk.part].protocol, dict(disk.image)), disk.part)

    def make(self, me: Member, disk: Disk, seed: int) -> Chain:
        """See `Mode`."""
        for checks in self._checks.values():
            checks.seen.pop(me, None)
        cores = Cores(me, self._config, SETTINGS, MacKeys(me), seed)
        return Chain(disk, cores, disk.storage.snapshot().index, self._rules)

    def compacts(self, core: Chain) -> bool:
        """See `Mode`: a part's `SWITCH` must stay, and BFT's parts are compacted when a quorum agrees."""
        return core.protocol is Protocol.RAFT and not core.sealed

    def snapshot_in(self, message: Any) -> Snapshot | None:
        """See `Mode`."""
        said = message.message
        return said.snapshot if isinstance(said, RaftInstall | BftInstall) else None

    def leads(self, core: Any) -> bool:
        """See `Mode`."""
        if core.sealed:
            return False
        return bool(core.core.leads if core.protocol is Protocol.RAFT else core.leader == core.me)

    def has_lease(self, core: Any) -> bool:
        """See `Mode`."""
        return bool(core.protocol is Protocol.RAFT and not core.sealed and core.core.has_lease)

    def digest(self, state: dict[int, int]) -> bytes:
        """See `Mode`."""
        return digest_of(state)

    def change(self, membership: Membership) -> tuple[bytes, Kind]:
        """See `Mode`."""
        return msgspec.msgpack.encode(membership), Kind.MEMBERSHIP

    def proposers(self, world: "World", leader: "Node") -> "list[Node]":
        """See `Mode`: in BFT f + 1 must ask, so everybody does."""
        if leader.core.protocol is Protocol.RAFT:
            return [leader]
        return [node for node in world.nodes.values() if node.core is not None]

    def may_change(self, membership: Membership) -> bool:
        """See `Mode`: no more may lie than are allowed for."""
        return len(set(self.liars) & set(membership.voters)) <= self._rules.bft.liars(len(membership.voters))

    def after_step(self, node: "Node") -> None:
        """See `Mode`."""
        chain = node.core
        if chain.protocol is Protocol.RAFT:
            self._checks_of(chain.part).after_step(node, chain.core)
        else:
            self._ledger.top = max(self._ledger.top, lasting(node))

    def unwritten(self, node: "Node", ready: ChainReady) -> None:
        """A part begins the same for all, on a `SWITCH` that was committed; besides what holds of its protocol."""
        if ready.begins is not None:
            self._begins(node, ready.part, ready.begins, ready.snapshot)
        elif ready.part == node.core.part:
            if node.core.protocol is Protocol.RAFT:
                self._checks_of(ready.part).unwritten(node, node.core.core, ready)
            elif ready.snapshot is not None and ready.snapshot.index > self._ledger.last:
                raise Broken("agreement", f"{node.me} takes over a state that nobody has: {ready.snapshot.index}")

    def _begins(self, node: "Node", part: int, protocol: Protocol, snapshot: Snapshot | None) -> None:
        assert snapshot is not None, "a part that begins on nothing"
        node.world.note("begins", node.me, part, protocol.name, snapshot)
        index = snapshot.index
        if index > self._ledger.last or self._ledger.entry(index).kind is not Kind.SWITCH:
            raise Broken("a part begins on a committed SWITCH", f"{node.me} begins part {part} at {index}")
        first = self.begun.setdefault(part, (protocol, snapshot))
        if first != (protocol, snapshot):
            raise Broken("a part begins the same for all", f"{node.me} begins with {snapshot}, another with {first}")
        self._checks_of(part - 1).end = index

    def done(self, node: "Node", ready: ChainReady) -> None:
        """Each entry was committed in one part, was asked for, and is there once; only liars are accused."""
        for evidence in ready.evidence:
            self._blame(evidence, ready.part)
        for entry in ready.committed:
            part = self._part_of.setdefault(entry.index, ready.part)
            if part != ready.part:
                raise Broken("one part for an entry", f"{node.me} has {entry} in {ready.part}, another in {part}")
        while self._checked < self._ledger.last:
            self._checked += 1
            entry = self._ledger.entry(self._checked)
            self._asked.check(node.world, entry)
            if entry.kind is Kind.EVIDENCE:
                self._blame(msgspec.msgpack.decode(entry.payload, type=Evidence), self._part_of[entry.index])

    def _blame(self, evidence: Evidence, part: int) -> None:
        if evidence.member not in self.liars:
            raise Broken("only liars are accused", f"{evidence.member}: {evidence.kind}")
        self._accused.setdefault(part, set()).add(evidence.member)

    def unsettled(self, world: "World") -> str:
        """See `Mode`: in a part of BFT liars are excluded; everybody gets to the last part, and old ones are let go."""
        chains: list[Chain] = [node.core for node in world.nodes.values() if node.core is not None]
        newest = max(chain.part for chain in chains)
        there = [chain for chain in chains if chain.part == newest and not chain.sealed]
        members = {m for chain in there for m in chain.membership.voters + chain.membership.learners}
        late = members - {chain.me for chain in there} - set(self.liars)
        if late or not there:
            return f"{sorted(late)} are not in part {newest}"
        if not self.liars and any(len(world.nodes[m].disk.volumes) > 1 for m in members):
            return f"old parts are kept: {[sorted(node.disk.volumes) for node in world.nodes.values()]}"
        if there[0].protocol is Protocol.RAFT:
            return ""
        cores: list[Any] = [chain.core for chain in there]
        return unsettled(cores, self._accused.get(newest, set()))
