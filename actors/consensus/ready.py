"""What every consensus core takes and gives, whichever protocol it speaks.

A *member* is a number that is given once and never again: a member that lost its disk comes back under a new one,
because the old number has promised things that nobody remembers. All types are immutable.
"""

import enum
from typing import Generic, TypeVar

import msgspec

Member = int
"""Number of a member, ≥ 1."""

NOBODY: Member = 0

Message = TypeVar("Message")
"""What members of one protocol say to each other: a tagged union of structs, a different one for each protocol."""


class Kind(enum.IntEnum):
    """What an entry is for."""

    NOOP = 0
    """Begins a term; the state machine ignores it."""
    COMMAND = 1
    """The payload is a command of the state machine."""
    MEMBERSHIP = 2
    """The payload is a `Membership`, in msgpack."""
    SWITCH = 3
    """The log goes on in another protocol: nothing after it is ever committed by the protocol that agreed on it.
    The payload is the protocols' business."""
    EVIDENCE = 4
    """The payload is an `Evidence`, in msgpack: a member was caught lying and is excluded."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the log. Index 1 is the first there can be.

    `term` is Raft's term or BFT's view in which it was proposed. `proof` shows a third party that the entry is
    committed (BFT: a certificate); it is not part of what is agreed on, so two members may hold different ones.
    """

    index: int
    term: int
    kind: Kind = Kind.COMMAND
    payload: bytes = b""
    proof: bytes = b""


class Membership(msgspec.Struct, frozen=True, array_like=True):
    """Who takes part, each tuple sorted: `voters` decide, `learners` only receive."""

    voters: tuple[Member, ...]
    learners: tuple[Member, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Names a snapshot of the state machine after `index`, an entry of `term`; the bytes themselves pass the core by.

    Whoever sends a message that holds one sends the bytes with it, and whoever receives it has the bytes, checked
    against `digest` (which the caller chooses; BFT compares it), before the core is given the message.
    """

    index: int
    term: int
    membership: Membership
    digest: bytes = b""
    proof: bytes = b""


class HardState(msgspec.Struct, frozen=True, array_like=True):
    """What a member must remember besides its log. `extra` is the protocol's own (BFT: prepared certificates)."""

    term: int = 0
    vote: Member = NOBODY
    commit: int = 0
    extra: bytes = b""


class Read(msgspec.Struct, frozen=True, array_like=True):
    """A read that was confirmed: once `index` is applied, the state answers `context`, linearizably."""

    context: bytes
    index: int


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """Proof of a lie: two signed messages of `member` that no honest member sends both of, or one that none sends."""

    member: Member
    kind: str
    proofs: tuple[bytes, ...]


class Send(msgspec.Struct, Generic[Message], frozen=True, array_like=True):
    """One message to one member. It may be lost, repeated, late and overtaken; the core copes."""

    to: Member
    message: Message


class Ready(msgspec.Struct, Generic[Message], frozen=True):
    """What the caller does now, in this order:

    1. Send `at_once`: promises nothing that is not on disk yet (a leader's appends, which may race its own disk).
    2. Make `snapshot`, `entries` and `hard_state` durable, in one transaction: they are on disk when it returns, all or
       none. `snapshot` replaces the whole log and the state machine's state; `entries` replace whatever the log has
       from `entries[0].index` on. An empty tuple or None asks for nothing.
    3. Send `after_persisting`: never before 2 has returned.
    4. Apply `committed` to the state machine, in order; each entry is handed out once in a core's life.
    5. Answer `reads`; keep and report `evidence`.
    6. If `checkpoint` isn't 0 (BFT), it is the index of the last of `committed`: snapshot the state machine, keep the
       bytes, and give the core their digest (`BftCore.checkpointed`). `stable` names such a snapshot that a quorum
       agrees on: the log may be compacted with it.
    7. Call `advance()`.

    Messages and ticks may be given to the core between `ready()` and `advance()`; what follows from them is in the next
    `Ready`. So one write to disk serves all that came in during the one before.
    """

    at_once: tuple[Send[Message], ...] = ()
    snapshot: Snapshot | None = None
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None
    after_persisting: tuple[Send[Message], ...] = ()
    committed: tuple[Entry, ...] = ()
    reads: tuple[Read, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    checkpoint: int = 0
    stable: Snapshot | None = None

    @property
    def writes(self) -> bool:
        """Whether step 2 has anything to do."""
        return bool(self.entries) or self.hard_state is not None or self.snapshot is not None


class Why(enum.Enum):
    """Why a proposal or a read was not taken."""

    NOT_LEADER = "not-leader"
    """Ask the leader that the answer names; if it names nobody, ask again later."""
    BUSY = "busy"
    """Too much is under way: ask again when something has been committed."""
    CHANGING = "changing"
    """A change of members or a switch is under way; or, for a change, nothing of this term is committed yet."""
    INVALID = "invalid"
    """This can't be proposed: a change of more than one voter, of the last voter, or bytes that don't parse."""
    TOO_LARGE = "too-large"
    """The payload is longer than an entry may be."""


class Accepted(msgspec.Struct, frozen=True):
    """The proposal stands at this place in the log, if the log keeps it: committed only when `Ready` says so.

    Whoever sees another term committed at `index` knows that the proposal was lost. A core that passes proposals on
    (BFT) gives index 0: then only the entry's payload tells.
    """

    index: int
    term: int


class Refused(msgspec.Struct, frozen=True):
    """Nothing was changed."""

    why: Why
    leader: Member = NOBODY
