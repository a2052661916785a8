"""The leader's side: one block at a time, each carrying the certificate of the one before."""

from actors.consensus.bft.ledger import Node
from actors.consensus.bft.messages import Block, Change, Link, Phase, Propose, Request, block_id
from actors.consensus.bft.promise import extends
from actors.consensus.bft.state import State
from actors.consensus.bft.voting import Voting
from actors.consensus.ready import Kind


class Leading:
    """Proposes what waits, and empty blocks as long as they help to commit something."""

    def __init__(self, state: State, voting: Voting) -> None:
        self._state = state
        self._voting = voting

    def propose(self) -> bool:
        """Propose the next block, if this member leads and may; whether it did."""
        state = self._state
        promise, ledger = state.promise, state.ledger
        if not state.leads or promise.timed_out >= state.view:
            return False
        high = promise.high
        step = high.step + 1 if high.view == state.view and high.rank > state.era.root_rank else 0
        rank = (state.view, step)
        if promise.proposed_rank >= rank:
            return False
        path = ledger.path(high.ballot.block)
        if path is None:
            self._voting.lacking = True
            return False
        content = self._content(path)
        if content is None:
            return False
        block = Block(state.era.number, *rank, high.ballot.block, high.ballot.last + 1, *content)
        link = Link(block, high)
        if (
            not extends(link, state.entry, state.era, state.notary.rules)
            or block.last > state.stable + state.settings.window
        ):
            return False
        claim = state.notary.claim(Phase.PROPOSAL, block.era, rank, block_id(block))
        propose = Propose(link, state.entry if step == 0 else None, claim.signature)
        promise.proposed = propose
        state.dirty = True
        state.broadcast(propose)
        self._voting.on_propose(propose)
        return True

    def _content(self, path: list[Node]) -> tuple[tuple[Request, ...], Change | None] | None:
        """What goes into a block after `path`; None: nothing needs one."""
        state = self._state
        unfinished = any(not node.block.empty for node in path)
        if not any(node.block.change is not None for node in path):
            change = self._change()
            if change is not None:
                return (), change
            requests = state.pool.take(state.ledger.numbers_at(path))
            if requests:
                return requests, None
        return ((), None) if unfinished else None

    def _change(self) -> Change | None:
        excluded = self._state.exclusion()
        if excluded is not None:
            return Change(Kind.EVIDENCE, excluded)
        return self._state.asks.change(self._state.era, self._state.notary.rules)

    def repeat(self) -> None:
        """Send the last proposal again, as long as it may still be wanted."""
        promise = self._state.promise
        if promise.proposed is not None and promise.proposed_rank > promise.high.rank:
            self._state.broadcast(promise.proposed)
