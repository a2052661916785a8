"""The lies: told with some of what a liar's cores say (`distort`), out of the blue (`invent`), or by not hearing.

A lie is signed by the liar wherever it can be: what only looks wrong is easy to refuse.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from actors.consensus.bft.era import Era
from actors.consensus.bft.ledger import Foundation
from actors.consensus.bft.messages import (
    Ballot,
    Block,
    Certificate,
    Fetch,
    Install,
    Link,
    Links,
    Phase,
    Propose,
    Request,
    Status,
    Submit,
    Timeout,
    Vote,
    block_id,
)
from actors.consensus.ready import Kind, Member, Membership, Snapshot
from benchmarks.agreeing.lying.burial import Burial
from benchmarks.agreeing.lying.lie import KEY, Invented, Lie, Scene
from benchmarks.agreeing.lying.twin import digest_of
from benchmarks.agreeing.machine import encode


class Silence(Lie):
    """Says nothing for some time, again and again."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._silent = False

    def invent(self) -> Iterable[Invented]:
        """Change between silence and talk."""
        if self.scene.chance.random() < 0.03:
            self._silent = not self._silent
        return ()

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """See the class."""
        return () if self._silent else (message,)


class Withholding(Lie):
    """Lets some members, now these and now those, hear nothing."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._deprived: set[Member] = set()

    def invent(self) -> Iterable[Invented]:
        """Choose anew now and then."""
        if self.scene.chance.random() < 0.05:
            self._deprived = {other for other in self.scene.others if self.scene.chance.random() < 0.4}
        return ()

    def distort(self, to: Member, message: Any) -> Iterable[Any]:
        """See the class."""
        return () if to in self._deprived else (message,)


class Replay(Lie):
    """Says again what it or others said long ago."""

    def invent(self) -> Iterable[Invented]:
        """See the class."""
        scene = self.scene
        if scene.seen and scene.chance.random() < 0.5:
            yield scene.anybody(), scene.chance.choice(scene.seen)


class Flood(Lie):
    """Says a lot that leads nowhere: votes and timeouts of views to come, questions, requests."""

    def invent(self) -> Iterable[Invented]:
        """See the class."""
        scene, chance = self.scene, self.scene.chance
        for _ in range(chance.randrange(4)):
            view = scene.view + chance.randrange(1, 1000)
            high = chance.choice(scene.certificates) if scene.certificates else None
            draw = chance.randrange(4)
            if draw == 0 and high is not None:
                signature = scene.notary.give_up(scene.era, view, high.rank)
                yield scene.anybody(), Timeout(scene.me, scene.era, view, high, signature)
            elif draw == 1:
                ballot = Ballot(chance.randbytes(32), view, b"", 0)
                yield scene.anybody(), scene.sign_vote(scene.era, (view, 0), ballot, chance.randbytes(12))
            elif draw == 2:
                yield scene.anybody(), Fetch(chance.randrange(-1, 3), chance.randrange(-1, 50))
            else:
                requests = tuple(
                    scene.notary.request(chance.randrange(1, 1 << 20), Kind.COMMAND, scene.command()) for _ in range(3)
                )
                yield scene.anybody(), Submit(requests)


class Equivocation(Lie):
    """As a leader, has two blocks in one place, each for some members, and votes for either."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._others: dict[bytes, Propose] = {}
        self._told_other: set[Member] = set()

    def invent(self) -> Iterable[Invented]:
        """Choose anew who is told which."""
        if self.scene.chance.random() < 0.1:
            self._told_other = {other for other in self.scene.others if self.scene.chance.random() < 0.5}
        return ()

    def distort(self, to: Member, message: Any) -> Iterable[Any]:
        """See the class."""
        scene = self.scene
        if to not in self._told_other or not isinstance(message, Propose):
            return (message,)
        name, block = block_id(message.link.block), message.link.block
        if name not in self._others:
            number = scene.chance.randrange(1 << 20, 1 << 30)
            requests = (scene.notary.request(number, Kind.COMMAND, scene.command()),)
            other = msgspec.structs.replace(block, requests=requests, change=None)
            self._others[name] = scene.sign_block(other, message.link.justify, message.entry)
        other_propose = self._others[name]
        other = other_propose.link.block
        justify = message.link.justify.ballot
        commits = (justify.block, justify.last) if block.step > 0 else (b"", 0)
        ballot = Ballot(block_id(other), other.last, *commits)
        return (other_propose, scene.sign_vote(block.era, block.rank, ballot, other_propose.signature))


class WrongDigests(Lie):
    """Votes for blocks that nobody proposed, or to commit what isn't certified; shows blocks with other content."""

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """See the class."""
        scene, chance = self.scene, self.scene.chance
        if chance.random() < 0.6:
            return (message,)
        match message:
            case Vote(member=scene.me, ballot=ballot):
                wrong = (
                    msgspec.structs.replace(ballot, block=chance.randbytes(32)),
                    msgspec.structs.replace(ballot, commits=ballot.block, commits_last=ballot.last),
                )
                rank = (message.view, message.step)
                return (scene.sign_vote(message.era, rank, chance.choice(wrong), message.proposal),)
            case Links(links=links, certificate=certificate) if links:
                last = links[-1]
                block = msgspec.structs.replace(
                    last.block, requests=(Request(scene.me, 1 << 40, Kind.COMMAND, scene.command()),)
                )
                return (Links((*links[:-1], Link(block, last.justify)), certificate),)
            case Propose(link=Link(block=block, justify=justify)):
                wrong_block = msgspec.structs.replace(block, parent=chance.randbytes(32))
                return (scene.sign_block(wrong_block, justify, message.entry),)
            case _:
                return (message,)


