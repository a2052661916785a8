"""What a member has promised, and the rules of voting that make two commits agree.

The rules (two-chain HotStuff after Jolteon, Gelashvili et al. 2021, with a leader that stays):

1. One vote per rank, ranks only grow, and no vote in a view that was given up.
2. A view's later block builds on the certificate of the rank just before it.
3. A view's first block shows that a quorum gave the view before up, and builds on a certificate at least as high as any
   that this quorum knew.
4. A block is committed when the next one of its view, built on it, is certified.

Why that suffices: a quorum voted for the block after B, (v, k + 1), so it knew B's certificate. Whoever of it gives v
or a later view up names a certificate at least as high, and any quorum of timeouts holds one honest such member. So by
induction every block certified above B's rank is B's descendant.
"""

import msgspec

from actors.consensus.bft.era import Era
from actors.consensus.bft.messages import Certificate, Link, Propose, Rank, TimeoutCertificate, Vote, encode
from actors.consensus.bft.rules import Rules
from actors.consensus.ready import Evidence


class Promise(msgspec.Struct, array_like=True):
    """What must be on disk before anybody is told: a member that forgot it could contradict itself."""

    era: int
    high: Certificate
    """The highest certificate known."""
    voted: Vote | None = None
    proposed: Propose | None = None
    timed_out: int = 0
    """The last view given up."""
    numbers_below: int = 0
    """Requests have had numbers below this one."""

    @property
    def voted_rank(self) -> Rank:
        """Nothing at or below it gets a vote any more."""
        return (self.voted.view, self.voted.step) if self.voted is not None else (0, 0)

    @property
    def proposed_rank(self) -> Rank:
        """Nothing at or below it is proposed any more."""
        return self.proposed.link.block.rank if self.proposed is not None else (0, 0)


class Memory(msgspec.Struct, frozen=True, array_like=True):
    """The durable form: `HardState.extra`. `links` are the blocks that are not committed yet.

    `caught` is the evidence against members that are still in: whoever reported it must not forget it in a crash, or
    they might never be excluded.
    """

    promise: Promise
    links: tuple[Link, ...]
    caught: tuple[Evidence, ...] = ()


_memories = msgspec.msgpack.Decoder(Memory)


def pack(promise: Promise, links: tuple[Link, ...], caught: tuple[Evidence, ...]) -> bytes:
    """To `HardState.extra`."""
    return encode(Memory(promise, links, caught))


def unpack(extra: bytes) -> Memory:
    """From `HardState.extra`.

    Raises:
        msgspec.MsgspecError: the bytes are not what `pack` wrote.
    """
    return _memories.decode(extra)


def fresh(era: Era, numbers_below: int = 0) -> Promise:
    """The promise of a member that has said nothing in `era`."""
    return Promise(era=era.number, high=era.root_certificate, numbers_below=numbers_below)


def extends(link: Link, entry: TimeoutCertificate | None, era: Era, rules: Rules) -> bool:
    """Rules 2 and 3, of certificates that were checked already."""
    block, justify = link.block, link.justify
    if block.step < 0 or justify.ballot.block != block.parent or justify.ballot.last + 1 != block.first:
        return False
    if block.step > 0:
        return rules.follows(justify.rank, block.rank)
    if block.view == era.first_view:
        return justify.rank == era.root_rank
    return entry is not None and entry.view == block.view - 1 and rules.is_high_enough(justify.rank, entry.highest)


def may_vote(promise: Promise, rank: Rank, rules: Rules) -> bool:
    """Rule 1."""
    return rules.may_vote(rank, promise.voted_rank) and not rules.is_given_up(rank[0], promise.timed_out)
