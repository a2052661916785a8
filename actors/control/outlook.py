"""How a member stands: what its shell, its chores and its views read of its core and its disk."""

from actors.consensus.chain import Chain, Protocol
from actors.consensus.raft.core import Raft
from actors.consensus.ready import Entry, Member
from actors.control.decision import Electorate
from actors.control.replica import Replica
from actors.control.shelf import Shelf


class Outlook:
    """Read-only, over one member's core and shelf.

    `told`: in BFT, up to which entry each other member last said that it has committed.
    """

    me: Member
    core: Chain
    shelf: Shelf
    replica: Replica
    told: dict[Member, int]

    @property
    def snapshot_index(self) -> int:
        """The entry up to which a snapshot stands for the log."""
        return self.shelf.newest.log.snapshot().index

    @property
    def leads(self) -> bool:
        """Whether this member leads, as far as it knows."""
        core = self.core.core
        return core.leads if isinstance(core, Raft) else core.leader == self.me

    @property
    def proposes(self) -> bool:
        """Whether it is for this member to propose what has to be: the leader's in Raft, everybody's in BFT."""
        return self.leads if self.core.protocol is Protocol.RAFT else self.me in self.core.membership.voters

    @property
    def last(self) -> int:
        """Index of the newest entry of its log."""
        core = self.core.core
        return core.last if isinstance(core, Raft) else core.commit

    @property
    def unapplied(self) -> tuple[Entry, ...]:
        """The entries of its log in Raft that are not applied here yet, committed or not."""
        core = self.core.core
        return core.entries(self.replica.state.applied + 1) if isinstance(core, Raft) else ()

    @property
    def matches(self) -> dict[Member, int]:
        """The newest entry that each member has, as far as this one knows: in Raft only the leader does."""
        core = self.core.core
        if isinstance(core, Raft):
            return {**core.matches, self.me: core.last} if core.leads else {}
        return {**self.told, self.me: core.commit}

    @property
    def has_image(self) -> bool:
        """Whether the snapshot that stands for the log has bytes: a founder's first one has none to be handed on."""
        return bool(self.shelf.newest.log.snapshot().digest)

    @property
    def among(self) -> Electorate:
        """Who agrees now, as far as this member knows it to be committed."""
        return self.among_at(self.core.commit)

    def among_at(self, index: int) -> Electorate:
        """Who agreed on entry `index` of the newest part, not older than its snapshot: as the log itself says."""
        members = self.core.membership_at(index)
        return Electorate(members.voters, members.learners, self.core.protocol is Protocol.BFT)

    @property
    def trusts(self) -> bool:
        """Whether the members take each other's word: in Raft."""
        return self.core.protocol is Protocol.RAFT
