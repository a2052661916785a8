"""Views are given up when nothing moves: timers in ticks, which grow while nothing helps."""

from actors.consensus.bft.messages import Rank, Timeout, TimeoutCertificate
from actors.consensus.bft.state import State
from actors.consensus.bft.voting import Voting
from actors.consensus.ready import Member

_PATIENCE = 4
"""A leader that commits others' requests but not one it was told of is given up after so many timeouts."""
_NEVER = 1 << 62
_CALM = 16
"""Blocks committed in a view for each halving of its timeout."""


class Views:
    """When this member gives up, and when enough others do."""

    def __init__(self, state: State, voting: Voting) -> None:
        self._state = state
        self._voting = voting
        self._timeouts: dict[Member, Timeout] = {}
        self._era = state.era.number
        self._level = 0
        self._calm = 0
        self._idle_since = 0
        self._change_since = _NEVER

    @property
    def _patience(self) -> int:
        return self._state.settings.timeout << self._level

    def calm(self, blocks: int) -> None:
        """So many blocks were committed."""
        self._calm += blocks
        if self._calm >= _CALM and self._level > 0:
            self._level, self._calm = self._level - 1, 0

    def tick(self) -> None:
        """Give the view up if it is time."""
        state = self._state
        if not state.busy():
            self._idle_since = state.now
            return
        if state.promise.timed_out >= state.view:
            if state.now % state.settings.beat == 0:
                self._tell()
            return
        moved = max(state.entered, self._idle_since)
        if state.now - moved > self._patience or self._is_ignored() or state.era.leader(state.view) in state.caught:
            self._give_up(state.view)

    def _is_ignored(self) -> bool:
        """Whether the leader has not proposed for long what it must know of."""
        state = self._state
        changing = bool(state.caught) or state.asks.change(state.era, state.notary.rules) is not None
        self._change_since = min(self._change_since, state.now) if changing else _NEVER
        oldest = min(state.pool.oldest(_NEVER), self._change_since)
        return state.now - max(oldest, state.view_since) > _PATIENCE * self._patience

    def _give_up(self, view: int) -> None:
        state = self._state
        if not state.active or state.promise.timed_out >= view:
            return
        state.enter(view, None)
        state.promise.timed_out = view
        state.dirty = True
        self._level, self._calm = min(self._level + 1, state.settings.doublings), 0
        self._tell()

    def _tell(self) -> None:
        """Sign the highest certificate known now: it only ever rises."""
        state = self._state
        era, view, high = state.era.number, state.promise.timed_out, state.promise.high
        timeout = Timeout(state.me, era, view, high, state.notary.give_up(era, view, high.rank))
        state.broadcast(timeout)
        self._count(timeout)

    def on_timeout(self, timeout: Timeout) -> bool:
        """Somebody gave a view up; False if that member lags behind this one."""
        state = self._state
        if timeout.era != state.era.number or not state.era.votes(timeout.member):
            return True
        if timeout.view < state.view:
            self._voting.accept(timeout.high)
            return False
        known = self._timeouts.get(timeout.member)
        if (
            known is not None
            and (known.era, known.view) == (timeout.era, timeout.view)
            and _rank(known) == _rank(timeout)
        ):
            return True
        if not state.notary.gave_up(timeout.member, timeout.era, timeout.view, _rank(timeout), timeout.signature):
            return True
        if self._voting.accept(timeout.high) and timeout.era == state.era.number:
            self._count(timeout)
        return True

    def _count(self, timeout: Timeout) -> None:
        state = self._state
        if self._era != state.era.number:
            self._timeouts, self._era = {}, state.era.number
        known = self._timeouts.get(timeout.member)
        if known is not None and (known.view, _rank(known)) > (timeout.view, _rank(timeout)):
            return
        self._timeouts[timeout.member] = timeout
        views = sorted((t.view for t in self._timeouts.values()), reverse=True)
        enough = state.notary.rules.honest_one(state.era.size)
        if len(views) >= enough:
            joined = views[enough - 1]
            if joined >= state.view:
                self._give_up(joined)
        self._certify(timeout.view)

    def _certify(self, view: int) -> None:
        state = self._state
        given_up = [t for t in self._timeouts.values() if t.view == view]
        if len(given_up) >= state.notary.quorum(state.era) and view >= state.view:
            timeouts = tuple((t.member, *_rank(t), t.signature) for t in given_up)
            state.enter(view + 1, TimeoutCertificate(state.era.number, view, timeouts))


def _rank(timeout: Timeout) -> Rank:
    return timeout.high.rank
