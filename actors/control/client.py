"""`StateClient`: how every other part asks the agreed control state, wherever its members are."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from actors.calls.directory import Directory
from actors.config.schema import Config
from actors.control.author import UNPROVEN, Author
from actors.control.commands import AddMember, AnyCommand, OpenSession, RemoveMember
from actors.control.decision import Refusal
from actors.control.hearing import NOT_DONE, Alike, Ballot, Hearing, Opening, Watching, words
from actors.control.members import KNOWN_FILE, known
from actors.control.messages import (
    SERVICE,
    WAIT_MAX_S,
    ClusterView,
    FlagsAnswer,
    Fresh,
    GuestAnswer,
    GuestsAnswer,
    JobAnswer,
    LeaseAnswer,
    MembersAnswer,
    NodesAnswer,
    OfGuest,
    OfJob,
    OfNode,
    Outcome,
    StandingAnswer,
    Submit,
    TermsAnswer,
    TrailPage,
    TrailQuery,
    Watch,
    Watched,
)
from actors.control.model import Flag, Guest, Job, Lease, Node, Terms
from actors.control.ownership import Standing
from actors.errors import NoMajority, NotFound, NovaCronError, StateRefused

_Response = TypeVar("_Response", bound=msgspec.Struct)
_ATTEMPT_S, _ATTEMPT_LEAST_S = 5.0, 0.5
_GRACE_S = 1.0
"""The member keeps the deadline itself; with so much more its own, more precise, error comes back."""
_PAUSE_S = 0.2
_HEARD_S = 5.0
_AT_ONCE_MAX = 16
"""Commands under way in one session: far fewer than the state machine remembers answers of."""


class StateClient:
    """Asks the members one after the other until one answers: the own node's or site's first.

    Where members may agree in BFT and none is on this node, as many are asked as it takes to believe them
    (`hearing.py`), whatever is asked but for `cluster` and `audit`, which are one member's word.

    Args:
        directory: reaches the members' actors.
        config: names the members.
    """

    def __init__(self, directory: Directory, config: Config) -> None:
        self._config = config
        self._known_file = config.node.state_dir / KNOWN_FILE
        self._seen: tuple[int, int] | None = None
        self._directory = directory
        self._members: list[str] = []
        self._look()
        self._sessions: dict[str, _Numbered] = {}
        self._opener = 0
        """Where among the members a session is asked for first: moved on from one whose word was not true."""
        self._author = Author(config.node, self._attempt, self._look)

    async def submit(self, command: AnyCommand, *, by: str, deadline_s: float = 15.0) -> Outcome:
        """Have `command` agreed on; it takes effect once, however often it had to be sent. It is signed with this
        node's key once the members know that one.

        `by`: who asks; `node:NAME` is possible on that node only, `member:NAME` never.

        Raises:
            StateRefused: the state machine's rules refuse it, or nobody may ask so; `refusal` is the code.
            NoMajority: no answer within `deadline_s`; its `outcome` is `not done` where that is proven, else `unknown`.
        """
        numbered = self._sessions.setdefault(by, _Numbered())
        until = time.monotonic() + deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                await numbered.room.acquire()
        except TimeoutError as error:
            raise NoMajority(
                what=type(command).__name__, deadline_s=deadline_s, outcome=NOT_DONE, reason="others wait before it"
            ) from error
        try:
            return await self._numbered(numbered, command, by, until, deadline_s)
        finally:
            numbered.room.release()

    async def standing(self, guest: str, node: str, *, deadline_s: float = 15.0) -> Standing:
        """What `node` may do with `guest`, linearizably; a guest that is not known may run nowhere."""

        def ask(left_s: float) -> OfGuest:
            return OfGuest(guest=guest, node=node, deadline_s=left_s)

        answer = await self._read("standing", ask, StandingAnswer, deadline_s)
        return Standing(answer.right, answer.epoch)

    async def guest(self, name: str, *, deadline_s: float = 15.0) -> Guest:
        """The record of a guest, linearizably.

        Raises:
            GuestUnknown: there is none.
            NoMajority: no answer in time.
        """
        return (await self._read("guest", lambda s: OfGuest(guest=name, deadline_s=s), GuestAnswer, deadline_s)).guest

    async def guests(self, *, deadline_s: float = 15.0) -> list[Guest]:
        """Every guest by name, linearizably."""
        return (await self._read("guests", lambda s: Fresh(deadline_s=s), GuestsAnswer, deadline_s)).guests

    async def lease(self, node: str, *, deadline_s: float = 15.0) -> Lease | None:
        """The newest lease of `node`, of whatever state, linearizably; None: it never had one."""
        return (await self._read("lease", lambda s: OfNode(node=node, deadline_s=s), LeaseAnswer, deadline_s)).lease

    async def job(self, name: str, *, deadline_s: float = 15.0) -> Job:
        """The record of a move, linearizably.

        Raises:
            JobUnknown: there is none (ended ones are forgotten after 256 newer).
            NoMajority: no answer in time.
        """
        return (await self._read("job", lambda s: OfJob(job=name, deadline_s=s), JobAnswer, deadline_s)).job

    async def nodes(self, *, deadline_s: float = 15.0) -> list[Node]:
        """Every node by name, linearizably."""
        return (await self._read("nodes", lambda s: Fresh(deadline_s=s), NodesAnswer, deadline_s)).nodes

    async def flags(self, *, deadline_s: float = 15.0) -> dict[str, Flag]:
        """The flags that were ever set, linearizably; a component without one is on."""
        return (await self._read("flags", lambda s: Fresh(deadline_s=s), FlagsAnswer, deadline_s)).flags

    async def terms(self, *, deadline_s: float = 15.0) -> Terms:
        """The terms of leases, linearizably."""
        return (await self._read("terms", lambda s: Fresh(deadline_s=s), TermsAnswer, deadline_s)).terms

    async def cluster(self, *, deadline_s: float = 15.0) -> ClusterView:
        """How the members stand, as the leader sees it if it answers, else the nearest that does; needs no majority."""
        view = await self._read("cluster", lambda s: Fresh(deadline_s=s), ClusterView, deadline_s, alone=True)
        if view.leader in ("", view.node):
            return view
        to = self._directory.on(SERVICE, view.leader)
        try:
            return await self._directory.call(to, "cluster", Fresh(), ClusterView, min(2.0, deadline_s))
        except NovaCronError:
            return view

    async def audit(self, query: TrailQuery, *, deadline_s: float = 15.0) -> TrailPage:
        """A page of the audit trail, linearizably, as one member has it."""

        def ask(left_s: float) -> TrailQuery:
            return msgspec.structs.replace(query, deadline_s=left_s)

        return await self._read("audit", ask, TrailPage, deadline_s, alone=True)

    async def watch(self, after: int, wait_s: float = 0.0) -> Watched:
        """Events after revision `after`; waits up to `wait_s` seconds for the first. Each member tells what it has
        applied, so the newest may come a little later than elsewhere; none is left out."""
        wait_s = min(wait_s, WAIT_MAX_S)
        waits_until, needed = time.monotonic() + wait_s, self._words()

        def ask(_: float) -> Watch:
            return Watch(after=after, wait_s=max(0.0, waits_until - time.monotonic()))

        watching = Watching(needed, self._config.node.name, after, waits_until)
        return await self._read("watch", ask, Watched, wait_s + 15.0, watching if needed > 1 else None)

    async def members(self, *, deadline_s: float = 15.0) -> MembersAnswer:
        """Who the members are, linearizably."""
        return await self._read("members", lambda s: Fresh(deadline_s=s), MembersAnswer, deadline_s)

    async def add_member(self, node: str, *, by: str, deadline_s: float = 15.0) -> Outcome:
        """Have `node` become a member; the outcome's `number` is its own. It votes once it has caught up.

        Raises:
            StateRefused: it is one, another change is under way, or members agree in BFT now.
            NoMajority: no answer in time.
        """
        return await self.submit(AddMember(node=node), by=by, deadline_s=deadline_s)

    async def remove_member(self, node: str, *, by: str, lost: bool = False, deadline_s: float = 15.0) -> Outcome:
        """Take the member on `node` out for good; `lost`: its host or disk is lost, so that it is no voice already.

        Raises:
            NotFound: there is none.
            StateRefused: of the others too few answer to agree on anything without it, it is the only one, another
                change is under way, or members agree in BFT now.
            NoMajority: no answer in time.
        """
        until = time.monotonic() + deadline_s
        view = await self._leaders_view("RemoveMember", deadline_s)
        mine = [each for each in view.members if each.node == node and not each.caught]
        if not mine:
            raise NotFound(what=f"member of the control state on {node}")
        rest = [each for each in view.members if each.votes and each is not mine[0]]
        here = [each for each in rest if 0 <= each.silent_s < _HEARD_S]
        if mine[0].votes and rest and 2 * len(here) <= len(rest) and view.mode == "raft":
            silent = ", ".join(each.node for each in rest if each not in here)
            raise StateRefused(
                refusal=str(Refusal.NO_QUORUM_LEFT),
                detail=f"without {node} nothing could be agreed on: of the other {len(rest)} members {silent} do not"
                " answer. Bring them back, or remove them first",
            )
        order = RemoveMember(node=node, number=mine[0].number, lost=lost)
        return await self.submit(order, by=by, deadline_s=max(0.0, until - time.monotonic()))

    # -- within -----------------------------------------------------------------------------------------------------

    async def _leaders_view(self, what: str, deadline_s: float) -> ClusterView:
        """How the members stand as the leader sees it, who alone hears of all of them (in BFT each does)."""
        until = time.monotonic() + deadline_s
        while (left_s := until - time.monotonic()) > 0:
            view = await self.cluster(deadline_s=left_s)
            if view.mode != "raft" or view.leader == view.node:
                return view
            await asyncio.sleep(min(_PAUSE_S, max(0.0, until - time.monotonic())))
        raise NoMajority(what=what, deadline_s=deadline_s, outcome=NOT_DONE, reason="no leader answers")

    def _look(self) -> list[str]:
        """The members' nodes, this one's and this site's first, as this node knows them now."""
        try:
            found = self._known_file.stat()
            seen = (found.st_ino, found.st_mtime_ns)
        except OSError:
            seen = (0, 0)
        if seen != self._seen:
            self._seen, here, site = seen, self._config.node.name, self._directory.site
            near = sorted(known(self._config), key=lambda each: (each.node != here, each.site != site))
            self._members = [each.node for each in near]
        return self._members

    async def _numbered(
        self, numbered: "_Numbered", command: AnyCommand, by: str, until: float, deadline_s: float
    ) -> Outcome:
        at_ms = int(time.time() * 1000)
        while True:
            session = await self._session(numbered, by, until, deadline_s)
            number = next(numbered.numbers)
            try:
                return await self._placed(command, by, (session, number, at_ms), until, deadline_s)
            except StateRefused as no:
                # Both are told before the command is looked at, and hold for whatever was sent under this number.
                if no.refusal not in (Refusal.SESSION_UNKNOWN, Refusal.SESSION_GAP):
                    raise
                if numbered.session == session:
                    numbered.session = 0
                    self._opener += self._words() > 1
                if no.fields.get("doubt"):
                    raise

    async def _placed(
        self, command: AnyCommand, by: str, place: tuple[int, int, int], until: float, deadline_s: float
    ) -> Outcome:
        """Send it with this session, number and time, and again there once the members know whose word it is."""
        await self._author.due((until - time.monotonic()) / 2)
        while True:
            order = self._author.order(command, by, *place)
            try:
                return await self._until(order, until, deadline_s, type(command).__name__)
            except StateRefused as no:
                # Told before the session is looked at. An operator has another one by this node's signature.
                again = no.refusal in UNPROVEN and (by.startswith("node:") or not no.fields.get("doubt"))
                if not again or not await self._author.enrol(until - time.monotonic(), elsewhere=True):
                    raise

    async def _session(self, numbered: "_Numbered", by: str, until: float, deadline_s: float) -> int:
        async with numbered.opening:
            refused = False
            while not numbered.session:
                # A signature opens one session, under a number that the members have just given.
                number = await self._author.enrol((until - time.monotonic()) / 2, elsewhere=refused)
                if self._author.signs and not number:
                    if time.monotonic() >= until:
                        reason = "no member answers"
                        raise NoMajority(what="OpenSession", deadline_s=deadline_s, outcome=NOT_DONE, reason=reason)
                    continue
                order = self._author.order(OpenSession(), by, 0, number, 0)
                try:
                    opened = await self._open(order, until, deadline_s)
                except StateRefused as no:
                    used = number and no.refusal == Refusal.STALE
                    if not (used or no.refusal in UNPROVEN) or time.monotonic() >= until:
                        raise
                    refused = True
                    await asyncio.sleep(_PAUSE_S)
                    continue
                numbered.session, numbered.numbers = opened.number, itertools.count(1)
            return numbered.session

    async def _tell(self, node: str, order: Submit, within_s: float) -> Outcome:
        """Send `order` to the member on one node."""
        sent = msgspec.structs.replace(order, deadline_s=within_s)
        to = self._directory.on(SERVICE, node)
        return await self._directory.call(to, "submit", sent, Outcome, within_s + _GRACE_S)

    async def _attempt(self, node: str, order: Submit, within_s: float) -> Outcome:
        return await self._tell(node, order, min(within_s, self._attempt_s(within_s)))

    def _words(self) -> int:
        return words(self._config.consensus, len(self._look()))

    async def _until(self, order: Submit, until: float, deadline_s: float, what: str) -> Outcome:
        """Send `order` to members until what became of it is believed.

        Raises:
            StateRefused: with the field `doubt` where an earlier attempt may have been agreed on nevertheless.
            NoMajority: the time is up.
        """
        needed = self._words()
        ballot: Alike[Outcome] = Alike(needed, self._config.node.name)
        return await self._told(order, self._look(), needed, ballot, until, deadline_s, what)

    async def _open(self, order: Submit, until: float, deadline_s: float) -> Outcome:
        """Have a session opened. The number under which that is asked for is good once, so one member is asked at a
        time and its word is taken: a false session does nothing, and another member is asked for the next."""
        nodes = self._look()
        first = self._opener % len(nodes)
        ballot = Opening(self._words(), self._config.node.name)
        return await self._told(order, nodes[first:] + nodes[:first], 1, ballot, until, deadline_s, "OpenSession")

    async def _told(
        self,
        order: Submit,
        nodes: list[str],
        at_once: int,
        ballot: Ballot[Outcome],
        until: float,
        deadline_s: float,
        what: str,
    ) -> Outcome:
        attempt_s = self._attempt_s(deadline_s, at_once)

        async def ask(node: str) -> Outcome:
            return await self._tell(node, order, max(0.0, min(until - time.monotonic(), attempt_s)))

        hearing = Hearing(nodes, self._config.node.name, at_once, ask, ballot, until)
        return await hearing.answer(what, deadline_s)

    def _attempt_s(self, deadline_s: float, at_once: int = 1) -> float:
        """How long one member may take: each has its turn, since the nearest may be cut off from the leader alone."""
        return min(_ATTEMPT_S, max(_ATTEMPT_LEAST_S, deadline_s * at_once / len(self._members)))

    async def _read(
        self,
        method: str,
        ask: Callable[[float], msgspec.Struct],
        response: type[_Response],
        deadline_s: float,
        ballot: Ballot[_Response] | None = None,
        *,
        alone: bool = False,
    ) -> _Response:
        """What is believed of a question: what members say alike if there is no other `ballot`, or `alone` any one's
        word."""
        until, here = time.monotonic() + deadline_s, self._config.node.name
        needed = 1 if alone else self._words()
        attempt_s = self._attempt_s(deadline_s, needed)

        async def told(node: str) -> _Response:
            left_s = max(0.0, until - time.monotonic())
            # A watch waits at the member for as long as it may.
            within_s = left_s if method == "watch" else min(left_s, attempt_s)
            to = self._directory.on(SERVICE, node)
            return await self._directory.call(to, method, ask(within_s), response, within_s + _GRACE_S)

        alike: Ballot[_Response] = Alike(needed, here)
        hearing = Hearing(self._look(), here, needed, told, ballot or alike, until)
        return await hearing.answer(f"the answer to {method}", deadline_s, reads=True)


class _Numbered:
    """The session of one `by`, opened with its first command."""

    def __init__(self) -> None:
        self.session = 0
        self.numbers = itertools.count(1)
        self.opening = asyncio.Lock()
        self.room = asyncio.Semaphore(_AT_ONCE_MAX)
