"""Requests that wait for the log, those of each member by their number."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from actors.consensus.bft.messages import Request
from actors.consensus.ready import Member


class Waiting(NamedTuple):
    """A request and the tick in which it came."""

    request: Request
    since: int


class Pool:
    """Bounded per member, so that nobody's flood drives out another's requests."""

    def __init__(self, pending: int, batch: int, batch_bytes: int) -> None:
        self._pending = pending
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._waiting: dict[Member, dict[int, Waiting]] = {}

    def get(self, member: Member, number: int) -> Request | None:
        """The request of that name, if it waits."""
        waiting = self._waiting.get(member, {}).get(number)
        return waiting.request if waiting else None

    def room(self, member: Member) -> bool:
        """Whether `member` may have one more."""
        return len(self._waiting.get(member, ())) < self._pending

    def add(self, request: Request, now: int) -> None:
        """Let a request wait that was checked."""
        assert self.room(request.proposer), "more requests than one member may have"
        self._waiting.setdefault(request.proposer, {})[request.number] = Waiting(request, now)

    def forget(self, member: Member, number: int) -> None:
        """Drop the requests of `member` up to `number`: they are committed or can't be any more."""
        waiting = self._waiting.get(member)
        if waiting:
            for gone in [n for n in waiting if n <= number]:
                del waiting[gone]
            if not waiting:
                del self._waiting[member]

    def keep_only(self, members: tuple[Member, ...]) -> None:
        """Drop the requests of everybody else."""
        self._waiting = {member: waiting for member, waiting in self._waiting.items() if member in members}

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def oldest(self, never: int) -> int:
        """The tick in which the request came that has waited longest; `never` if none waits."""
        return min((w.since for waiting in self._waiting.values() for w in waiting.values()), default=never)

    def older(self, than: int, limit: int) -> tuple[Request, ...]:
        """Up to `limit` requests that came before tick `than`."""
        old = (w.request for waiting in self._waiting.values() for w in waiting.values() if w.since < than)
        return tuple(itertools.islice(old, limit))

    def take(self, numbers: dict[Member, int]) -> tuple[Request, ...]:
        """A batch of what comes after `numbers`, a request of each member in turn. Nothing is dropped."""
        queues = [self._after(member, numbers.get(member, 0)) for member in sorted(self._waiting)]
        taken: list[Request] = []
        room = self._batch_bytes
        while queues and len(taken) < self._batch:
            left = []
            for queue in queues:
                request = next(queue, None)
                if request is None:
                    continue
                if len(request.payload) > room or len(taken) == self._batch:
                    return tuple(taken)
                room -= len(request.payload)
                taken.append(request)
                left.append(queue)
            queues = left
        return tuple(taken)

    def _after(self, member: Member, number: int) -> Iterator[Request]:
        waiting = self._waiting[member]
        return (waiting[n].request for n in sorted(waiting) if n > number)
