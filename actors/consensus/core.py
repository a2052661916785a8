"""The contract of a consensus core: messages, ticks and proposals in, `Ready` out.

The caller is a thin shell that owns disk, network and clock. A core is one object in one thread; it never blocks. What
it is given at construction decides, with its inputs, everything that it does: the same inputs give the same outputs.
"""

from typing import Protocol

from actors.consensus.ready import Accepted, Kind, Member, Membership, Message, Ready, Refused


class Core(Protocol[Message]):
    """One member's side of one protocol (Raft or BFT)."""

    @property
    def me(self) -> Member:
        """This member."""

    @property
    def term(self) -> int:
        """Raft's term or BFT's view."""

    @property
    def leader(self) -> Member:
        """The leader or primary of `term`, as far as this member knows; `NOBODY` if it doesn't."""

    @property
    def membership(self) -> Membership:
        """The members that this member counts with now."""

    def membership_at(self, index: int) -> Membership:
        """The members as of entry `index`, which is at least the snapshot's and at most `commit`: for a snapshot."""

    @property
    def commit(self) -> int:
        """Index of the last entry that this member knows to be committed."""

    @property
    def sealed(self) -> int:
        """Index of the committed `SWITCH` entry that ended this protocol's part of the log; 0 as long as there is none.

        It is the last entry that `Ready.committed` ever hands out. The core still answers messages then, so that
        members that lag get as far; the caller goes on with a core of the other protocol, whose log begins there.
        """

    def step(self, sender: Member, message: Message) -> None:
        """Take one message from `sender`, whose identity the caller has checked (mutual TLS, signature).

        Never raises for anything that a member can send: what makes no sense is dropped.
        """

    def tick(self) -> None:
        """Let one tick pass. Every time that a core knows is counted in ticks."""

    def propose(self, payload: bytes, kind: Kind = Kind.COMMAND) -> Accepted | Refused:
        """Ask for an entry. Accepted does not mean committed: see `Accepted`."""

    def read(self, context: bytes) -> Refused | None:
        """Ask for a linearizable read; `Ready.reads` repeats `context` when it may be answered.

        It may never be: the leader can change on the way. The caller has a deadline and asks again.
        """

    def ready(self) -> "Ready[Message] | None":
        """What there is to do; None: nothing. Must not be called again before `advance`."""

    def advance(self) -> None:
        """Say that everything the last `ready` asked for was done."""
