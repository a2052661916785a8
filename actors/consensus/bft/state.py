"""What the parts of one member's core share: where it stands, and what is to go out."""

from actors.consensus.bft.changes import Asks
from actors.consensus.bft.era import Era
from actors.consensus.bft.ledger import Ledger
from actors.consensus.bft.messages import BftMessage, Claim, TimeoutCertificate, encode
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.pool import Pool
from actors.consensus.bft.promise import Promise, fresh
from actors.consensus.bft.settings import BftSettings
from actors.consensus.bft.witness import Witness
from actors.consensus.ready import Entry, Evidence, Member, Send


class State:
    """One member. The parts (`Voting`, `Views`, `Leading`, `CatchingUp`, `Checkpoints`) each have their own besides."""

    def __init__(
        self, settings: BftSettings, notary: Notary, ledger: Ledger, promise: Promise, caught: tuple[Evidence, ...]
    ) -> None:
        self.settings = settings
        self.notary = notary
        self.ledger = ledger
        self.promise = promise
        self.pool = Pool(settings.pending, settings.batch, settings.batch_bytes)
        self.asks = Asks()
        self.witness = Witness(notary)
        self.caught = {evidence.member: evidence for evidence in caught if ledger.era.knows(evidence.member)}
        self.now = 0
        self.stable = ledger.base
        self.view = max(promise.high.view, promise.timed_out, promise.voted_rank[0], ledger.era.first_view)
        self.entry: TimeoutCertificate | None = None
        self.entered = 0
        """Tick in which something last moved in this view."""
        self.view_since = 0
        self.dirty = False
        self.outbox: list[Send[BftMessage]] = []
        self.entries: list[Entry] = []
        self.evidence: list[Evidence] = []

    @property
    def me(self) -> Member:
        """This member."""
        return self.notary.me

    @property
    def era(self) -> Era:
        """The era of the committed tip."""
        return self.ledger.era

    @property
    def active(self) -> bool:
        """Whether this member's votes count and there is still something to vote for."""
        return not self.ledger.sealed and self.era.votes(self.me)

    @property
    def leads(self) -> bool:
        """Whether this member leads the view that it is in."""
        return self.active and self.era.leader(self.view) == self.me

    def send(self, to: Member, message: BftMessage) -> None:
        """One message, once what it promises is on disk."""
        self.outbox.append(Send(to, message))

    def broadcast(self, message: BftMessage) -> None:
        """To every other member."""
        membership = self.era.membership
        for member in membership.voters + membership.learners:
            if member != self.me:
                self.outbox.append(Send(member, message))

    def enter(self, view: int, entry: TimeoutCertificate | None) -> None:
        """Go on to a later view, or learn why the present one began."""
        if view > self.view:
            self.view, self.entry = view, entry
            self.entered = self.view_since = self.now
        elif view == self.view and self.entry is None:
            self.entry = entry

    def begin_era(self) -> None:
        """Start afresh after an era's last block: what was promised in the era before binds no more."""
        self.promise = fresh(self.era, self.promise.numbers_below)
        self.view, self.entry = self.era.first_view, None
        self.entered = self.view_since = self.now
        self.asks.clear()
        self.pool.keep_only(self.era.membership.voters + self.era.membership.learners)
        self.caught = {member: caught for member, caught in self.caught.items() if self.era.knows(member)}
        self.dirty = True

    def hear(self, claim: Claim, *, checked: bool = False) -> bool:
        """Take note of a claim; whether its signature is good (`checked`: it is known to be)."""
        if not self.era.knows(claim.member):
            return False
        signed, proof = self.witness.observe(claim, checked=checked)
        if proof is not None:
            self.catch(proof)
        return signed

    def catch(self, evidence: Evidence) -> None:
        """Keep checked evidence, report it and tell everybody; once for each member."""
        if evidence.member in self.caught or not self.era.knows(evidence.member):
            return
        self.caught[evidence.member] = evidence
        self.evidence.append(evidence)
        self.dirty = True

    def exclusion(self) -> bytes | None:
        """The payload of the entry that excludes somebody who was caught."""
        for member in sorted(self.caught):
            if self.era.knows(member):
                return encode(self.caught[member])
        return None

    def busy(self) -> bool:
        """Whether this member knows of something that should be getting committed."""
        return self.active and (
            not self.pool.empty
            or bool(self.caught)
            or self.asks.change(self.era, self.notary.rules) is not None
            or any(not node.block.empty for node in self.ledger.nodes.values())
        )
