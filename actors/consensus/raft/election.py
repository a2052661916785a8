"""Who leads: pre-vote, votes, resigning (§3.4, §4.2.3, §9.6 of the thesis)."""

from actors.consensus.raft import quorum, replication
from actors.consensus.raft.messages import TimeoutNow, Vote, VoteReply
from actors.consensus.raft.state import STAMP_TICK, Role, State
from actors.consensus.ready import NOBODY, Member


def tick(state: State) -> None:
    """One tick of a member that doesn't lead."""
    if state.now - state.timer_at >= state.timeout and may_campaign(state):
        campaign(state, pre=True)


def may_campaign(state: State) -> bool:
    """Whether it is a voter, by the end of its log or by what is committed.

    A leader that was taking itself out and fell may have the longest log, without which nobody is elected (§4.2.2).
    """
    members = state.log.members
    return state.me in members.newest.voters or state.me in members.at(state.log.commit).voters


def campaign(state: State, *, pre: bool, forced: bool = False) -> None:
    """Ask for votes, or with `pre` whether there would be any: so a member that was cut off unseats nobody."""
    assert state.role is not Role.LEADER, "a leader has no need of votes"
    assert forced or state.rules.is_released(state.now - state.heard_at, state.config.election_ticks) or not pre
    state.votes = {}
    state.leader = NOBODY
    if pre:
        state.role = Role.ASKING
        state.votes[state.me] = True
    else:
        state.role = Role.CANDIDATE
        state.term, state.vote = state.term + 1, state.me  # Its own vote counts once it is on disk: see `vote_is_kept`.
    state.restart_timer()
    log = state.log
    message = Vote(state.term + 1 if pre else state.term, log.last, log.last_term, pre, forced)
    for voter in state.membership.voters:
        if voter != state.me:
            state.reply(voter, message)
    if pre:
        _count(state)


def vote_is_kept(state: State) -> None:
    """What was to be persisted is on disk."""
    if state.role is Role.CANDIDATE and state.persisted.term == state.term and state.me not in state.votes:
        state.votes[state.me] = True
        _count(state)


def on_vote(state: State, sender: Member, message: Vote) -> None:
    """Somebody asks for a vote."""
    rules = state.rules
    if rules.is_stale(message.term, state.term):
        state.reply(sender, VoteReply(state.term, False, message.pre))
        return
    silence = 0 if state.role is Role.LEADER else state.now - state.heard_at
    if not message.forced and not rules.is_released(silence, state.config.election_ticks):
        return
    if message.term > state.term and not message.pre:
        state.follow(message.term, NOBODY)
    free = (message.pre and message.term > state.term) or rules.may_vote(state.vote, state.leader, sender)
    log = state.log
    if not free or not rules.is_up_to_date(message.last_term, message.last_index, log.last_term, log.last):
        state.reply(sender, VoteReply(state.term, False, message.pre))
        return
    if not message.pre:
        state.vote = sender
        state.restart_timer()
    state.reply(sender, VoteReply(message.term, True, message.pre))


def on_vote_reply(state: State, sender: Member, message: VoteReply) -> None:
    """Somebody answered."""
    if message.pre and message.granted:
        if state.role is not Role.ASKING or message.term != state.term + 1:
            return
    elif message.term > state.term:
        state.follow(message.term, NOBODY)
        return
    elif state.rules.is_stale(message.term, state.term) and not message.pre:
        return
    if state.role is (Role.ASKING if message.pre else Role.CANDIDATE):
        state.votes.setdefault(sender, message.granted)
        _count(state)


def on_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader wants this member to follow it up."""
    if message.term == state.term and state.role is not Role.LEADER and state.me in state.membership.voters:
        campaign(state, pre=False, forced=True)


def check_quorum(state: State) -> None:
    """A leader that hears of no majority resigns, so that clients look elsewhere (§6.2)."""
    voters = state.membership.voters
    oldest = (state.now - state.config.election_ticks) * STAMP_TICK
    if state.now - state.leading_since >= state.config.election_ticks and (
        quorum.reached(voters, state.heard, state.rules) < oldest
    ):
        state.follow(state.term, NOBODY)


def _count(state: State) -> None:
    won = quorum.verdict(state.membership.voters, state.votes, state.rules)
    if won is False:
        state.follow(state.term, NOBODY)
    elif won and state.role is Role.ASKING:
        campaign(state, pre=False)
    elif won:
        state.lead()
        replication.begin(state)
