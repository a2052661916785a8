"""Checkpoints: members digest the state at the same indices; a quorum that agrees lets the log before go."""

import msgspec

from actors.consensus.bft.ledger import Foundation
from actors.consensus.bft.messages import Claim, Phase
from actors.consensus.bft.state import State
from actors.consensus.ready import Member, Membership, Snapshot


class Checkpoints:
    """This member's digests and the others'."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._claims: dict[Member, Claim] = {}
        self._own: dict[int, tuple[Foundation, Membership, bytes]] = {}
        self.latest: Claim | None = None
        """What this member last signed in this era."""
        self.stable: Snapshot | None = None
        """The newest snapshot that a quorum agrees on."""

    def taken(self, index: int, digest: bytes) -> None:
        """The state machine has digested its state at `index`, as `Ready.checkpoint` asked."""
        state = self._state
        due = state.ledger.dues.pop(index, None)
        if due is None or due[0].era.number != state.era.number:
            return
        foundation, membership = due
        self._own[index] = (foundation, membership, digest)
        if state.active:
            content = foundation.digest(index, digest)
            self.latest = state.notary.claim(Phase.CHECKPOINT, state.era.number, (index, 0), content)
            self.hear(self.latest)
        self._agree(index)

    def hear(self, claim: Claim) -> None:
        """Somebody's digest."""
        state = self._state
        if claim.phase is not Phase.CHECKPOINT or claim.era != state.era.number or not state.era.votes(claim.member):
            return
        known = self._claims.get(claim.member)
        if claim.view <= state.stable or (known is not None and known.view >= claim.view):
            return
        if state.hear(claim):
            self._claims[claim.member] = claim
            self._agree(claim.view)

    def _agree(self, index: int) -> None:
        state = self._state
        if index not in self._own or index <= state.stable:
            return
        foundation, membership, digest = self._own[index]
        content = foundation.digest(index, digest)
        same = [claim for claim in self._claims.values() if (claim.view, claim.content) == (index, content)]
        if len(same) < state.notary.rules.checkpoint_quorum(state.era.size):
            return
        votes = tuple((claim.member, claim.signature) for claim in same)
        proof = msgspec.msgpack.encode(msgspec.structs.replace(foundation, votes=votes))
        self.stable = Snapshot(index, foundation.view, membership, digest, proof)
        state.witness.settle(same[0].place, content)
        self.settled(index)
        state.ledger.truncate(index)

    def settled(self, index: int) -> None:
        """Nothing up to `index` needs agreement any more."""
        self._state.stable = index
        self._own = {at: own for at, own in self._own.items() if at > index}
        self._claims = {member: claim for member, claim in self._claims.items() if claim.view > index}

    def begin_era(self) -> None:
        """Digests of the era before are forgotten: its end is a checkpoint of its own."""
        self._claims.clear()
        self._own.clear()
        self.latest = None
