"""A member's host: the shell around a core, its disk, its clock and its state machine."""

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from actors.consensus.chain import ChainReady, Protocol
from actors.consensus.ready import Accepted, Entry, Kind, Member, Ready, Snapshot
from benchmarks.agreeing.checks import Broken
from benchmarks.agreeing.disk import Disk, State
from benchmarks.agreeing.history import Fate, Operation
from benchmarks.agreeing.machine import Machine, What, encode
from benchmarks.agreeing.mode import AnyCore

if TYPE_CHECKING:
    from benchmarks.agreeing.world import World

TICK_US = 10_000
"""A tick of the slowest clock."""


def part_of(ready: Ready[Any]) -> int:
    """The part of the log that a core asks to write to: 0 if there is but one."""
    return ready.part if isinstance(ready, ChainReady) else 0


def begins(ready: Ready[Any]) -> Protocol | None:
    """What a new part is agreed on with; None: no part begins."""
    return ready.begins if isinstance(ready, ChainReady) else None


class Node:
    """One member. `core` is None while it is down; `life` counts its starts: what an earlier one began is void."""

    def __init__(self, me: Member, world: "World", disk: Disk, chance: Random, tick_us: int) -> None:
        self.me, self.world, self.disk, self.chance = me, world, disk, chance
        self.tick_us = tick_us
        self.core: AnyCore = None
        self.life = 0
        self.machine = Machine({}, 0)
        self._writes: dict[int | bytes, tuple[int, Operation]] = {}
        self._reads: dict[bytes, Operation] = {}
        self._answers: list[tuple[int, Operation]] = []
        self._images: dict[tuple[int, bytes], State] = {}
        self._stable: Snapshot | None = None

    def start(self) -> None:
        """Start from what is on the disk."""
        assert self.core is None, "it is up"
        self.disk.recover()
        self.life += 1
        base = self.disk.storage.snapshot().index
        self.machine = Machine(self.disk.image, base)
        self.core = self.world.mode.make(self.me, self.disk, self.chance.getrandbits(64))
        self.world.schedule.after(self.chance.randrange(self.tick_us), self._tick, self.life)
        self.world.note("start", self.me)

    def crash(self) -> None:
        """Stop at once; whoever asked something here gets no answer."""
        self.world.note("crash", self.me)
        self.core = None
        self.disk.crash(self.chance)
        self._writes, self._reads, self._answers, self._images, self._stable = {}, {}, [], {}, None

    def _tick(self, life: int) -> None:
        if life != self.life or self.core is None:
            return
        self.world.schedule.after(self.tick_us, self._tick, life)
        self.core.tick()
        self.pump()

    def receive(self, sender: Member, message: Any) -> None:
        """A message has come; the bytes of a snapshot come with it."""
        if self.core is None:
            return
        message, snapshot, image = message
        if snapshot is not None:
            if snapshot.digest != self.world.mode.digest(image):
                return
            self._images[snapshot.index, snapshot.digest] = image
        self.core.step(sender, message)
        self.pump()

    def ask(self, operation: Operation) -> Member | None:
        """A client's operation arrives. None: taken; else who leads, as far as known here (0: nobody)."""
        if self.core is None:
            return 0
        if operation.what is What.GET:
            context = operation.number.to_bytes(4)
            operation.floor = self.world.ledger.top
            refused = self.core.read(context)
            if refused is None:
                self._reads[context] = operation
        else:
            payload = encode(operation.command())
            answer = self.core.propose(payload)
            refused = None if isinstance(answer, Accepted) else answer
            if isinstance(answer, Accepted):
                self._writes[answer.index or payload] = (answer.term, operation)
        if refused is not None:
            return int(refused.leader)
        self.pump()
        return None

    def propose(self, payload: bytes, kind: Kind) -> bool:
        """Propose something that no client waits for; whether it was taken."""
        taken = self.core is not None and isinstance(self.core.propose(payload, kind), Accepted)
        self.pump()
        return taken

    def pump(self) -> None:
        """Do what the core asks for, until it asks for nothing or the disk is busy."""
        world = self.world
        if self.core is None:
            return
        world.mode.after_step(self)
        while not self.disk.busy:
            ready = self.core.ready()
            if ready is None:
                self._compact()
                return
            if begins(ready) is not None:
                ready = self._prepare(ready)
            self._send(ready.at_once)
            if ready.writes:
                world.mode.unwritten(self, ready)
                image = None if ready.snapshot is None else self._images[ready.snapshot.index, ready.snapshot.digest]
                self.disk.begin(ready, image, part_of(ready), begins(ready))
                writes = 1 if begins(ready) is None else self.chance.choice((1, 20))  # A whole state may take long.
                world.schedule.after(writes * world.plan.write_us(self.chance), self._written, self.life, ready)
                return
            self._finish(ready)

    def _prepare(self, ready: Any) -> Any:
        """A new part begins on the state as it is now."""
        at, snapshot = self.machine.applied, ready.snapshot
        if at != snapshot.index:
            raise Broken("a part begins where the one before ended", f"{self.me} begins {snapshot} after {at}")
        named = msgspec.structs.replace(snapshot, digest=self.world.mode.digest(self.machine.state))
        self._images[at, named.digest] = dict(self.machine.state)
        return msgspec.structs.replace(ready, snapshot=named)

    def _written(self, life: int, ready: Ready[Any]) -> None:
        if life != self.life or self.core is None:
            return
        self.disk.finish()
        self._finish(ready)
        self.pump()

    def _finish(self, ready: Ready[Any]) -> None:
        if ready.snapshot is not None:
            self.world.note("restore", self.me, ready.snapshot.index)
            index = ready.snapshot.index
            self.machine = Machine(self._images[index, ready.snapshot.digest], index)
            self._images = {at: image for at, image in self._images.items() if at[0] > index}
            self._answer()
        self._send(ready.after_persisting)
        for entry in ready.committed:
            self._apply(entry)
        for read in ready.reads:
            operation = self._reads.pop(read.context, None)
            if operation is not None:
                if read.index < operation.floor:
                    raise Broken("fresh reads", f"{operation} would see {read.index}, {operation.floor} was committed")
                self._answers.append((read.index, operation))
        self._answer()
        if ready.checkpoint:
            digest = self.world.mode.digest(self.machine.state)
            self._images[ready.checkpoint, digest] = dict(self.machine.state)
            self.core.checkpointed(ready.checkpoint, digest)
        if ready.stable is not None:
            self._stable = ready.stable
        if isinstance(ready, ChainReady):
            self.disk.forget(ready.forgets)
        self.core.advance()
        self.world.mode.done(self, ready)
        self.world.mode.after_step(self)

    def _apply(self, entry: Entry) -> None:
        world = self.world
        world.ledger.committed(self.me, entry)
        done = self.machine.apply(entry)
        waiting, placed = self._writes.pop(entry.index, None), True
        if waiting is None:
            waiting, placed = self._writes.pop(entry.payload, None), False
        if waiting is not None and waiting[1].fate is Fate.OPEN:
            term, operation = waiting
            fate = Fate.DONE if term == entry.term or not placed else Fate.LOST
            operation.end(fate, int(done), world.schedule.now_us)
            world.note("answer", self.me, operation)

    def _answer(self) -> None:
        """Answer the reads whose entries are applied."""
        if not self._answers:
            return
        later = []
        for index, operation in self._answers:
            if index > self.machine.applied:
                later.append((index, operation))
            elif operation.fate is Fate.OPEN:
                operation.end(Fate.DONE, self.machine.state.get(operation.key, 0), self.world.schedule.now_us)
                self.world.note("answer", self.me, operation)
        self._answers = later

    def _send(self, sends: Any) -> None:
        world = self.world
        for send in sends:
            snapshot = world.mode.snapshot_in(send.message)
            image = None if snapshot is None else self.disk.image_of(snapshot)
            if world.tracing:
                world.note("send", self.me, send.to, send.message)
            world.network.send(self.me, send.to, (send.message, snapshot, image))

    def _compact(self) -> None:
        """Let a snapshot stand for the log when it is long enough, or when a quorum agrees on one."""
        storage = self.disk.storage
        stable, self._stable = self._stable, None
        if stable is not None and stable.index > storage.snapshot().index:
            self._write_snapshot(stable, self._images[stable.index, stable.digest])
            return
        if not self.world.mode.compacts(self.core):
            return
        applied = self.machine.applied
        if not self.world.plan.compact_after or applied - storage.snapshot().index < self.world.plan.compact_after:
            return
        digest = self.world.mode.digest(self.machine.state)
        snapshot = Snapshot(applied, storage.term(applied), self.core.membership_at(applied), digest)
        self._write_snapshot(snapshot, dict(self.machine.state))

    def _write_snapshot(self, snapshot: Snapshot, image: State) -> None:
        self.world.note("compact", self.me, snapshot.index)
        self.disk.begin(snapshot, image, self.disk.part)
        self.world.schedule.after(self.world.plan.write_us(self.chance), self._compacted, self.life)

    def _compacted(self, life: int) -> None:
        if life != self.life or self.core is None:
            return
        self.disk.finish()
        self.world.snapshots += 1
        self.pump()
