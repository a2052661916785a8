"""BFT under the simulator: members that lie, and what must hold of the others whatever these do."""

from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from actors.consensus.bft import RULES, BftCore, BftSettings, Notary, Rules
from actors.consensus.bft.messages import Install
from actors.consensus.chain import Protocol
from actors.consensus.ready import Evidence, Kind, Member, Membership, Ready, Snapshot
from actors.consensus.storage import MemoryStorage
from benchmarks.agreeing.checks import Asked, Broken, Ledger
from benchmarks.agreeing.disk import Disk, Volume
from benchmarks.agreeing.lying.liar import Liar
from benchmarks.agreeing.lying.lies import LIES
from benchmarks.agreeing.lying.twin import Twin, digest_of

if TYPE_CHECKING:
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World

SETTINGS = BftSettings(
    chain=b"simulator", beat=3, timeout=8, doublings=1, batch=4, checkpoint=8, window=32, pending=32
)  # Small, so that limits are met.
KINDS = (*LIES, "twins", "amnesia")
"""What liars do, a few of them at once; a burial needs patience and goes alone."""


class MacKeys:
    """Stands in for Ed25519, a hundred times as fast: only who is `me` signs as `me`."""

    def __init__(self, me: Member) -> None:
        self._me = me

    def sign(self, statement: bytes) -> bytes:
        """See `Keys`."""
        return _mac(self._me, statement)

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        """See `Keys`."""
        return _mac(member, statement) == signature


def _mac(member: Member, statement: bytes) -> bytes:
    return blake2b(statement, key=b"secret of %d" % member, digest_size=12).digest()


def lasting(node: "Node") -> int:
    """What `node` knows to be committed for good: a lone voter that falls may forget what is not on its disk yet, and
    has told nobody."""
    alone = len(node.core.membership.voters) == 1
    return node.disk.storage.hard_state().commit if alone else node.core.commit


class BftMode:
    """One run's BFT group. Which members lie, the seed says."""

    faults: tuple[str, ...] = ("blink",)

    def __init__(self, ledger: Ledger, seed: int, rules: Rules = RULES) -> None:  # noqa: ARG002
        self.elections = 0
        self.accused: set[Member] = set()
        self.liars: tuple[Member, ...] = ()
        self.lies: dict[Member, tuple[str, ...]] = {}
        self._ledger, self._rules = ledger, rules
        self._asked = Asked()
        self._checked = ledger.base

    def found(self, members: int, chance: Random) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
        """See `Mode`: 4 or 7 members, of whom f lie in most runs."""
        size = 7 if members == 5 and chance.random() < 0.5 else 4
        lying = chance.choice((1, 1, 1, 0)) if size == 4 else chance.choice((2, 2, 1))
        voters = tuple(chance.sample(range(1, size + 1), size))
        self.liars = tuple(sorted(voters[:lying]))
        for liar in self.liars:
            told = tuple(kind for kind in KINDS if chance.random() < 0.25) or (chance.choice(KINDS),)
            self.lies[liar] = ("burial",) if lying == 1 and chance.random() < 0.2 else told
        return tuple(range(1, size + 1)), self.liars

    def liar(self, member: Member, world: "World", founders: Membership, chance: Random) -> Liar:
        """See `Mode`."""
        twin = Twin(lambda storage: self._core(member, storage), MemoryStorage(founders), {})
        notary = Notary(member, MacKeys(member), SETTINGS.chain)
        return Liar(member, world, twin, notary, chance, self.lies[member])

    def compacts(self, core: BftCore) -> bool:  # noqa: ARG002
        """See `Mode`: only when a quorum agrees."""
        return False

    def make(self, me: Member, disk: Disk, seed: int) -> BftCore:  # noqa: ARG002
        """See `Mode`."""
        return self._core(me, disk.storage)

    def _core(self, me: Member, storage: MemoryStorage) -> BftCore:
        return BftCore(me, MacKeys(me), storage, SETTINGS, self._rules)

    def snapshot_in(self, message: Any) -> Snapshot | None:
        """See `Mode`."""
        return message.snapshot if isinstance(message, Install) else None

    def leads(self, core: BftCore) -> bool:
        """See `Mode`."""
        return core.leader == core.me and not core.sealed

    def has_lease(self, core: BftCore) -> bool:  # noqa: ARG002
        """See `Mode`: there are no leases."""
        return False

    def digest(self, state: dict[int, int]) -> bytes:
        """See `Mode`."""
        return digest_of(state)

    def change(self, membership: Membership) -> tuple[bytes, Kind]:
        """See `Mode`."""
        return msgspec.msgpack.encode(membership), Kind.MEMBERSHIP

    def founder(self, founders: Membership) -> Disk:
        """See `Mode`."""
        return Disk(Volume(MemoryStorage(founders), Protocol.BFT, {}))

    def joiner(self, world: "World") -> Disk:
        """See `Mode`: certificates lead from the founders on."""
        return self.founder(world.founders)

    def proposers(self, world: "World", leader: "Node") -> "list[Node]":  # noqa: ARG002
        """See `Mode`: f + 1 must ask, so everybody does."""
        return [node for node in world.nodes.values() if node.core is not None]

    def may_change(self, membership: Membership) -> bool:
        """See `Mode`: no more may lie than are allowed for."""
        lying = len(set(self.liars) & set(membership.voters))
        return lying <= self._rules.liars(len(membership.voters))

    def after_step(self, node: "Node") -> None:
        """What is committed was asked for, once."""
        self._ledger.top = max(self._ledger.top, lasting(node))
        self.elections = max(self.elections, node.core.term)

    def done(self, node: "Node", ready: Ready[Any]) -> None:
        """Only liars are accused, and a state that is taken over is the right one."""
        for evidence in ready.evidence:
            self._blame(evidence, f"member {node.me} accuses")
        while self._checked < self._ledger.last:
            self._checked += 1
            entry = self._ledger.entry(self._checked)
            self._asked.check(node.world, entry)
            if entry.kind is Kind.EVIDENCE:
                self._blame(msgspec.msgpack.decode(entry.payload, type=Evidence), "an entry excludes")

    def _blame(self, evidence: Evidence, who: str) -> None:
        if evidence.member not in self.liars:
            raise Broken("only liars are accused", f"{who} {evidence.member}: {evidence.kind}")
        self.accused.add(evidence.member)

    def unwritten(self, node: "Node", ready: Ready[Any]) -> None:
        """A snapshot that is taken over stands for what was committed."""
        if ready.snapshot is not None and ready.snapshot.index > self._ledger.last:
            raise Broken("agreement", f"{node.me} takes over a state that nobody has: {ready.snapshot.index}")

    def unsettled(self, world: "World") -> str:
        """See `Mode`: whoever told two members contradicting things is known to have lied."""
        cores = [node.core for node in world.nodes.values() if node.core is not None]
        return unsettled(cores, self.accused)


def unsettled(cores: list[BftCore], accused: set[Member]) -> str:
    """Who contradicted himself as far as `cores` remember, and who of the `accused` is a member still."""
    heard: dict[tuple[Any, ...], bytes] = {}
    for core in cores:
        for claim in core.heard():
            known = heard.setdefault((claim.member, *claim.place), claim.content)
            if known != claim.content and claim.member not in accused:
                return f"{claim.member} contradicted itself at {claim.place}"
    for core in cores:
        left = accused & set(core.membership.voters)
        if left and core.me in core.membership.voters:
            return f"{left} were accused, not excluded, says {core.me}"
    return ""
