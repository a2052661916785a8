"""Proposals, votes and certificates: how a block comes to be committed."""

from actors.consensus.bft.changes import justified
from actors.consensus.bft.ledger import Node
from actors.consensus.bft.messages import (
    Ballot,
    Block,
    Certificate,
    Claim,
    Link,
    Phase,
    Propose,
    Rank,
    Vote,
    block_id,
)
from actors.consensus.bft.notary import proposal_claim
from actors.consensus.bft.promise import extends, may_vote
from actors.consensus.bft.state import State
from actors.consensus.ready import Kind, Member


class Voting:
    """A follower's side, which the leader takes too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._votes: dict[Member, Vote] = {}
        self._waiting: Propose | None = None
        self.committed: list[Block] = []
        """Blocks committed since the core last looked."""
        self.lacking = False
        """Whether a certificate names a block that is not here."""

    def accept(self, certificate: Certificate) -> bool:
        """Take a certificate with all that follows from it; whether it is one of this era."""
        state = self._state
        if not state.notary.certified(certificate, state.era):
            return False
        if certificate.rank <= state.era.root_rank:
            return True
        if certificate != state.promise.high:
            self._note(certificate)
        if certificate.rank > state.promise.high.rank:
            state.promise.high = certificate
            state.ledger.prune(certificate)
        state.enter(certificate.view, None)
        self._commit(certificate)
        return True

    def _note(self, certificate: Certificate) -> None:
        """Whoever is in a certificate has made a claim; whoever claims the same needs no mention."""
        state, rank, era = self._state, certificate.rank, certificate.era
        proposal = proposal_claim(certificate, state.era)
        claims = [proposal]
        claims += [
            state.notary.vote_claim(member, era, rank, certificate.ballot, signature)
            for member, signature in certificate.votes
        ]
        for claim in claims:
            state.hear(claim, checked=True)
        for claim in claims[:2]:
            state.witness.settle(claim.place, claim.content)

    def _commit(self, certificate: Certificate) -> None:
        state, ballot = self._state, certificate.ballot
        self.lacking = self.lacking or (ballot.last > state.ledger.last and not state.ledger.knows(ballot.block))
        if not ballot.commits or ballot.commits_last <= state.ledger.last or state.ledger.sealed:
            return
        path = state.ledger.path(ballot.commits)
        if path is None:
            self.lacking = True
            return
        era = state.era.number
        blocks, entries = state.ledger.commit(path, certificate, state.settings.checkpoint)
        state.entries += entries
        state.entered = state.now
        state.dirty = True
        self.committed += blocks
        if state.era.number != era:
            self.begin_era()
            state.begin_era()

    def begin_era(self) -> None:
        """Forget the votes of the era before."""
        self._votes.clear()
        self._waiting = None

    def on_propose(self, propose: Propose) -> None:
        """A block from its leader: keep it, and vote for it if the rules let."""
        state, block = self._state, propose.link.block
        if block.era != state.era.number or block.rank <= state.era.root_rank:
            return
        block_name = block_id(block)
        leader = state.era.leader(block.view)
        claim = Claim(leader, Phase.PROPOSAL, block.era, *block.rank, block_name, propose.signature)
        if not state.hear(claim) or not self.accept(propose.link.justify):
            return
        if block.era != state.era.number or not self._begins_its_view(propose):
            return
        if block.view < state.view or not extends(propose.link, propose.entry, state.era, state.notary.rules):
            return
        if not state.ledger.knows(block.parent):
            self._waiting, self.lacking = propose, True
            return
        may = state.active and may_vote(state.promise, block.rank, state.notary.rules)
        if may and self._valid(block):
            state.ledger.add(Node(block_name, propose.link))
            self._vote(block, block_name, propose)

    def retry(self) -> None:
        """Look again at a proposal whose parent was missing."""
        waiting = self._waiting
        if waiting is not None and self._state.ledger.knows(waiting.link.block.parent):
            self._waiting = None
            self.on_propose(waiting)

    def _begins_its_view(self, propose: Propose) -> bool:
        """Check why the view began, if the block is its first, and go there."""
        state, block = self._state, propose.link.block
        if block.step > 0 or block.view == state.era.first_view:
            return block.step >= 0
        entry = propose.entry
        if entry is None or entry.view != block.view - 1 or not state.notary.timed_out(entry, state.era):
            return False
        state.enter(block.view, entry)
        return True

    def _valid(self, block: Block) -> bool:
        """Whether the content may follow the parent's: any honest member comes to the same answer."""
        state, settings = self._state, self._state.settings
        path = state.ledger.path(block.parent)
        if path is None or block.last > state.stable + settings.window:
            return False
        if any(node.block.change is not None for node in path):
            return block.empty
        if block.change is not None:
            return not block.requests and justified(block.change, state.era, state.notary)
        if len(block.requests) > settings.batch:
            return False
        numbers, size = state.ledger.numbers_at(path), 0
        for request in block.requests:
            size += len(request.payload)
            if (
                not state.era.knows(request.proposer)
                or not state.notary.rules.is_new(request.number, numbers.get(request.proposer, 0))
                or request.kind not in (Kind.COMMAND, Kind.NOOP)
                or len(request.payload) > settings.payload_bytes
                or size > settings.batch_bytes
            ):
                return False
            numbers[request.proposer] = request.number
        return all(
            state.pool.get(request.proposer, request.number) == request or state.notary.requested(request)
            for request in block.requests
        )

    def _vote(self, block: Block, name: bytes, propose: Propose) -> None:
        state, justify = self._state, propose.link.justify
        commits = (justify.ballot.block, justify.ballot.last) if block.step > 0 else (b"", 0)
        ballot = Ballot(name, block.last, *commits)
        vote = cast_vote(state, block.rank, ballot, propose.signature)
        state.promise.voted = vote
        state.dirty = True
        state.broadcast(vote)
        self._count(vote)

    def on_vote(self, vote: Vote) -> None:
        """Somebody's vote, which carries the leader's signature too."""
        state = self._state
        rank = (vote.view, vote.step)
        if vote.era != state.era.number or rank <= state.era.root_rank or not state.era.votes(vote.member):
            return
        if self._votes.get(vote.member) == vote:
            return
        leader = state.era.leader(vote.view)
        proposal = Claim(leader, Phase.PROPOSAL, vote.era, *rank, vote.ballot.block, vote.proposal)
        claim = state.notary.vote_claim(vote.member, vote.era, rank, vote.ballot, vote.signature)
        if state.hear(proposal) and state.hear(claim):
            self._count(vote)

    def _count(self, vote: Vote) -> None:
        """Only each member's latest vote counts: it votes on when it knows the certificate of the rank before."""
        state, rank = self._state, (vote.view, vote.step)
        before = self._votes.get(vote.member)
        if rank <= state.promise.high.rank or (before is not None and (before.view, before.step) >= rank):
            return
        self._votes[vote.member] = vote
        counted = state.notary.rules.ballot
        same = [
            v for v in self._votes.values() if (v.view, v.step) == rank and counted(v.ballot) == counted(vote.ballot)
        ]
        if len(same) >= state.notary.quorum(state.era):
            votes = tuple((v.member, v.signature) for v in same)
            self.accept(Certificate(vote.era, *rank, vote.ballot, vote.proposal, votes))

    def adopt(self, link: Link, name: bytes) -> None:
        """Keep a block that a certificate names."""
        if not self._state.ledger.knows(name) and self._state.ledger.knows(link.block.parent):
            self._state.ledger.add(Node(name, link))
            self._state.dirty = True


def cast_vote(state: State, rank: Rank, ballot: Ballot, proposal: bytes) -> Vote:
    """This member's signed vote."""
    claim = state.notary.claim(Phase.VOTE, state.era.number, rank, state.notary.rules.ballot(ballot))
    return Vote(state.me, state.era.number, *rank, ballot, proposal, claim.signature)