class Forgery(Lie):
    """Says things in others' names, and shows certificates that nobody signed."""

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """A vote comes with everybody's."""
        if isinstance(message, Vote) and self.scene.chance.random() < 0.5:
            return (message, *(self._in_name_of(other, message) for other in self.scene.others))
        return (message,)

    def _in_name_of(self, other: Member, vote: Vote) -> Vote:
        return msgspec.structs.replace(vote, member=other, signature=self.scene.chance.randbytes(12))

    def invent(self) -> Iterable[Invented]:
        """A block of its own, with a certificate that commits it."""
        scene, chance = self.scene, self.scene.chance
        if not scene.certificates or chance.random() < 0.9:
            return
        high = chance.choice(scene.certificates)
        rank = (high.view, high.step + 1)
        request = Request(scene.anybody(), 1 << 40, Kind.COMMAND, scene.command(), chance.randbytes(12))
        block = Block(high.era, *rank, high.ballot.block, high.ballot.last + 1, (request,))
        name = block_id(block)
        votes = tuple((voter, chance.randbytes(12)) for voter in scene.voters)
        ballot = Ballot(name, block.last, name, block.last)
        yield scene.anybody(), Links((Link(block, high),), Certificate(high.era, *rank, ballot, b"forged", votes))


class FalseViews(Lie):
    """Gives views up for no reason, hides the certificates it knows, and as a leader builds on old ones."""

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """See the class."""
        scene = self.scene
        if not scene.certificates or scene.chance.random() < 0.3:
            return (message,)
        old = scene.chance.choice(scene.certificates)
        match message:
            case Timeout(member=scene.me, era=era, view=view) if old.era == era:
                return (Timeout(scene.me, era, view, old, scene.notary.give_up(era, view, old.rank)),)
            case Propose(link=Link(block=block)) if old.era == block.era and old.rank < block.rank:
                changed = msgspec.structs.replace(block, parent=old.ballot.block, first=old.ballot.last + 1)
                return (scene.sign_block(changed, old, message.entry),)
            case _:
                return (message,)

    def invent(self) -> Iterable[Invented]:
        """A view is given up without need."""
        scene = self.scene
        if scene.certificates and scene.chance.random() < 0.2:
            high = scene.chance.choice(scene.certificates)
            view = scene.view + scene.chance.randrange(2)
            signature = scene.notary.give_up(scene.era, view, high.rank)
            for other in scene.others:
                yield other, Timeout(scene.me, scene.era, view, high, signature)


class FalseCheckpoints(Lie):
    """Signs states that nobody has, and offers them to whoever listens."""

    def distort(self, to: Member, message: Any) -> Iterable[Any]:  # noqa: ARG002
        """A status names another digest for each."""
        claim = message.checkpoint if isinstance(message, Status) else None
        if claim is None or self.scene.chance.random() < 0.5:
            return (message,)
        rank = (claim.view, 0)
        false = self.scene.notary.claim(Phase.CHECKPOINT, claim.era, rank, self.scene.chance.randbytes(32))
        return (msgspec.structs.replace(message, checkpoint=false),)

    def invent(self) -> Iterable[Invented]:
        """A state of its own."""
        scene, chance = self.scene, self.scene.chance
        if not scene.certificates or chance.random() < 0.95:
            return
        installs = [message for message in scene.seen if isinstance(message, Install)]
        high = scene.certificates[-1]
        index = high.ballot.last + chance.randrange(1, 50)
        membership = installs[-1].snapshot.membership if installs else Membership(scene.voters)
        era = Era(high.era, membership, high.ballot.block, high.view, high.step, high.ballot.last)
        foundation = Foundation(era, chance.randbytes(32), high.view, high.step, (), ())
        state = digest_of({KEY: 1})
        claim = scene.notary.claim(Phase.CHECKPOINT, high.era, (index, 0), foundation.digest(index, state))
        proof = encode(msgspec.structs.replace(foundation, votes=((scene.me, claim.signature),)))
        yield scene.anybody(), Install(Snapshot(index, high.view, membership, state, proof))


class Censorship(Lie):
    """Doesn't hear what some member asks for."""

    def hears(self, sender: Member, message: Any) -> bool:
        """See the class."""
        return not isinstance(message, Submit) or sender != self.scene.others[0]


LIES: dict[str, type[Lie]] = {
    "silence": Silence,
    "withholding": Withholding,
    "replay": Replay,
    "flood": Flood,
    "equivocation": Equivocation,
    "digests": WrongDigests,
    "forgery": Forgery,
    "views": FalseViews,
    "checkpoints": FalseCheckpoints,
    "censorship": Censorship,
    "burial": Burial,
}
"""By name. `Liar` has two more: "twins" (two cores, each for some members), "amnesia" (goes back to an old disk)."""
