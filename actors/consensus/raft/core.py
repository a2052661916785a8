"""The face of Raft: the contract of `actors.consensus.core` over the parts beside it."""

import sys

from actors.consensus.raft import election, members, read, replication
from actors.consensus.raft.config import Config
from actors.consensus.raft.messages import Append, AppendReply, Install, Message, TimeoutNow, Vote, VoteReply
from actors.consensus.raft.rules import RULES, Rules
from actors.consensus.raft.state import Role, State
from actors.consensus.ready import NOBODY, Accepted, Entry, Kind, Member, Membership, Ready, Refused, Why
from actors.consensus.storage import Storage

_LEADERS_OWN = (Append, Install, TimeoutNow)


class Raft:
    """One member of a Raft group; see `Core`.

    `storage` is what the member had on disk when it stopped, `seed` fixes its election timeouts (a different one for
    each member), `applied` is the last entry that its state machine has durably applied.
    """

    def __init__(
        self, me: Member, storage: Storage, config: Config, seed: int, applied: int = 0, rules: Rules = RULES
    ) -> None:
        assert me != NOBODY, "that is nobody's number"
        self._state = State(me, storage, config, seed, applied, rules)
        self._given: Ready[Message] | None = None
        self._kept = (self._state.term, self._state.vote)

    @property
    def me(self) -> Member:
        """See `Core`."""
        return self._state.me

    @property
    def term(self) -> int:
        """See `Core`."""
        return self._state.term

    @property
    def leader(self) -> Member:
        """See `Core`."""
        return self._state.leader

    @property
    def leads(self) -> bool:
        """Whether this member leads its term."""
        return self._state.role is Role.LEADER

    @property
    def has_lease(self) -> bool:
        """Whether it would answer a read by itself now."""
        state = self._state
        return state.role is Role.LEADER and state.rules.may_read(state.begun) and read.has_lease(state)

    @property
    def last(self) -> int:
        """Index of the newest entry of its log, on disk or not."""
        return self._state.log.last

    @property
    def matches(self) -> dict[Member, int]:
        """While it leads: the newest entry that it knows to be on each other member's disk."""
        return {member: progress.match for member, progress in self._state.progress.items()}

    @property
    def membership(self) -> Membership:
        """See `Core`."""
        return self._state.membership

    @property
    def commit(self) -> int:
        """See `Core`."""
        return self._state.log.commit

    @property
    def sealed(self) -> int:
        """See `Core`."""
        log = self._state.log
        return self._state.rules.seals(log.switch, log.commit)

    def membership_at(self, index: int) -> Membership:
        """See `Core`."""
        return self._state.log.members.at(index)

    def term_at(self, index: int) -> int | None:
        """Term of entry `index`, also of one that is not on disk yet; None if it is not in the log."""
        return self._state.log.term(index)

    def entries(self, first: int) -> tuple[Entry, ...]:
        """The entries of its log from `first` on, committed or not, on disk or not, but what a snapshot stands for."""
        log = self._state.log
        first = max(first, log.base.index + 1)
        return log.slice(first, log.last, sys.maxsize) if first <= log.last else ()

    def step(self, sender: Member, message: Message) -> None:
        """See `Core`."""
        state = self._state
        match message:
            case Append():
                if replication.is_well_formed(message):
                    replication.on_append(state, sender, message)
            case AppendReply():
                replication.on_append_reply(state, sender, message)
            case Install():
                replication.on_install(state, sender, message)
            case Vote():
                election.on_vote(state, sender, message)
            case VoteReply():
                election.on_vote_reply(state, sender, message)
            case TimeoutNow():
                election.on_timeout_now(state, message)

    def tick(self) -> None:
        """See `Core`."""
        state = self._state
        state.now += 1
        if state.role is Role.LEADER:
            replication.tick(state)
            election.check_quorum(state)
        else:
            election.tick(state)

    def propose(self, payload: bytes, kind: Kind = Kind.COMMAND) -> Accepted | Refused:
        """See `Core`; `NOOP` and `EVIDENCE` are not for Raft's callers."""
        state = self._state
        if state.role is not Role.LEADER:
            return Refused(Why.NOT_LEADER, state.leader)
        if len(payload) > state.config.entry_bytes:
            return Refused(Why.TOO_LARGE, state.me)
        if state.log.switch or state.heir != NOBODY:
            return Refused(Why.CHANGING, state.leader)
        if state.uncommitted_bytes and state.uncommitted_bytes + len(payload) > state.config.uncommitted_bytes:
            return Refused(Why.BUSY, state.me)
        if kind is Kind.MEMBERSHIP and (why := self._why_not(payload)) is not None:
            return Refused(why, state.me)
        if kind not in (Kind.COMMAND, Kind.MEMBERSHIP, Kind.SWITCH):
            return Refused(Why.INVALID, state.me)
        entry = replication.put(state, kind, payload)
        return Accepted(entry.index, entry.term)

    def _why_not(self, payload: bytes) -> Why | None:
        state = self._state
        new = members.decode(payload)
        if new is None or not state.rules.changes_one(state.membership.voters, new.voters):
            return Why.INVALID
        if not state.rules.may_change(state.log.members.changed_at, state.log.commit, state.begun):
            return Why.CHANGING
        return None

    def transfer(self, heir: Member) -> Refused | None:
        """Make `heir`, a voter, the leader soon, without waiting for anybody's silence.

        Proposals are refused meanwhile. It is given up after an election timeout. This leader answers no more reads
        by lease in its term.
        """
        state = self._state
        if state.role is not Role.LEADER:
            return Refused(Why.NOT_LEADER, state.leader)
        if state.heir != NOBODY:
            return Refused(Why.CHANGING, state.me)
        if heir == state.me or heir not in state.membership.voters:
            return Refused(Why.INVALID, state.me)
        state.heir, state.heir_since, state.heir_told = heir, state.now, False
        replication.hand_over(state)
        return None

    def read(self, context: bytes) -> Refused | None:
        """See `Core`."""
        return read.ask(self._state, context)

    def ready(self) -> Ready[Message] | None:
        """See `Core`."""
        assert self._given is None, "advance() was not called"
        state, log = self._state, self._state.log
        if state.stirred and state.role is Role.LEADER:
            replication.flush(state)
        state.stirred = False
        writes = log.has_unwritten or state.term != self._kept[0] or state.vote != self._kept[1]
        if not (writes or state.at_once or state.after or state.confirmed or log.has_news):
            return None
        self._kept = (state.term, state.vote)
        entries = log.unwritten()
        self._given = given = Ready(
            at_once=tuple(state.at_once),
            snapshot=log.pending,
            entries=entries,
            hard_state=state.rules.remembers(state.term, state.vote, log.commit) if writes else None,
            after_persisting=tuple(state.after),
            committed=log.hand_out(state.config.append_entries, state.config.append_bytes),
            reads=tuple(state.confirmed),
        )
        self._check(given)
        state.at_once, state.after, state.confirmed = [], [], []
        return given

    def _check(self, given: Ready[Message]) -> None:
        """Nothing that rests on what is to be persisted goes out before it is."""
        state = self._state
        if not state.rules.acknowledges_after_persisting():
            return
        for send in given.at_once:
            assert isinstance(send.message, _LEADERS_OWN), "a promise would go out before it is kept"
            assert send.message.term <= state.persisted.term, "a leader's term is not on disk"

    def advance(self) -> None:
        """See `Core`."""
        assert self._given is not None, "ready() was not called"
        state, given = self._state, self._given
        self._given = None
        if given.hard_state is not None:
            state.persisted = given.hard_state
        state.log.written(given.snapshot)
        election.vote_is_kept(state)
        if state.role is Role.LEADER and given.entries:
            replication.count_copies(state)
