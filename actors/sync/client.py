"""The writer's and reader's side of the site's facts."""

import msgspec

from actors.calls.messages import Empty
from actors.calls.protocol import Calls
from actors.sync.messages import AddSample, FactList, FactsQuery, PutFact, ReplicaState

_CALL_S = 3.0


class FactsClient:
    """The facts of this site's replica, from any actor of the site.

    Never for who owns a guest: that is agreed, not joined.

    Args:
        calls: the way to other actors.
    """

    def __init__(self, calls: Calls, deadline_s: float = _CALL_S) -> None:
        self._calls, self._to, self._deadline_s = calls, calls.central("facts"), deadline_s

    async def put(self, key: str, value: object) -> None:
        """Write a fact: what `msgspec.json` can encode in 4 KiB; None removes it.

        Raises:
            BadRequest: it is too long, or there are too many facts.
            Unreachable: the facts actor is not there.
        """
        raw = None if value is None else msgspec.json.encode(value)
        await self._calls.call(self._to, "put", PutFact(key=key, value=raw), Empty, self._deadline_s)

    async def sample(self, key: str, value: object) -> None:
        """Add a sample of at most 64 bytes of JSON to a series; the newest 60 are kept. Raises as `put`."""
        request = AddSample(key=key, value=msgspec.json.encode(value))
        await self._calls.call(self._to, "sample", request, Empty, self._deadline_s)

    async def find(self, query: FactsQuery) -> FactList:
        """The facts under a prefix; raises `Unreachable`."""
        return await self._calls.call(self._to, "find", query, FactList, self._deadline_s)

    async def state(self) -> ReplicaState:
        """How the replica and its exchanges stand; raises `Unreachable`."""
        return await self._calls.call(self._to, "state", Empty(), ReplicaState, self._deadline_s)
