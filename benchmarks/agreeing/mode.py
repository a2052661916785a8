"""What the simulator needs to know of a protocol: how a core is made, and what must hold of it beyond what all keep."""

from typing import TYPE_CHECKING, Any, Protocol

from actors.consensus.ready import Kind, Member, Membership, Snapshot
from actors.consensus.storage import MemoryStorage

if TYPE_CHECKING:
    from benchmarks.agreeing.node import Node

AnyCore = Any
"""A `Core` of the mode's own messages."""


class Mode(Protocol):
    """One protocol under test."""

    def make(self, me: Member, storage: MemoryStorage, seed: int, applied: int) -> AnyCore:
        """A core as after a start."""

    def snapshot_in(self, message: Any) -> Snapshot | None:
        """The snapshot whose bytes travel with `message`."""

    def leads(self, core: AnyCore) -> bool:
        """Whether the member takes proposals now."""

    def change(self, membership: Membership) -> tuple[bytes, Kind]:
        """What to propose for these members."""

    def after_step(self, node: "Node") -> None:
        """Check what must hold of a member after anything that was done to it.

        Raises:
            Broken: it doesn't.
        """

    def unwritten(self, node: "Node", ready: Any) -> None:
        """Check what a member is about to write.

        Raises:
            Broken: it must not.
        """
