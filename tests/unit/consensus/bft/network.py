"""Members in one process: a keyed stand-in for signatures, a seeded network, disks that survive a crash."""

import hashlib
import itertools
import random
from collections.abc import Callable

from actors.consensus.bft.core import BftCore
from actors.consensus.bft.keys import Keys
from actors.consensus.bft.messages import BftMessage, Install
from actors.consensus.bft.settings import BftSettings
from actors.consensus.ready import Entry, Evidence, Kind, Member, Membership, Read, Ready, Send
from actors.consensus.storage import MemoryStorage

SETTINGS = BftSettings(chain=b"test", batch=8, checkpoint=16, window=64, pending=64, beat=4, timeout=16)


class MacKeys:
    """A keyed digest in place of a signature: who has `member`'s secret can sign, here only `member` does."""

    def __init__(self, me: Member) -> None:
        self.me = me

    def sign(self, statement: bytes) -> bytes:
        return _mac(self.me, statement)

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        return _mac(member, statement) == signature


def _mac(member: Member, statement: bytes) -> bytes:
    return hashlib.blake2b(statement, key=b"secret of %d" % member, digest_size=12).digest()


class Host:
    """One member: its core, its disk, its state machine (the list of what was applied)."""

    def __init__(self, me: Member, membership: Membership, settings: BftSettings, keys: Keys) -> None:
        self.me, self.settings, self.keys = me, settings, keys
        self.storage = MemoryStorage(membership)
        self.snapshots: dict[int, list[Entry]] = {}
        self.evidence: list[Evidence] = []
        self.reads: list[Read] = []
        self.up = False
        self.start()

    def start(self) -> None:
        self.applied = list(self.snapshots.get(self.storage.snapshot().index, []))
        self.core = BftCore(self.me, self.keys, self.storage, self.settings)
        self.up = True

    @property
    def commands(self) -> list[bytes]:
        return [entry.payload for entry in self.applied if entry.kind is Kind.COMMAND]

    def digest(self) -> bytes:
        return hashlib.sha256(repr([(e.index, e.kind, e.payload) for e in self.applied]).encode()).digest()


class Network:
    """Delivers what members send after a few ticks, by `seed`; `drops` says what is lost."""

    def __init__(
        self,
        voters: int = 4,
        seed: int = 0,
        settings: BftSettings = SETTINGS,
        extra: int = 0,
        keys: Callable[[Member], Keys] = MacKeys,
    ) -> None:
        self.chance = random.Random(seed)
        self.membership = Membership(tuple(range(1, voters + 1)))
        self.hosts = {me: Host(me, self.membership, settings, keys(me)) for me in range(1, voters + extra + 1)}
        self.wire: dict[int, list[tuple[Member, Member, BftMessage]]] = {}
        self.drops: Callable[[Member, Member, BftMessage], bool] = lambda sender, to, message: False
        self.slowest = 3
        self.now = 0

    def __getitem__(self, member: Member) -> Host:
        return self.hosts[member]

    def send(self, sender: Member, sends: tuple[Send[BftMessage], ...]) -> None:
        for out in sends:
            at = self.now + self.chance.randint(1, self.slowest)
            self.wire.setdefault(at, []).append((sender, out.to, out.message))

    def tick(self) -> None:
        self.now += 1
        for sender, to, message in self.wire.pop(self.now, []):
            host = self.hosts.get(to)
            if host is None or not host.up or self.drops(sender, to, message):
                continue
            if isinstance(message, Install):
                at = message.snapshot.index
                host.snapshots[at] = self.hosts[sender].snapshots[at]
            host.core.step(sender, message)
        for host in self.hosts.values():
            if host.up:
                host.core.tick()
                self.settle(host)

    def settle(self, host: Host) -> None:
        while (ready := host.core.ready()) is not None:
            self._do(host, ready)
            host.core.advance()

    def _do(self, host: Host, ready: Ready[BftMessage]) -> None:
        host.storage.write(ready)
        if ready.snapshot is not None:
            host.applied = list(host.snapshots[ready.snapshot.index])
        self.send(host.me, ready.at_once + ready.after_persisting)
        host.applied += ready.committed
        host.evidence += ready.evidence
        host.reads += ready.reads
        if ready.checkpoint:
            host.snapshots[ready.checkpoint] = list(host.applied)
            host.core.checkpointed(ready.checkpoint, host.digest())
        if ready.stable is not None:
            host.storage.compact(ready.stable)

    def run(self, until: Callable[[], bool], ticks: int = 2000) -> None:
        for _ in range(ticks):
            if until():
                return
            self.tick()
        assert until(), f"not within {ticks} ticks"

    def agree(self) -> None:
        """Whatever two members have applied is the same."""
        logs = sorted((host.applied for host in self.hosts.values()), key=len)
        for shorter, longer in itertools.pairwise(logs):
            assert [(e.index, e.kind, e.payload) for e in shorter] == [
                (e.index, e.kind, e.payload) for e in longer[: len(shorter)]
            ]

    def crash(self, member: Member) -> None:
        self.hosts[member].up = False

    def restart(self, member: Member) -> None:
        self.hosts[member].start()
