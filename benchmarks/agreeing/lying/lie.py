"""What a lie is, and what the lies of one liar share."""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from actors.consensus.bft.messages import (
    Ballot,
    Block,
    Certificate,
    Link,
    Phase,
    Propose,
    Status,
    Timeout,
    Vote,
    block_id,
)
from actors.consensus.bft.notary import Notary
from actors.consensus.ready import Member
from benchmarks.agreeing.machine import Command, What, encode

Invented = tuple[Member, Any]
KEY = 1_000
"""Liars write registers that no client reads."""
_SEEN = 120


class Scene:
    """What the lies of one liar share: its name, its keys, whom it talks to, and what it has seen pass."""

    def __init__(
        self, notary: Notary, voters: tuple[Member, ...], chance: Random, cut: Callable[[Member, bool], None]
    ) -> None:
        self.notary, self.me, self.chance = notary, notary.me, chance
        self.voters = voters
        self.others = tuple(voter for voter in voters if voter != notary.me)
        self.seen: list[Any] = []
        self.certificates: list[Certificate] = []
        self.view = self.era = self.now = 0
        self.cut = cut
        """Has the network let nobody hear a member, nor (True) it anybody, as long as the network is bad anyway."""

    def see(self, message: Any) -> None:
        """Remember what passes."""
        self.seen.append(message)
        match message:
            case Propose(link=Link(justify=certificate)) | Status(high=certificate) | Timeout(high=certificate):
                if certificate not in self.certificates[-8:]:
                    self.certificates.append(certificate)
                self.view, self.era = max(self.view, certificate.view), max(self.era, certificate.era)
            case _:
                pass
        del self.seen[:-_SEEN], self.certificates[:-16]

    def anybody(self) -> Member:
        """One of the others."""
        return self.chance.choice(self.others)

    def command(self) -> bytes:
        """A command that is a liar's own."""
        return encode(Command(0, What.PUT, KEY, self.chance.randrange(1 << 30)))

    def sign_block(self, block: Block, justify: Certificate, entry: Any) -> Propose:
        """A proposal of this liar's."""
        claim = self.notary.claim(Phase.PROPOSAL, block.era, block.rank, block_id(block))
        return Propose(Link(block, justify), entry, claim.signature)

    def sign_vote(self, era: int, rank: tuple[int, int], ballot: Ballot, proposal: bytes) -> Vote:
        """A vote of this liar's."""
        claim = self.notary.claim(Phase.VOTE, era, rank, self.notary.rules.ballot(ballot))
        return Vote(self.me, era, *rank, ballot, proposal, claim.signature)


class Lie:
    """By default the truth."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def hears(self, sender: Member, message: Any) -> bool:  # noqa: ARG002
        """Whether the liar's cores get to know of it."""
        return True

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """What is sent instead of `message`."""
        return (message,)

    def invent(self) -> Iterable[Invented]:
        """What is sent besides, in one tick."""
        return ()
