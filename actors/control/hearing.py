"""Whose answer a node believes: its own member's; else, where members may lie, what f + 1 of them say alike."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, Protocol, TypeVar

import msgspec

from actors.config.schema import Consensus
from actors.control.lease_rules import attestations
from actors.control.messages import Outcome, Watched
from actors.errors import NoMajority, NovaCronError, StateRefused, Unreachable

_Answer = TypeVar("_Answer", bound=msgspec.Struct)
_PAUSE_S = 0.2
_PATIENCE_S = 0.5
"""Where nobody has said anything else yet, others that are being asked may take so much longer than the first."""
NOT_DONE, UNKNOWN = "not done", "unknown"


def words(consensus: Consensus, members: int) -> int:
    """How many of `members` have to say the same: f + 1 where they may agree in BFT, so that one of them is honest.

    That is taken from this node's own configuration: which protocol it is now would be a member's word again.
    """
    return attestations(members) if consensus.mode in ("bft", "adaptive") else 1


class Ballot(Protocol[_Answer]):
    """What members said to one question."""

    def counted(self, node: str, answer: _Answer | NovaCronError) -> _Answer | NovaCronError | None:
        """What is believed, now that the member on `node` says this too; None: nothing yet."""
        ...

    def split(self) -> bool:
        """Whether members said different things."""
        ...


class Alike(Generic[_Answer]):
    """Believes what `needed` members said, each at any time since the question was asked, or `here`'s alone.

    An answer of an honest member was true at some time since then, and of `needed` that say the same one is honest.
    """

    def __init__(self, needed: int, here: str) -> None:
        self._needed, self._here = needed, here
        self._said: list[tuple[object, set[str]]] = []

    def counted(self, node: str, answer: _Answer | NovaCronError) -> _Answer | NovaCronError | None:
        """See `Ballot`."""
        meant = _meant(answer)
        said = next((nodes for other, nodes in self._said if other == meant), None)
        if said is None:
            self._said.append((meant, said := set()))
        said.add(node)
        return answer if node == self._here or len(said) >= self._needed else None

    def split(self) -> bool:
        """See `Ballot`."""
        return len(self._said) > 1


class Opening:
    """Of a session: a number is believed at once, since one that is false opens nothing; a refusal as others are."""

    def __init__(self, needed: int, here: str) -> None:
        self._refusals: Alike[Outcome] = Alike(needed, here)

    def counted(self, node: str, answer: Outcome | NovaCronError) -> Outcome | NovaCronError | None:
        """See `Ballot`."""
        return answer if isinstance(answer, Outcome) else self._refusals.counted(node, answer)

    def split(self) -> bool:
        """See `Ballot`."""
        return self._refusals.split()


class Watching:
    """Of events after revision `after`: believes them as far as `needed` members tell the same, or `here`'s alone.

    Honest members tell all events up to the revision that they name. Before `waits_until` (monotonic) it is not
    believed that there are none up to some revision while anybody tells of some: one that lies could name each revision
    by itself; nor that there are none at all, when an honest member would wait.
    """

    def __init__(self, needed: int, here: str, after: int, waits_until: float) -> None:
        self._needed, self._here = needed, here
        self._after, self._waits_until = after, waits_until
        self._told: dict[str, Watched] = {}

    def counted(self, node: str, answer: Watched | NovaCronError) -> Watched | NovaCronError | None:
        """See `Ballot`."""
        if isinstance(answer, NovaCronError):
            return answer if node == self._here else None
        if node == self._here:
            return answer
        self._told[node] = answer
        for upto in sorted({each.revision for each in self._told.values()}, reverse=True):
            if (found := self._up_to(upto)) is not None:
                return found
        return None

    def split(self) -> bool:
        """See `Ballot`."""
        return False

    def _up_to(self, upto: int) -> Watched | None:
        """What enough of those that tell as far as revision `upto` say alike, up to there."""
        reach = [msgspec.structs.replace(each, revision=upto) for each in self._told.values() if each.revision >= upto]
        cut = [msgspec.structs.replace(each, events=[e for e in each.events if e.revision <= upto]) for each in reach]
        alike = next((each for each in cut if cut.count(each) >= self._needed), None)
        if alike is None or upto < self._after:
            return None
        if _is_news(alike) or time.monotonic() >= self._waits_until:
            return alike
        return None if upto == self._after or any(map(_is_news, self._told.values())) else alike


def _is_news(told: Watched) -> bool:
    return bool(told.events) or told.forgotten


class Hearing(Generic[_Answer]):
    """One question, put to members until an answer is believed.

    Args:
        nodes: the members', in the order in which they are asked, again and again.
        here: this node: if it is the first its member is asked alone before the others are.
        at_once: so many are asked at a time.
        ask: asks the member on a node.
        until: on the monotonic clock.
    """

    def __init__(
        self,
        nodes: list[str],
        here: str,
        at_once: int,
        ask: Callable[[str], Awaitable[_Answer]],
        ballot: Ballot[_Answer],
        until: float,
    ) -> None:
        self._nodes, self._here, self._at_once = nodes, here, at_once
        self._ask, self._ballot, self._until = ask, ballot, until
        self._doubt, self._reason = False, "nobody was asked"

    async def answer(self, what: str, deadline_s: float, *, reads: bool = False) -> _Answer:
        """What is believed; `what` was asked for, within `deadline_s`. A question that only `reads` does nothing.

        Raises:
            NovaCronError: members refuse it so; a `StateRefused` has the field `doubt` where some attempt may have been
                agreed on nevertheless.
            NoMajority: the time is up.
        """
        found = await self._found()
        doubt = self._doubt or self._ballot.split()
        if found is None:
            outcome = UNKNOWN if reads or doubt else NOT_DONE
            raise NoMajority(what=what, deadline_s=deadline_s, outcome=outcome, reason=self._reason)
        if isinstance(found, StateRefused) and doubt:
            found.fields["doubt"] = 1
        if isinstance(found, NovaCronError):
            raise found
        return found

    async def _found(self) -> _Answer | NovaCronError | None:
        turns = itertools.cycle(self._nodes)
        if self._at_once == 1:
            return await self._in_turn(turns)
        if self._nodes[0] == self._here and (found := await self._once(next(turns))) is not None:
            return found
        voices = [asyncio.create_task(self._in_turn(turns)) for _ in range(self._at_once)]
        try:
            for voice in asyncio.as_completed(voices):
                if (found := await voice) is not None:
                    return found
            return None
        finally:
            for each in voices:
                each.cancel()
            await asyncio.gather(*voices, return_exceptions=True)

    async def _in_turn(self, turns: Iterator[str]) -> _Answer | NovaCronError | None:
        while time.monotonic() < self._until:
            if (found := await self._once(next(turns))) is not None:
                return found
        return None

    async def _once(self, node: str) -> _Answer | NovaCronError | None:
        answer: _Answer | NovaCronError | None = None
        try:
            answer = await self._ask(node)
        except NoMajority as error:
            # Where members may lie nobody is believed alone that nothing was done.
            believed = self._at_once == 1 or node == self._here
            self._doubt = self._doubt or not believed or error.fields["outcome"] != NOT_DONE
            self._reason = str(error.fields["reason"])
        except Unreachable as error:
            self._doubt, self._reason = True, str(error)
        except NovaCronError as error:
            answer = error
        found = self._ballot.counted(node, answer) if answer is not None else None
        if found is None:
            split = self._ballot.split()
            if answer is not None and split:
                self._reason = "too few members say the same"
            pause_s = _PATIENCE_S if answer is not None and not split and self._at_once > 1 else _PAUSE_S
            await asyncio.sleep(min(pause_s, max(0.0, self._until - time.monotonic())))
        return found


def _meant(answer: object) -> object:
    """What two members' answers have in common if they mean the same."""
    if isinstance(answer, StateRefused):
        return answer.code, answer.fields.get("refusal")
    return (answer.code, answer.fields) if isinstance(answer, NovaCronError) else answer
