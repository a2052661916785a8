"""A Raft group in one thread, whose messages arrive when the test says so."""

from collections import deque

from actors.consensus.raft import Config, Message, Raft
from actors.consensus.raft.members import encode
from actors.consensus.ready import Accepted, Entry, Kind, Member, Membership, Read, Snapshot
from actors.consensus.storage import MemoryStorage

CONFIG = Config(snapshot_ticks=20)


class Group:
    """Members 1 to `count`, up. `cut` holds (sender, receiver) pairs that lose everything."""

    def __init__(self, count: int, config: Config = CONFIG) -> None:
        self.config = config
        founders = Membership(tuple(range(1, count + 1)))
        self.storages = {member: MemoryStorage(founders) for member in founders.voters}
        self.cores: dict[Member, Raft] = {}
        self.committed: dict[Member, list[Entry]] = {}
        self.reads: dict[Member, list[Read]] = {}
        self.wire: deque[tuple[Member, Member, Message]] = deque()
        self.cut: set[tuple[Member, Member]] = set()
        for member in founders.voters:
            self.start(member)

    def start(self, member: Member) -> Raft:
        """Start a member from its storage, as after a crash."""
        storage = self.storages.setdefault(member, MemoryStorage())
        core = Raft(member, storage, self.config, seed=member, applied=storage.snapshot().index)
        self.cores[member] = core
        self.committed[member], self.reads[member] = [], []
        return core

    def work(self, member: Member) -> None:
        """Do what one member asks for; its messages lie on the wire then."""
        core = self.cores[member]
        while (ready := core.ready()) is not None:
            self.wire += [(member, send.to, send.message) for send in ready.at_once]
            self.storages[member].write(ready)
            self.wire += [(member, send.to, send.message) for send in ready.after_persisting]
            self.committed[member] += ready.committed
            self.reads[member] += ready.reads
            core.advance()

    def settle(self) -> None:
        """Carry messages until there are none."""
        for member in self.cores:
            self.work(member)
        while self.wire:
            sender, to, message = self.wire.popleft()
            if (sender, to) not in self.cut and to in self.cores:
                self.cores[to].step(sender, message)
                self.work(to)

    def tick(self, times: int = 1, *members: Member) -> None:
        """Let time pass, for some or for all, and settle after each tick."""
        for _ in range(times):
            for member in members or tuple(self.cores):
                self.cores[member].tick()
            self.settle()

    def elect(self, member: Member) -> Raft:
        """Let `member` be the leader: the others' clocks stand for them to forget the one before, no longer."""
        election = self.config.election_ticks
        for other in self.cores.values():
            if other.me != member and not other.leads:
                for _ in range(election):
                    other.tick()
        for core in self.cores.values():
            core.ready() and core.advance()
        self.wire.clear()
        self.tick(2 * election, member)
        assert self.cores[member].leads, "it was not elected"
        return self.cores[member]

    def isolate(self, member: Member) -> None:
        """Cut a member off."""
        self.cut |= {pair for other in self.cores for pair in ((member, other), (other, member))}

    def change(self, leader: Raft, voters: tuple[Member, ...], learners: tuple[Member, ...] = ()) -> bool:
        """Propose a membership; whether it was taken."""
        taken = leader.propose(encode(Membership(voters, learners)), Kind.MEMBERSHIP)
        return isinstance(taken, Accepted)

    def compact(self, member: Member) -> Snapshot:
        """Let a snapshot stand for all that a member has handed out."""
        storage, index = self.storages[member], self.committed[member][-1].index
        snapshot = Snapshot(index, storage.term(index), self.cores[member].membership_at(index))
        storage.compact(snapshot)
        return snapshot

    def payloads(self, member: Member) -> list[bytes]:
        """The commands that a member was handed."""
        return [entry.payload for entry in self.committed[member] if entry.kind is Kind.COMMAND]
