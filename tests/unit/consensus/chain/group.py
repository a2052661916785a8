"""Members of a chain on disks that never fail, with a network that the test moves."""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b

from actors.consensus.bft import BftSettings
from actors.consensus.chain import Chain, ChainReady, Cores, Protocol, Rules, Tagged
from actors.consensus.chain.rules import RULES
from actors.consensus.raft import Config
from actors.consensus.ready import Entry, Kind, Member, Membership, Read
from actors.consensus.storage import MemoryStorage


class Macs:
    """Keys that are quick: only who is `me` signs as `me`."""

    def __init__(self, me: Member) -> None:
        self._me = me

    def sign(self, statement: bytes) -> bytes:
        return _mac(self._me, statement)

    def verify(self, member: Member, statement: bytes, signature: bytes) -> bool:
        return _mac(member, statement) == signature


def _mac(member: Member, statement: bytes) -> bytes:
    return blake2b(statement, key=b"%d" % member, digest_size=16).digest()


class Shelf:
    """Parts in memory."""

    def __init__(self, protocol: Protocol, founders: Membership) -> None:
        self.kept = {0: (protocol, MemoryStorage(founders))}

    def parts(self) -> tuple[tuple[int, Protocol], ...]:
        return tuple((part, protocol) for part, (protocol, _) in sorted(self.kept.items()))

    def storage_of(self, part: int) -> MemoryStorage:
        return self.kept[part][1]


class Host:
    """One member's shell. While it is `slow`, its disk is: it ends nothing that hands entries out."""

    def __init__(self, me: Member, protocol: Protocol, founders: Membership, rules: Rules) -> None:
        self.me = me
        self._rules = rules
        self.slow = False
        self._unfinished: ChainReady | None = None
        self.reads: list[Read] = []
        self.shelf = Shelf(protocol, founders)
        self.applied: list[Entry] = []
        self.sent: list[tuple[Member, Tagged]] = []
        self.start()

    def start(self) -> None:
        """As after a crash: only the shelf is left."""
        newest = max(self.shelf.kept)
        self.base = self.shelf.storage_of(newest).snapshot().index
        self.applied = [entry for entry in self.applied if entry.index <= self.base]
        cores = Cores(self.me, Config(), BftSettings(chain=b"test"), Macs(self.me), self.me)
        self.chain = Chain(self.shelf, cores, self.base, self._rules)
        self._unfinished = None

    @property
    def last(self) -> int:
        """Index of the last entry that was applied."""
        return self.applied[-1].index if self.applied else self.base

    def do(self) -> None:
        """All that the chain asks for."""
        while (ready := self._unfinished or self.chain.ready()) is not None:
            if ready is not self._unfinished:
                self.sent += [(send.to, send.message) for send in ready.at_once]
            self._unfinished = ready if self.slow and ready.committed else None
            if self._unfinished:
                return
            self._write(ready)
            self.sent += [(send.to, send.message) for send in ready.after_persisting]
            self.reads += ready.reads
            for entry in ready.committed:
                assert entry.index == self.last + 1, "an entry was skipped or repeated"
                self.applied.append(entry)
            if ready.checkpoint:
                self.chain.checkpointed(ready.checkpoint, b"same")
            self.chain.advance()

    def _write(self, ready: ChainReady) -> None:
        if ready.begins is not None:
            assert ready.snapshot is not None
            assert ready.snapshot.index == self.last
            self.shelf.kept[ready.part] = (ready.begins, MemoryStorage())
        if ready.writes:
            self.shelf.storage_of(ready.part).write(ready)
        for part in ready.forgets:
            del self.shelf.kept[part]


class Group:
    """Founding members 1 to `size`. `lost(sender, to)`: whether a message on that way is lost."""

    def __init__(self, size: int, protocol: Protocol, rules: Rules = RULES) -> None:
        founders = Membership(tuple(range(1, size + 1)))
        self.hosts = {me: Host(me, protocol, founders, rules) for me in founders.voters}
        self.lost: Callable[[Member, Member], bool] = lambda _sender, _to: False

    def settle(self) -> None:
        """Deliver until nothing is on its way."""
        queue: deque[tuple[Member, Member, Tagged]] = deque()
        for _ in range(10_000):
            for me, host in self.hosts.items():
                host.do()
                queue += [(me, to, message) for to, message in host.sent if not self.lost(me, to)]
                host.sent = []
            if not queue:
                return
            sender, to, message = queue.popleft()
            self.hosts[to].chain.step(sender, message)
        raise AssertionError("they never stop talking")

    def until(self, condition: Callable[[], bool], ticks: int = 400) -> None:
        """Let time pass until `condition`."""
        for _ in range(ticks):
            if condition():
                return
            for host in self.hosts.values():
                host.chain.tick()
            self.settle()
        raise AssertionError(f"not within {ticks} ticks")

    def lead(self) -> Host:
        """The member that leads the newest part, once there is one."""
        found: list[Host] = []

        def there_is() -> bool:
            chains = [host.chain for host in self.hosts.values()]
            newest = max(chain.part for chain in chains)
            found[:] = [host for host in self.hosts.values() if _leads(host.chain) and host.chain.part == newest]
            return bool(found)

        self.until(there_is)
        return found[0]

    def propose(self, payload: bytes, kind: Kind = Kind.COMMAND) -> None:
        """Have an entry asked for by whoever must."""
        leader = self.lead()
        everybody = leader.chain.protocol is Protocol.BFT and kind is not Kind.COMMAND
        for host in list(self.hosts.values()) if everybody else [leader]:
            host.chain.propose(payload, kind)
        self.settle()

    def payloads(self, me: Member) -> list[bytes]:
        """The commands that a member has applied since its newest snapshot."""
        return [entry.payload for entry in self.hosts[me].applied if entry.kind is Kind.COMMAND]


def _leads(chain: Chain) -> bool:
    if chain.protocol is Protocol.RAFT:
        return bool(getattr(chain.core, "leads", False))
    return chain.leader == chain.me
