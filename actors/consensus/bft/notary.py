"""Signs for this member and checks what others signed.

Each signature is over the name of the protocol, the chain, the kind of statement and all of its fields, so that no
statement can be taken for another, for one of another log or of another era.
"""

from collections.abc import Iterable

from actors.consensus.bft.era import Era
from actors.consensus.bft.keys import Keys
from actors.consensus.bft.messages import (
    Ask,
    Ballot,
    Certificate,
    Claim,
    Phase,
    Rank,
    Request,
    Signature,
    TimeoutCertificate,
    encode,
)
from actors.consensus.bft.rules import RULES, Rules
from actors.consensus.ready import Kind, Member

_PROTOCOL = "novacron-bft-1"
_REMEMBERED = 512


class Notary:
    """All signing and checking of one member. Certificates found good are remembered, the newest few hundred."""

    def __init__(self, me: Member, keys: Keys, chain: bytes, rules: Rules = RULES) -> None:
        self.me = me
        self.rules = rules
        self._keys = keys
        self._chain = chain
        self._good: dict[Certificate | TimeoutCertificate, None] = {}

    def _statement(self, about: str, *fields: object) -> bytes:
        return encode((_PROTOCOL, self._chain, about, fields))

    def _verify(self, member: Member, statement: bytes, signature: Signature) -> bool:
        return self.rules.is_signed(self._keys.verify(member, statement, signature))

    def _claimed(self, phase: Phase, era: int, rank: Rank, content: bytes) -> bytes:
        return self._statement("claim", phase, era, rank, content)

    def claim(self, phase: Phase, era: int, rank: Rank, content: bytes) -> Claim:
        """This member's signed claim."""
        signature = self._keys.sign(self._claimed(phase, era, rank, content))
        return Claim(self.me, phase, era, *rank, content, signature)

    def holds(self, claim: Claim) -> bool:
        """Whether its member signed it."""
        statement = self._claimed(claim.phase, claim.era, (claim.view, claim.step), claim.content)
        return self._verify(claim.member, statement, claim.signature)

    def request(self, number: int, kind: Kind, payload: bytes) -> Request:
        """This member's signed request."""
        signature = self._keys.sign(self._statement("request", self.me, number, kind, payload))
        return Request(self.me, number, kind, payload, signature)

    def requested(self, request: Request) -> bool:
        """Whether its proposer signed it."""
        statement = self._statement("request", request.proposer, request.number, request.kind, request.payload)
        return self._verify(request.proposer, statement, request.signature)

    def ask(self, era: int, kind: Kind, payload: bytes) -> Ask:
        """This member's signed wish for a change."""
        return Ask(self.me, era, kind, payload, self._keys.sign(self._statement("ask", era, kind, payload)))

    def asked(self, ask: Ask) -> bool:
        """Whether its member signed it."""
        return self._verify(ask.member, self._statement("ask", ask.era, ask.kind, ask.payload), ask.signature)

    def give_up(self, era: int, view: int, high: Rank) -> Signature:
        """This member's signature under a timeout."""
        return self._keys.sign(self._statement("timeout", era, view, high))

    def gave_up(self, member: Member, era: int, view: int, high: Rank, signature: Signature) -> bool:
        """Whether `member` signed that timeout."""
        return self._verify(member, self._statement("timeout", era, view, high), signature)

    def certified(self, certificate: Certificate, era: Era) -> bool:
        """Whether a quorum of `era` signed `certificate`, or it is the era's root."""
        if certificate.era != era.number:
            return False
        if certificate.rank <= era.root_rank:
            return certificate == era.root_certificate
        if certificate in self._good:
            return True
        rank, content = certificate.rank, self.rules.ballot(certificate.ballot)
        good = (
            _are_voters((member for member, _ in certificate.votes), era, self.quorum(era))
            and self.holds(proposal_claim(certificate, era))
            and all(
                self._verify(member, self._claimed(Phase.VOTE, era.number, rank, content), signature)
                for member, signature in certificate.votes
            )
        )
        return good and self._remember(certificate)

    def timed_out(self, certificate: TimeoutCertificate, era: Era) -> bool:
        """Whether a quorum of `era` signed those timeouts."""
        if certificate.era != era.number:
            return False
        if certificate in self._good:
            return True
        good = _are_voters((member for member, *_ in certificate.timeouts), era, self.quorum(era)) and all(
            self.gave_up(member, era.number, certificate.view, (view, step), signature)
            for member, view, step, signature in certificate.timeouts
        )
        return good and self._remember(certificate)

    def checkpointed(self, era: Era, index: int, digest: bytes, votes: tuple[tuple[Member, Signature], ...]) -> bool:
        """Whether a quorum of `era` signed `digest` for the state at `index`."""
        statement = self._claimed(Phase.CHECKPOINT, era.number, (index, 0), digest)
        enough = self.rules.checkpoint_quorum(era.size)
        return _are_voters((member for member, _ in votes), era, enough) and all(
            self._verify(member, statement, signature) for member, signature in votes
        )

    def quorum(self, era: Era) -> int:
        """How many votes make a certificate in `era`."""
        return self.rules.quorum(era.size)

    def vote_claim(self, member: Member, era: int, rank: Rank, ballot: Ballot, signature: Signature) -> Claim:
        """A vote as the claim that was signed."""
        return Claim(member, Phase.VOTE, era, *rank, self.rules.ballot(ballot), signature)

    def _remember(self, certificate: Certificate | TimeoutCertificate) -> bool:
        self._good[certificate] = None
        if len(self._good) > _REMEMBERED:
            del self._good[next(iter(self._good))]
        return True


def proposal_claim(certificate: Certificate, era: Era) -> Claim:
    """The leader's proposal that `certificate` is about."""
    leader = era.leader(certificate.view)
    return Claim(leader, Phase.PROPOSAL, era.number, *certificate.rank, certificate.ballot.block, certificate.proposal)


def _are_voters(members: Iterable[Member], era: Era, enough: int) -> bool:
    """Whether these are different voters of `era`, and enough of them."""
    listed = tuple(members)
    return len(set(listed)) == len(listed) >= enough and all(era.votes(member) for member in listed)
