"""How a member that missed something gets it: it asks, and believes only certificates."""

import msgspec

from actors.consensus.bft.changes import membership_after
from actors.consensus.bft.checkpoints import Checkpoints
from actors.consensus.bft.era import Era
from actors.consensus.bft.ledger import Foundation, foundation_of
from actors.consensus.bft.messages import EraEnd, Fetch, Install, Link, Links, Status, block_id
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.state import State
from actors.consensus.bft.voting import Voting
from actors.consensus.ready import Member, Snapshot

_LINKS = 64
_CLAIMS = 32


class CatchingUp:
    """Statuses, and what is fetched because of them."""

    def __init__(self, state: State, voting: Voting, checkpoints: Checkpoints) -> None:
        self._state = state
        self._voting = voting
        self._checkpoints = checkpoints
        self._asked: dict[Member, int] = {}
        self._answered: dict[Member, int] = {}
        self._told: dict[Member, int] = {}
        self.installed: Snapshot | None = None
        """A snapshot to install, for the core."""

    def status(self) -> Status:
        """Where this member stands."""
        state = self._state
        return Status(
            era=state.era.number,
            view=state.view,
            committed=state.ledger.last,
            high=state.promise.high,
            entry=state.entry,
            checkpoint=self._checkpoints.latest,
            claims=state.witness.loose(_CLAIMS),
        )

    def tell(self, member: Member) -> None:
        """Show a member that lags where this one stands; once a tick at most."""
        if self._told.get(member) != self._state.now:
            self._told[member] = self._state.now
            self._state.send(member, self.status())

    def on_status(self, sender: Member, status: Status) -> None:
        """Take what is new in it; fetch if there is more than fits into a status."""
        state = self._state
        for claim in status.claims[:_CLAIMS]:
            if claim.era <= state.era.number:
                state.hear(claim)
        if status.era > state.era.number or status.committed > state.ledger.last:
            self.fetch(sender)
        if status.era < state.era.number:
            self.tell(sender)
        if status.era != state.era.number:
            return
        if status.checkpoint is not None:
            self._checkpoints.hear(status.checkpoint)
        if status.high.rank > state.promise.high.rank:
            self._voting.accept(status.high)
        entry = status.entry
        if (
            entry is not None
            and (entry.view + 1 > state.view or (entry.view + 1 == state.view and state.entry is None))
            and state.notary.timed_out(entry, state.era)
        ):
            state.enter(entry.view + 1, entry)

    def fetch(self, member: Member) -> None:
        """Ask `member` for what comes next; once a beat at most."""
        state = self._state
        if member != state.me and state.now >= self._asked.get(member, 0):
            self._asked[member] = state.now + state.settings.beat
            state.send(member, Fetch(state.era.number, state.ledger.last))

    def on_fetch(self, sender: Member, fetch: Fetch) -> None:
        """Answer with blocks or the snapshot; once a tick at most."""
        state, ledger = self._state, self._state.ledger
        if not 0 <= fetch.era <= state.era.number or self._answered.get(sender) == state.now:
            return
        self._answered[sender] = state.now
        stable = self._checkpoints.stable
        if fetch.committed > ledger.last:
            return
        if fetch.committed < ledger.base:
            if stable is not None:
                state.send(sender, Install(stable))
            return
        found = [link for link in ledger.chain if link.block.last > fetch.committed and link.block.era == fetch.era]
        if fetch.era < state.era.number:
            end = ledger.ends[fetch.era]
            found += end.links[1:]
            certificate = end.certificate
        else:
            path = ledger.path(state.promise.high.ballot.block)
            found += [node.link for node in path or ()]
            certificate = state.promise.high
            if path is None:
                found, certificate = found[:-1], found[-1].justify if found else certificate
        if len(found) > _LINKS:
            found, certificate = found[:_LINKS], found[_LINKS].justify
        if found:
            state.send(sender, Links(tuple(found), certificate))

    def on_links(self, sender: Member, message: Links) -> None:
        """Take blocks as far as certificates vouch for them."""
        state = self._state
        before = state.ledger.last
        links = message.links[: 2 * _LINKS]
        for at, link in enumerate(links):
            if link.block.last <= state.ledger.last:
                continue
            name = block_id(link.block)
            following = links[at + 1].justify if at + 1 < len(links) else message.certificate
            vouched = name in (following.ballot.block, following.ballot.commits)
            if link.block.era != state.era.number or not vouched or not state.notary.certified(following, state.era):
                break
            self._voting.accept(link.justify)
            self._voting.adopt(link, name)
            self._voting.accept(following)
        if state.ledger.last > before:
            self._asked.pop(sender, None)

    def on_install(self, snapshot: Snapshot) -> bool:
        """Take over a snapshot that a quorum signed, if it is ahead of the log here; whether it was."""
        state = self._state
        if snapshot.index <= state.ledger.last:
            return False
        try:
            foundation = foundation_of(snapshot)
        except msgspec.MsgspecError:
            return False
        if not _well_founded(snapshot, foundation, state.era, state.notary):
            return False
        state.entries.clear()
        era = state.era.number
        state.ledger.install(snapshot, foundation)
        self._checkpoints.stable = self.installed = snapshot
        state.dirty = True
        if state.era.number != era:
            self._checkpoints.begin_era()
            self._voting.begin_era()
            state.begin_era()
        self._checkpoints.settled(snapshot.index)
        return True


def _well_founded(snapshot: Snapshot, foundation: Foundation, era: Era, notary: Notary) -> bool:
    """Whether certificates lead from `era` to the snapshot's, and its quorum signed just this state."""
    for end in foundation.ends[era.number :]:
        following = _follow(end, era, notary)
        if following is None:
            return False
        era = following
    return (
        foundation.era == era
        and snapshot.membership == era.membership
        and snapshot.term == foundation.view
        and notary.checkpointed(
            era, snapshot.index, foundation.digest(snapshot.index, snapshot.digest), foundation.votes
        )
    )


def _follow(end: EraEnd, era: Era, notary: Notary) -> Era | None:
    """The era after `end`, if it is the end of `era`."""
    links: tuple[Link, ...] = end.links
    if not links or links[0].block.change is None or links[0].block.era != era.number:
        return None
    names = [block_id(link.block) for link in links]
    if any(link.block.parent != name for link, name in zip(links[1:], names, strict=False)):
        return None
    if end.certificate.ballot.commits != names[-1] or not notary.certified(end.certificate, era):
        return None
    membership = membership_after(links[0].block.change, era.membership)
    return era.after(links[0].block, membership) if membership is not None else None
