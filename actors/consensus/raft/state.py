"""One member's state, and the few moves that all parts share."""

import enum
from collections import deque

from actors.consensus.chance import Chance
from actors.consensus.raft.config import Config
from actors.consensus.raft.log import Log
from actors.consensus.raft.messages import AppendReply, Message, Vote, VoteReply
from actors.consensus.raft.progress import Progress
from actors.consensus.raft.rules import Rules
from actors.consensus.ready import NOBODY, HardState, Member, Membership, Read, Send
from actors.consensus.storage import Storage

STAMP_TICK = 1 << 20
"""Stamps count within a tick, too: that many."""


class Role(enum.Enum):
    """What a member is in its term."""

    FOLLOWER = "follower"
    ASKING = "asking"
    """Asks whether it would get votes (pre-vote)."""
    CANDIDATE = "candidate"
    LEADER = "leader"


class State:
    """All that a member knows. `now` counts its ticks since it started."""

    def __init__(self, me: Member, storage: Storage, config: Config, seed: int, applied: int, rules: Rules) -> None:
        hard = storage.hard_state()
        self.me, self.config, self.rules = me, config, rules
        self.log = Log(storage, applied, rules)
        self.chance = Chance(seed)
        self.term, self.vote, self.leader = hard.term, hard.vote, NOBODY
        self.persisted: HardState = hard
        self.role = Role.FOLLOWER
        self.now = 0
        self.heard_at = 0  # Before a restart, too, a leader may have been promised that nobody else gets a vote.
        self.timer_at = 0
        self.timeout = self._timeout()
        self.votes: dict[Member, bool] = {}
        self.at_once: list[Send[Message]] = []
        self.after: list[Send[Message]] = []
        self.confirmed: list[Read] = []
        self.stirred = False
        """Whether a leader may have something to send."""
        self._forget_leading()

    def _forget_leading(self) -> None:
        self.progress: dict[Member, Progress] = {}
        self.stamp = 0
        self.stamp_sent = False
        self.leading_since = 0
        self.begins_at = 0
        self.uncommitted_bytes = 0
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.ask_now = False
        self.heir = NOBODY
        self.heir_since = 0
        self.heir_told = False
        self.lease_given_up = False

    def _timeout(self) -> int:
        return self.config.election_ticks + self.chance.below(self.config.election_ticks)

    @property
    def membership(self) -> Membership:
        """The members that count now."""
        return self.log.members.newest

    @property
    def begun(self) -> bool:
        """Whether an entry of this leader's term is committed."""
        return self.log.commit >= self.begins_at

    def restart_timer(self) -> None:
        """Wait a whole election timeout, another one each time."""
        self.timer_at = self.now
        self.timeout = self._timeout()

    def follow(self, term: int, leader: Member) -> None:
        """Be a follower in `term`, of `leader` as far as known."""
        assert term >= self.term, "a term goes back"
        if term != self.term:
            self.term, self.vote = term, NOBODY
        if self.role is Role.LEADER:
            self._forget_leading()
        self.role, self.leader = Role.FOLLOWER, leader
        self.votes = {}
        self.restart_timer()

    def lead(self) -> None:
        """Be the leader of this term."""
        assert self.role is Role.CANDIDATE, "nobody leads without votes"
        self.role, self.leader = Role.LEADER, self.me
        self._forget_leading()
        self.leading_since = self.now
        self.begins_at = self.log.last + 1
        self.stamp = (self.now + 1) * STAMP_TICK
        self.note_members()

    def note_members(self) -> None:
        """Keep a progress for each other member, and for nobody else."""
        membership = self.membership
        others = {*membership.voters, *membership.learners} - {self.me}
        for member in others - self.progress.keys():
            self.progress[member] = Progress(self.log.last + 1)
        for member in self.progress.keys() - others:
            del self.progress[member]
        if self.heir not in membership.voters:
            self.heir = NOBODY

    def matched(self, member: Member) -> int:
        """Last entry that a voter is known to have on disk."""
        if member == self.me:
            return self.rules.own_copy(self.log.persisted, self.log.last)
        return self.progress[member].match

    def heard(self, member: Member) -> int:
        """Newest stamp that a voter has repeated."""
        return self.stamp if member == self.me else self.progress[member].heard

    def reply(self, to: Member, message: AppendReply | Vote | VoteReply) -> None:
        """Send something that rests on what is to be persisted."""
        (self.after if self.rules.acknowledges_after_persisting() else self.at_once).append(Send(to, message))
