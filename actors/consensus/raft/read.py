"""Linearizable reads: by lease, or confirmed by a majority (§6.4 of the thesis)."""

from actors.consensus.raft import quorum
from actors.consensus.raft.state import STAMP_TICK, Role, State
from actors.consensus.ready import Read, Refused, Why


def ask(state: State, context: bytes) -> Refused | None:
    """Ask for a read."""
    if state.role is not Role.LEADER:
        return Refused(Why.NOT_LEADER, state.leader)
    if has_lease(state) and state.rules.may_read(state.begun):
        state.confirmed.append(Read(context, state.log.commit))
        return None
    if len(state.waiting) >= state.config.reads:
        return Refused(Why.BUSY, state.me)
    if state.stamp_sent:  # What was sent before the read confirms nothing.
        state.stamp, state.stamp_sent = state.stamp + 1, False
    state.waiting.append((state.stamp, context))
    state.ask_now = state.stirred = True
    confirm(state)
    return None


def has_lease(state: State) -> bool:
    """Whether a majority heard from this leader so lately that none of them votes for another yet."""
    stamp = quorum.reached(state.membership.voters, state.heard, state.rules)
    age = state.stamp // STAMP_TICK - stamp // STAMP_TICK
    return state.rules.lease_holds(age, state.config.lease_ticks, state.lease_given_up)


def confirm(state: State) -> None:
    """Give out the reads that a majority's answers allow."""
    if not state.waiting or not state.rules.may_read(state.begun):
        return
    stamp = quorum.reached(state.membership.voters, state.heard, state.rules)
    while state.waiting and state.rules.confirms(state.waiting[0][0], stamp):
        state.confirmed.append(Read(state.waiting.popleft()[1], state.log.commit))
