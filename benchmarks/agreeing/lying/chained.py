"""A member of a log that switches protocols, which lies in BFT's parts.

In Raft's it is an honest follower that never stands for election: Raft is for members that trust each other.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from actors.consensus.bft import Notary
from actors.consensus.bft.messages import Accuse
from actors.consensus.chain import Chain, ChainReady, Protocol, Tagged
from actors.consensus.raft.messages import TimeoutNow
from actors.consensus.ready import Member, Snapshot
from benchmarks.agreeing.bft import SETTINGS, MacKeys
from benchmarks.agreeing.disk import Disk, State
from benchmarks.agreeing.lying.liar import BOGUS
from benchmarks.agreeing.lying.lie import Scene
from benchmarks.agreeing.lying.lies import LIES
from benchmarks.agreeing.machine import Machine
from benchmarks.agreeing.node import TICK_US, begins, part_of

if TYPE_CHECKING:
    from benchmarks.agreeing.world import World


class ChainLiar:
    """A chain on a disk that never fails, and what the lies make of what it says."""

    def __init__(self, me: Member, world: "World", disk: Disk, chance: Random, lies: tuple[str, ...]) -> None:
        self.me, self.world, self.disk, self.chance = me, world, disk, chance
        self._kinds = lies
        self._images: dict[int, State] = {}
        self._machine = Machine({}, disk.storage.snapshot().index)
        self._chain: Chain = world.mode.make(me, disk, 0)
        self._set_scene()

    def _set_scene(self) -> None:
        """Each part has its own name, its own members, and nothing that was said in another."""
        part = self._chain.part
        notary = Notary(self.me, MacKeys(self.me), b"%s/%d" % (SETTINGS.chain, part))
        self._scene = Scene(notary, self._chain.membership.voters, self.chance, lambda _victim, _deaf: None)
        self._lies = [LIES[kind](self._scene) for kind in self._kinds]
        self._part = part

    @property
    def _lying(self) -> bool:
        return self._chain.protocol is Protocol.BFT and len(self._scene.others) > 0

    def start(self) -> None:
        """Begin."""
        self.world.schedule.after(self.chance.randrange(TICK_US), self._tick)

    def _tick(self) -> None:
        self.world.schedule.after(TICK_US, self._tick)
        if self._lying:
            self._scene.now += 1
            self._chain.tick()
            for lie in self._lies:
                for to, said in lie.invent():
                    self._send(to, Tagged(self._part, said))
        self._talk()

    def receive(self, sender: Member, message: Any) -> None:
        """A message has come."""
        tagged, snapshot, image = message
        said = tagged.message
        if isinstance(said, Accuse | TimeoutNow):
            return
        if self._lying and tagged.part == self._part and said is not None:
            self._scene.see(said)
            if not all(lie.hears(sender, said) for lie in self._lies):
                return
        if snapshot is not None:
            self._images[snapshot.index] = image
        self._chain.step(sender, tagged)
        self._talk()

    def _talk(self) -> None:
        while (ready := self._chain.ready()) is not None:
            self._do(ready)
            for send in ready.at_once + ready.after_persisting:
                for said in self._distorted(send.to, send.message):
                    self._send(send.to, said)
            self._chain.advance()
            if self._chain.part != self._part:
                self._set_scene()

    def _do(self, ready: ChainReady) -> None:
        """What an honest member's host does with it."""
        if begins(ready) is not None:
            self._images[self._machine.applied] = dict(self._machine.state)
        if ready.writes:
            image = None if ready.snapshot is None else self._images[ready.snapshot.index]
            self.disk.begin(ready, image, part_of(ready), begins(ready))
            self.disk.finish()
        if ready.snapshot is not None:
            self._machine = Machine(self._images[ready.snapshot.index], ready.snapshot.index)
        for entry in ready.committed:
            self._machine.apply(entry)
        if ready.checkpoint:
            self._images[ready.checkpoint] = dict(self._machine.state)
            self._chain.checkpointed(ready.checkpoint, self.world.mode.digest(self._machine.state))
        self._keep(ready.stable)
        self.disk.forget(ready.forgets)

    def _keep(self, stable: Snapshot | None) -> None:
        storage = self.disk.storage
        if stable is not None and stable.index > storage.snapshot().index:
            self.disk.begin(stable, self._images[stable.index], self.disk.part)
            self.disk.finish()
            self._images = {at: image for at, image in self._images.items() if at > stable.index}

    def _distorted(self, to: Member, message: Tagged) -> list[Tagged]:
        if not self._lying or message.part != self._part or message.message is None:
            return [message]
        said = [message.message]
        for lie in self._lies:
            said = [more for one in said for more in lie.distort(to, one)]
        for one in said:
            self._scene.see(one)
        return [Tagged(self._part, one) for one in said]

    def _send(self, to: Member, message: Tagged) -> None:
        snapshot = self.world.mode.snapshot_in(message)
        image = None
        if snapshot is not None:
            image = self.disk.image_of(snapshot)
            if self._lying and self.world.mode.digest(image) != snapshot.digest:
                image = BOGUS
        self.world.network.send(self.me, to, (message, snapshot, image))
