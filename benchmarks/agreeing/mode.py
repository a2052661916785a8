"""What the simulator needs to know of a protocol: how a core is made, and what must hold of it beyond what all keep."""

from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from actors.consensus.ready import Kind, Member, Membership, Snapshot

if TYPE_CHECKING:
    from benchmarks.agreeing.disk import Disk, State
    from benchmarks.agreeing.node import Node
    from benchmarks.agreeing.world import World


class Host(Protocol):
    """A member that lies stands in for a `Node`."""

    def start(self) -> None:
        """Begin."""

    def receive(self, sender: Member, message: Any) -> None:
        """A message has come, with a snapshot and its state if there is one in it."""


AnyCore = Any
"""A `Core` of the mode's own messages."""


class Mode(Protocol):
    """One protocol under test."""

    faults: tuple[str, ...]
    """Faults of every run, besides those of the plan."""

    @property
    def elections(self) -> int:
        """How many leaders there were, or views."""

    def compacts(self, core: AnyCore) -> bool:
        """Whether the member may choose now to compact its log."""

    def make(self, me: Member, disk: "Disk", seed: int) -> AnyCore:
        """A core as after a start."""

    def snapshot_in(self, message: Any) -> Snapshot | None:
        """The snapshot whose bytes travel with `message`."""

    def leads(self, core: AnyCore) -> bool:
        """Whether the member takes proposals now."""

    def has_lease(self, core: AnyCore) -> bool:
        """Whether the member would answer a read by itself now."""

    def found(self, members: int, chance: Random) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
        """The founding members of a run that was planned with so many, and those among them that lie."""

    def liar(self, member: Member, world: "World", founders: Membership, chance: Random) -> "Host":
        """A member that lies."""

    def digest(self, state: "State") -> bytes:
        """What `Snapshot.digest` is of a state."""

    def founder(self, founders: Membership) -> "Disk":
        """A founding member's disk."""

    def joiner(self, world: "World") -> "Disk":
        """The disk of a member that joins later."""

    def proposers(self, world: "World", leader: "Node") -> "list[Node]":
        """Who must propose a change of members for it to come about."""

    def may_change(self, membership: Membership) -> bool:
        """Whether these members are within what the protocol promises."""

    def done(self, node: "Node", ready: Any) -> None:
        """Check what a member has just been handed.

        Raises:
            Broken: it must not have been.
        """

    def unsettled(self, world: "World") -> str:
        """What must still come about after the faults have ended; empty: nothing."""

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
