"""One of the cores that a liar runs under its one name (Bano et al.: Twins, 2020), with a disk that never fails."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from actors.consensus.bft import BftCore
from actors.consensus.ready import Send
from actors.consensus.storage import MemoryStorage
from benchmarks.agreeing.disk import State
from benchmarks.agreeing.machine import Machine, encode


def digest_of(state: State) -> bytes:
    """What members compare of a state at a checkpoint."""
    return sha256(encode(sorted(state.items()))).digest()


class Twin:
    """An honest core that need not know of its twin."""

    def __init__(self, make: Callable[[MemoryStorage], BftCore], storage: MemoryStorage, image: State) -> None:
        self.storage = storage
        self.image = image
        self.images: dict[int, State] = {}
        self.machine = Machine(image, storage.snapshot().index)
        self.core = make(storage)
        self._make = make

    def copy(self) -> "Twin":
        """Another one that remembers what is on the disk now."""
        storage = MemoryStorage()
        storage.__dict__.update(self.storage.__dict__, _entries=list(self.storage.__dict__["_entries"]))
        return Twin(self._make, storage, dict(self.image))

    def outgoing(self) -> list[Send[Any]]:
        """Do all that the core asks for; what it wants to send."""
        out: list[Send[Any]] = []
        while (ready := self.core.ready()) is not None:
            self.storage.write(ready)
            if ready.snapshot is not None:
                self.image = dict(self.images[ready.snapshot.index])
                self.machine = Machine(self.image, ready.snapshot.index)
            out += ready.after_persisting
            for entry in ready.committed:
                self.machine.apply(entry)
            if ready.checkpoint:
                self.images[ready.checkpoint] = dict(self.machine.state)
                self.core.checkpointed(ready.checkpoint, digest_of(self.machine.state))
            if ready.stable is not None and ready.stable.index > self.storage.snapshot().index:
                self.storage.compact(ready.stable)
                self.image = self.images[ready.stable.index]
                self.images = {at: image for at, image in self.images.items() if at > ready.stable.index}
            self.core.advance()
        return out
