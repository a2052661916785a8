"""Requests: this member's own, which it repeats until they are committed, and those that others made."""

from typing import NamedTuple

from actors.consensus.bft.messages import Block, Request, Submit
from actors.consensus.bft.state import State
from actors.consensus.ready import Kind, Read

_RESERVED = 1024
"""Numbers that are promised at once, so that not every request waits for the disk."""
_REPEATED = 64


class _Own(NamedTuple):
    kind: Kind
    payload: bytes
    context: bytes | None


class Requests:
    """A request whose number was overtaken can never be committed; then this member makes it again."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._own: dict[int, _Own] = {}
        self._new: list[Request] = []
        self._reads: list[Read] = []
        self._next = max(1, state.promise.numbers_below, state.ledger.numbers.get(state.me, 0) + 1)

    def room(self) -> bool:
        """Whether this member may ask for one more."""
        return len(self._own) < self._state.settings.pending and self._state.pool.room(self._state.me)

    def make(self, kind: Kind, payload: bytes, context: bytes | None = None) -> None:
        """Ask for an entry; of a read (`context`), which is an empty entry, only the place matters."""
        state, number = self._state, self._next
        self._next += 1
        if number >= state.promise.numbers_below:
            state.promise.numbers_below = number + _RESERVED
            state.dirty = True
        self._own[number] = _Own(kind, payload, context)
        request = state.notary.request(number, kind, payload)
        if state.pool.room(state.me):
            state.pool.add(request, state.now)
        self._new.append(request)

    def flush(self) -> None:
        """Tell the others about new requests, in one message."""
        if self._new:
            self._state.broadcast(Submit(tuple(self._new)))
            self._new = []

    def take(self, request: Request) -> None:
        """A request that somebody passed on."""
        state = self._state
        if (
            request.number > state.ledger.numbers.get(request.proposer, 0)
            and state.era.knows(request.proposer)
            and not state.ledger.sealed
            and state.pool.get(request.proposer, request.number) is None
            and state.pool.room(request.proposer)
            and request.kind in (Kind.COMMAND, Kind.NOOP)
            and len(request.payload) <= state.settings.payload_bytes
            and state.notary.requested(request)
        ):
            state.pool.add(request, state.now)

    def repeat(self) -> None:
        """Pass on what has waited for a beat: whoever hears of it watches the leader."""
        state = self._state
        old = state.pool.older(state.now - state.settings.beat, _REPEATED)
        asks = state.asks.of(state.me)
        if old or asks:
            state.broadcast(Submit(old, asks))

    def committed(self, block: Block) -> None:
        """Take note of a block that was committed."""
        for at, request in enumerate(block.requests):
            self._state.pool.forget(request.proposer, request.number)
            own = self._own.pop(request.number, None) if request.proposer == self._state.me else None
            if own is not None and own.context is not None:
                self._reads.append(Read(own.context, block.first + at))
        mine = [request.number for request in block.requests if request.proposer == self._state.me]
        if mine:
            self._overtaken(mine[-1])

    def skip(self) -> None:
        """A snapshot was installed: what became of the requests in it can't be told, only that they are past."""
        numbers = self._state.ledger.numbers
        for member, number in numbers.items():
            self._state.pool.forget(member, number)
        mine = numbers.get(self._state.me, 0)
        self._own = {number: own for number, own in self._own.items() if number > mine}

    def _overtaken(self, last: int) -> None:
        for number in sorted(n for n in self._own if n < last):
            own = self._own.pop(number)
            self.make(*own)

    def answered(self, applied: int) -> tuple[Read, ...]:
        """Reads whose place is up to `applied`."""
        if not self._reads:
            return ()
        done = tuple(read for read in self._reads if read.index <= applied)
        self._reads = [read for read in self._reads if read.index > applied]
        return done
