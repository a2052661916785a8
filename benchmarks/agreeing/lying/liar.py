"""A member that lies: it stands in for a `Node`, and no promise is asked of it."""

from random import Random
from typing import TYPE_CHECKING, Any

from actors.consensus.bft import Notary
from actors.consensus.bft.messages import Accuse
from actors.consensus.ready import Member
from benchmarks.agreeing.lying.lie import Scene
from benchmarks.agreeing.lying.lies import LIES
from benchmarks.agreeing.lying.twin import Twin
from benchmarks.agreeing.node import TICK_US

if TYPE_CHECKING:
    from benchmarks.agreeing.world import World

BOGUS = {1_000: 1}
"""The state that a liar makes up."""


class Liar:
    """Cores under one name, each heard and hearing by some members, and what the lies make of it."""

    def __init__(self, me: Member, world: "World", twin: Twin, notary: Notary, chance: Random, lies: tuple[str, ...]):
        voters = twin.core.membership.voters
        self.me, self.world, self.chance = me, world, chance
        self.scene = Scene(notary, voters, chance, self._cut)
        self._lies = [LIES[lie](self.scene) for lie in lies if lie in LIES]
        self._amnesia = "amnesia" in lies
        self._twins = [twin, twin.copy()] if "twins" in lies else [twin]
        self._old = twin.copy()
        self._hears = {other: [*self._twins] for other in self.scene.others}
        self._split()

    def start(self) -> None:
        """Lie from now on."""
        self.world.schedule.after(self.chance.randrange(TICK_US), self._tick)

    def _split(self) -> None:
        """Choose anew which twin talks to whom."""
        for other in self._hears:
            self._hears[other] = [*self._twins]
            if len(self._twins) > 1 and self.chance.random() < 0.8:
                self._hears[other] = [self.chance.choice(self._twins)]

    def _tick(self) -> None:
        self.world.schedule.after(TICK_US, self._tick)
        self.scene.now += 1
        if self.chance.random() < 0.02:
            self._split()
        if self._amnesia and self.chance.random() < 0.02:
            self._forget()
        for twin in self._twins:
            twin.core.tick()
        for lie in self._lies:
            for to, message in lie.invent():
                self._send(to, message)
        self._talk()

    def _cut(self, victim: Member, deaf: bool) -> None:
        if not self.world.healed_us:
            everybody = [*self.world.nodes, *self.world.liars]
            self.world.network.cut([victim], everybody)
            if deaf:
                self.world.network.cut(everybody, [victim])

    def _forget(self) -> None:
        """Go on with an old disk, and keep today's for later."""
        at = self.chance.randrange(len(self._twins))
        twin, self._old = self._old, self._twins[at].copy()
        for other, hears in self._hears.items():
            self._hears[other] = [twin if known is self._twins[at] else known for known in hears]
        self._twins[at] = twin

    def receive(self, sender: Member, message: Any) -> None:
        """A message has come."""
        said, snapshot, image = message
        self.scene.see(said)
        if isinstance(said, Accuse) or not all(lie.hears(sender, said) for lie in self._lies):
            return
        for twin in self._hears.get(sender, self._twins):
            if snapshot is not None:
                twin.images[snapshot.index] = image
            twin.core.step(sender, said)
        self._talk()

    def _talk(self) -> None:
        for twin in self._twins:
            for send in twin.outgoing():
                if send.to in self._hears and twin not in self._hears[send.to]:
                    continue
                messages: list[Any] = [send.message]
                for lie in self._lies:
                    messages = [said for message in messages for said in lie.distort(send.to, message)]
                for message in messages:
                    self.scene.see(message)
                    self._send(send.to, message)

    def _send(self, to: Member, message: Any) -> None:
        snapshot = self.world.mode.snapshot_in(message)
        image = None
        if snapshot is not None:
            image = next((twin.image for twin in self._twins if twin.storage.snapshot() == snapshot), BOGUS)
        self.world.network.send(self.me, to, (message, snapshot, image))
