"""What members say to each other in BFT mode, and the structs that it is made of.

An *era* is the time between two changes of the membership; eras count from 0. Within an era a *view* has one leader,
and its blocks are numbered by *step*: (view, step) is a block's *rank*. Whatever decides anything is signed.
"""

import enum
from hashlib import sha256

import msgspec

from actors.consensus.ready import Evidence, Kind, Member, Snapshot

Rank = tuple[int, int]
Id = bytes
"""SHA-256 of an encoded block: names its content and, through `parent`, everything before it."""
Signature = bytes

_encoder = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """The one encoding: what is signed and digested is these bytes."""
    return _encoder.encode(value)


class Phase(enum.IntEnum):
    """In what a member may contradict itself: it says one thing per phase, era, view and step."""

    PROPOSAL = 1
    VOTE = 2
    CHECKPOINT = 3


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A signed statement in its place. Two with the same place and different `content` prove a lie.

    Of a proposal the content is the block's id, of a vote the encoded `Ballot`, of a checkpoint (`view` is its index,
    `step` 0) the digest of the state.
    """

    member: Member
    phase: Phase
    era: int
    view: int
    step: int
    content: bytes
    signature: Signature = b""

    @property
    def place(self) -> tuple[int, int, int, int]:
        """Where its member may say one thing only."""
        return (self.era, self.phase, self.view, self.step)


class Ballot(msgspec.Struct, frozen=True, array_like=True):
    """What a vote is for: `block`, which ends at index `last`; a quorum of such votes commits the block `commits`."""

    block: Id
    last: int
    commits: Id
    commits_last: int


class Certificate(msgspec.Struct, frozen=True, array_like=True):
    """A quorum's votes for one block, with the leader's own signature under it. An era's root needs neither."""

    era: int
    view: int
    step: int
    ballot: Ballot
    proposal: Signature
    votes: tuple[tuple[Member, Signature], ...]

    @property
    def rank(self) -> Rank:
        """(view, step) of the block."""
        return (self.view, self.step)


class TimeoutCertificate(msgspec.Struct, frozen=True, array_like=True):
    """A quorum that gave `view` up: for each member the rank of the highest certificate that it knew, signed."""

    era: int
    view: int
    timeouts: tuple[tuple[Member, int, int, Signature], ...]

    @property
    def highest(self) -> Rank:
        """What the next view must not fall behind."""
        return max((view, step) for _, view, step, _ in self.timeouts)


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One entry that a member asks for. Of one member's requests only those with growing numbers are committed."""

    proposer: Member
    number: int
    kind: Kind
    payload: bytes
    signature: Signature = b""


class Change(msgspec.Struct, frozen=True, array_like=True):
    """An entry that ends the era. Evidence proves itself; anything else needs f + 1 members that asked for it."""

    kind: Kind
    payload: bytes
    asks: tuple[tuple[Member, Signature], ...] = ()


class Block(msgspec.Struct, frozen=True, array_like=True):
    """A batch of entries from index `first` on: requests, or one change, or nothing (then it is one `NOOP` entry)."""

    era: int
    view: int
    step: int
    parent: Id
    first: int
    requests: tuple[Request, ...] = ()
    change: Change | None = None

    @property
    def rank(self) -> Rank:
        """(view, step)."""
        return (self.view, self.step)

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.first + max(1, len(self.requests)) - 1

    @property
    def empty(self) -> bool:
        """Whether it only carries the certificate of its parent."""
        return not self.requests and self.change is None


def block_id(block: Block) -> Id:
    """What votes and children call `block`."""
    return sha256(encode(block)).digest()


class Link(msgspec.Struct, frozen=True, array_like=True):
    """A block with the certificate of its parent."""

    block: Block
    justify: Certificate


class EraEnd(msgspec.Struct, frozen=True, array_like=True):
    """Proves an era's last block, the first of `links`: `certificate` commits the last of them (mostly the same)."""

    links: tuple[Link, ...]
    certificate: Certificate


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The leader's block. `entry` shows why the view began; only a view's first block needs it."""

    link: Link
    entry: TimeoutCertificate | None
    signature: Signature


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """To everybody. `proposal` is the leader's signature, so that members who were told different blocks notice."""

    member: Member
    era: int
    view: int
    step: int
    ballot: Ballot
    proposal: Signature
    signature: Signature


class Timeout(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """To everybody: `member` gives `view` up and votes in it no more."""

    member: Member
    era: int
    view: int
    high: Certificate
    signature: Signature


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One member's wish for a change in this era."""

    member: Member
    era: int
    kind: Kind
    payload: bytes
    signature: Signature = b""


class Submit(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """To everybody, so that everybody watches that the leader serves them."""

    requests: tuple[Request, ...]
    asks: tuple[Ask, ...] = ()


class Status(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """To everybody in every beat: where this member stands, and what it heard that others may contradict."""

    era: int
    view: int
    committed: int
    high: Certificate
    entry: TimeoutCertificate | None
    checkpoint: Claim | None
    claims: tuple[Claim, ...]


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Asks for what comes after index `committed`, which ended in `era`."""

    era: int
    committed: int


class Links(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Answers `Fetch`: consecutive blocks of one era; `certificate` certifies the last or commits it."""

    links: tuple[Link, ...]
    certificate: Certificate


class Install(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Answers `Fetch` when the blocks are gone; the state's bytes travel with it (see `Snapshot`)."""

    snapshot: Snapshot


class Accuse(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """To everybody: somebody was caught."""

    evidence: Evidence


BftMessage = Propose | Vote | Timeout | Submit | Status | Fetch | Links | Install | Accuse
