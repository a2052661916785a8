"""The attack that a view change must withstand: a commit that one member knows of is buried under a fork."""

from collections.abc import Iterable
from typing import Any

import msgspec

from actors.consensus.bft.messages import (
    Ballot,
    Block,
    Certificate,
    Propose,
    Request,
    Submit,
    Timeout,
    Vote,
    block_id,
)
from actors.consensus.ready import Kind, Member
from benchmarks.agreeing.lying.lie import Invented, Lie, Scene

_HIDE_TICKS = 5
_PATIENCE_TICKS = 120


class Burial(Lie):
    """One liar of four. As a leader it lets one member alone learn of a commit, and has the network cut that one off.

    It then lets views fail until it leads again (or tries at once, in the same view), and proposes a block beside the
    committed one. Whoever votes for it has not looked at what the timeouts said (or at the rank of the certificate).
    """

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._blocks: dict[bytes, Block] = {}
        self._by_block: dict[bytes, Certificate] = {}
        self._victim: Member = 0
        self._below: Certificate | None = None
        self._since = 0
        self._at_once = False
        self._fork: Propose | None = None
        self._votes: dict[Member, Vote] = {}
        self._last: Propose | None = None
        self._ready_to_fork = False

    def hears(self, sender: Member, message: Any) -> bool:
        """Collect votes for the fork."""
        if isinstance(message, Propose):
            self._learn(message)
        fork = self._fork
        if fork is not None and isinstance(message, Vote) and message.ballot.block == block_id(fork.link.block):
            self._votes[sender] = message
        return True

    def _learn(self, propose: Propose) -> None:
        self._blocks[block_id(propose.link.block)] = propose.link.block
        self._by_block[propose.link.justify.ballot.block] = propose.link.justify
        for known in (self._blocks, self._by_block):
            while len(known) > 50:
                del known[next(iter(known))]

    def distort(self, to: Member, message: Any) -> Iterable[Any]:
        """See the class."""
        scene = self.scene
        if isinstance(message, Propose):
            self._learn(message)
            self._last = message
            if self._victim == 0:
                self._begin(message)
            elif message.link.block.step == 0 and message.link.block.era == self._era and not self._fork:
                self._ready_to_fork = True
                return ()
        if self._victim == 0:
            return (message,)
        if isinstance(message, Propose) and self._shown(message):
            return (message,) if to in (self._victim, self._second) else ()
        if isinstance(message, Vote):
            return (message,) if to == self._victim and self._fork is None else ()
        if isinstance(message, Timeout) and self._below is not None and message.era == self._below.era:
            signature = scene.notary.give_up(message.era, message.view, self._below.rank)
            return (msgspec.structs.replace(message, high=self._below, signature=signature),)
        return (message,) if isinstance(message, Submit | Timeout) else ()

    def _begin(self, propose: Propose) -> None:
        scene, justify = self.scene, propose.link.justify
        hidden = self._blocks.get(justify.ballot.block)
        below = self._by_block.get(hidden.parent) if hidden is not None else None
        if len(scene.voters) != 4 or propose.link.block.step == 0 or below is None or scene.chance.random() < 0.5:
            return
        self._victim, self._second = scene.chance.sample(scene.others, 2)
        self._below, self._since, self._era = below, scene.now, propose.link.block.era
        scene.cut(self._victim, False)
        self._at_once = scene.chance.random() < 0.3
        self._hidden_in = block_id(propose.link.block)

    def _shown(self, propose: Propose) -> bool:
        return block_id(propose.link.block) == self._hidden_in

    def invent(self) -> Iterable[Invented]:
        """Hide the victim, then the fork, then the block that commits it."""
        scene = self.scene
        if self._victim == 0:
            return
        scene.cut(self._victim, scene.now - self._since >= _HIDE_TICKS)
        if scene.now - self._since == _HIDE_TICKS:
            self._ready_to_fork = self._ready_to_fork or self._at_once
        if scene.now - self._since > _PATIENCE_TICKS:
            self.__init__(scene)  # type: ignore[misc]
            return
        if self._ready_to_fork and scene.now - self._since > _HIDE_TICKS and self._last is not None:
            self._ready_to_fork = False
            last = self._last.link.block
            step = 0 if last.step == 0 and last.view > self._view_of_hidden() else last.step + 1
            assert self._below is not None
            yield from self._propose((last.view, step), self._below, self._last.entry if step == 0 else None)
        elif self._fork is not None and len(self._votes) + 1 >= 3:
            yield from self._commit_fork()

    def _view_of_hidden(self) -> int:
        hidden = self._blocks.get(self._hidden_in)
        return hidden.view if hidden is not None else 0

    def _commit_fork(self) -> Iterable[Invented]:
        assert self._fork is not None
        scene, block = self.scene, self._fork.link.block
        votes = [*self._votes.values()]
        own = scene.sign_vote(block.era, block.rank, votes[0].ballot, self._fork.signature)
        signed = tuple((vote.member, vote.signature) for vote in (*votes, own))
        certificate = Certificate(block.era, *block.rank, votes[0].ballot, self._fork.signature, signed)
        yield from self._propose((block.view, block.step + 1), certificate, None)

    def _propose(self, rank: tuple[int, int], justify: Certificate, entry: Any) -> Iterable[Invented]:
        scene = self.scene
        number = scene.chance.randrange(1 << 20, 1 << 40)
        requests: tuple[Request, ...] = (scene.notary.request(number, Kind.COMMAND, scene.command()),)
        block = Block(justify.era, *rank, justify.ballot.block, justify.ballot.last + 1, requests)
        self._fork, self._votes = scene.sign_block(block, justify, entry), {}
        commits = (justify.ballot.block, justify.ballot.last) if rank[1] > 0 else (b"", 0)
        ballot = Ballot(block_id(block), block.last, *commits)
        vote = scene.sign_vote(block.era, rank, ballot, self._fork.signature)
        for other in scene.others:
            if other != self._victim:
                yield other, self._fork
                yield other, vote
