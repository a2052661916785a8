"""`ClusterState`: one member of the control state as an actor, named ``state@NODE``."""

import asyncio
import os
import time
from pathlib import Path
from typing import NoReturn

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.consensus.ready import Evidence, Member, Membership, Snapshot
from actors.control import trail
from actors.control.asking import Me, entry_for
from actors.control.beginning import never_was
from actors.control.chores import Chores
from actors.control.distances import Distances
from actors.control.driver import Driver, now_ms
from actors.control.hearing import words
from actors.control.keys import secret_in
from actors.control.leaving import Leaving
from actors.control.links import Links, Register
from actors.control.members import FOLDER, LEFT_FILE, Founder, founded, founding_of, has_left, joined, settings_of
from actors.control.messages import (
    EVENTS_MAX,
    WAIT_MAX_S,
    ClusterView,
    Enrolled,
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
from actors.control.model import ControlState
from actors.control.ownership import standing
from actors.control.parcels import ModesAre, Parcel
from actors.control.reach import Ask, Modes, ask_of, modes_of, registers
from actors.control.roster import Roster
from actors.control.shelf import Shelf, parts_in
from actors.control.shell import Shell
from actors.control.store import NOTHING
from actors.control.switching import Switching
from actors.control.views import view_of
from actors.control.watch import Compacted
from actors.errors import (
    ActorDown,
    GuestUnknown,
    JobUnknown,
    NotFound,
    NovaCronError,
    StateRefused,
)
from actors.files import write_atomically

log = structlog.get_logger()
LOOK_S = 5.0
MIND_S = 0.5
_DEADLINE_MAX_S = 60.0


class ClusterState(Service):
    """Agrees with the other members on the control state, keeps it on disk, and answers for it.

    Made by the node as a named actor; after a crash Ray makes it anew and it goes on from its disk by itself.

    Args:
        config: this node's configuration.
        register: joins the links' sockets; this node's transport when left out.
        modes: gives the modes of this node's links by the peer's name; this node's transport when left out.
        ask: asks the member on another node; by a call when left out.
    """

    def __init__(
        self, config: Config, register: Register | None = None, modes: Modes | None = None, ask: Ask | None = None
    ) -> None:
        self._config = config
        self._register = register or registers(config)
        self._modes = modes or modes_of(config)
        self._ask = ask or ask_of(config)
        self._driver: Driver
        self._roster: Roster
        self._shelf: Shelf
        self._left = ""
        self._links: Links
        self._secret: Ed25519PrivateKey
        self._distances: Distances
        self._looking: asyncio.Task[None] | None = None
        self._minding: asyncio.Task[None] | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())
        self._running: asyncio.Task[None] | None = None

    @exposed()
    async def ping(self, caller: Caller, request: Empty) -> Empty:  # noqa: ARG002
        """Answer once the member has read its disk; it may have no majority yet. Fails with why it can't begin."""
        await self._begun()
        return Empty()

    @exposed(to_peers=True)
    async def submit(self, caller: Caller, request: Submit) -> Outcome:
        """Have a command agreed on."""
        await self._started()
        shell = self._driver.shell
        state, among = shell.replica.state, shell.among
        entry, what = entry_for(request, caller, state, among, Me(shell.me, self._config, self._secret))
        result = await self._driver.submit(entry, what, _within(request.deadline_s))
        if not result.accepted:
            raise StateRefused(refusal=result.code, detail=result.detail)
        return Outcome(index=result.index, number=result.number, detail=result.detail)

    @exposed(to_peers=True)
    async def standing(self, caller: Caller, request: OfGuest) -> StandingAnswer:  # noqa: ARG002
        """What a node may do with a guest."""
        state = await self._fresh(request)
        found = standing(state, request.guest, request.node)
        return StandingAnswer(right=found.right, epoch=found.epoch)

    @exposed(to_peers=True)
    async def guest(self, caller: Caller, request: OfGuest) -> GuestAnswer:  # noqa: ARG002
        """A guest's record."""
        found = (await self._fresh(request)).guests.get(request.guest)
        if found is None:
            raise GuestUnknown(guest=request.guest)
        return GuestAnswer(guest=found)

    @exposed(to_peers=True)
    async def guests(self, caller: Caller, request: Fresh) -> GuestsAnswer:  # noqa: ARG002
        """Every guest."""
        found = (await self._fresh(request)).guests
        return GuestsAnswer(guests=[found[name] for name in sorted(found)])

    @exposed(to_peers=True)
    async def lease(self, caller: Caller, request: OfNode) -> LeaseAnswer:  # noqa: ARG002
        """A node's newest lease."""
        return LeaseAnswer(lease=(await self._fresh(request)).leases.get(request.node))

    @exposed(to_peers=True)
    async def job(self, caller: Caller, request: OfJob) -> JobAnswer:  # noqa: ARG002
        """A move's record."""
        found = (await self._fresh(request)).jobs.get(request.job)
        if found is None:
            raise JobUnknown(job=request.job)
        return JobAnswer(job=found)

    @exposed(to_peers=True)
    async def nodes(self, caller: Caller, request: Fresh) -> NodesAnswer:  # noqa: ARG002
        """Every node."""
        found = (await self._fresh(request)).nodes
        return NodesAnswer(nodes=[found[name] for name in sorted(found)])

    @exposed(to_peers=True)
    async def flags(self, caller: Caller, request: Fresh) -> FlagsAnswer:  # noqa: ARG002
        """The flags that were set."""
        return FlagsAnswer(flags=dict((await self._fresh(request)).flags))

    @exposed(to_peers=True)
    async def terms(self, caller: Caller, request: Fresh) -> TermsAnswer:  # noqa: ARG002
        """The terms of leases."""
        return TermsAnswer(terms=(await self._fresh(request)).cluster.terms)

    @exposed(to_peers=True)
    async def cluster(self, caller: Caller, request: Fresh) -> ClusterView:  # noqa: ARG002
        """How the members stand, as this one sees it now."""
        await self._started()
        return view_of(self._driver.shell, self._roster, now_ms(), self._config.consensus.mode)

    @exposed(to_peers=True)
    async def members(self, caller: Caller, request: Fresh) -> MembersAnswer:  # noqa: ARG002
        """Who the members are."""
        state, shell = await self._fresh(request), self._driver.shell
        return MembersAnswer(
            members=list(self._roster.current()),
            founders=list(self._roster.founders),
            left=sorted(seat.number for seat in state.seats.values() if seat.left),
            part=shell.core.part,
            mode=shell.core.protocol.name.lower(),
        )

    @exposed(to_peers=True)
    async def audit(self, caller: Caller, request: TrailQuery) -> TrailPage:  # noqa: ARG002
        """A page of the audit trail."""
        state = await self._fresh(request)
        # The newest first: what leaves them meanwhile is in the store by then.
        newest = [*state.audit, *self._driver.shell.replica.trail]
        count, moves = state.audit_count, trail.moves_of(state, request.guest)
        stored = await asyncio.to_thread(self._shelf.newest.store.audit, request.after - 1, trail.LOOKED_MAX + 1)
        if len(stored) > trail.LOOKED_MAX:
            newest = []
        return await asyncio.to_thread(trail.page, request, [*stored, *newest], count, moves)

    @exposed(to_peers=True)
    async def watch(self, caller: Caller, request: Watch) -> Watched:  # noqa: ARG002
        """Events as they are applied here."""
        await self._started()
        await self._driver.news(request.after, min(max(0.0, request.wait_s), WAIT_MAX_S))
        replica = self._driver.shell.replica
        try:
            events = replica.history.after(request.after)
        except Compacted:
            return Watched(events=[], revision=replica.state.revision, forgotten=True)
        if len(events) <= EVENTS_MAX:
            return Watched(events=events, revision=max(request.after, replica.state.revision))
        # A command's events are told together: those of the one that does not fit whole come next time.
        limit = events[EVENTS_MAX].revision
        told = [event for event in events[:EVENTS_MAX] if event.revision < limit]
        return Watched(events=told, revision=told[-1].revision)

    @exposed(to_peers=True)
    async def enrolled(self, caller: Caller, request: Empty) -> Enrolled:  # noqa: ARG002
        """Who ever said its key, as far as it is applied here; at once, also while nothing can be agreed on."""
        if not self._starting.done():
            raise ActorDown(service=f"state@{self._config.node.name}", reason="it starts")
        await self._started()
        return Enrolled(numbers=sorted(map(int, self._driver.shell.replica.state.members)))

    async def close(self) -> None:
        """End the member, as a crash would: what is agreed on is on its disk."""
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        if (running := self._running) is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self._links.stop()

    # -- within -------------------------------------------------------------------------------------------------------

    async def _fresh(self, request: Fresh | OfGuest | OfNode | OfJob | TrailQuery) -> ControlState:
        await self._started()
        return await self._driver.fresh("the answer", _within(request.deadline_s))

    async def _begun(self) -> None:
        if self._left:
            raise ActorDown(service=f"state@{self._config.node.name}", reason=self._left)
        if self._starting.done() and self._starting.exception() is not None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        await asyncio.shield(self._starting)

    async def _started(self) -> None:
        try:
            await self._begun()
        except NovaCronError as error:
            # To whoever asks, a member that can't begin is one that is down: the others may know.
            raise ActorDown(service=f"state@{self._config.node.name}", reason=str(error)) from error

    async def _start(self) -> None:
        config = self._config
        folder = config.node.state_dir / FOLDER
        if left := await asyncio.to_thread(has_left, folder):
            raise ActorDown(service=f"state@{config.node.name}", reason=left)
        founders = await asyncio.to_thread(founded, folder, config)
        came = await asyncio.to_thread(joined, folder)
        mine = [came.me] if came is not None else [each for each in founders if each.node == config.node.name]
        if not mine:
            raise NotFound(what=f"member of the control state on {config.node.name}")
        if came is None and not parts_in(folder):
            await never_was(mine[0], founders, words(config.consensus, len(founders)), self._ask)
        begins = Snapshot(index=1, term=0, membership=Membership(tuple(each.number for each in founders)))
        if came is not None:
            # All that it knows comes from the others; of this part, for which nobody votes who was not a member in it.
            shelf = await asyncio.to_thread(Shelf, folder, NOTHING, came.part)
        else:
            shelf = await asyncio.to_thread(Shelf, folder, begins)
        try:
            await self._go_on(shelf, folder, mine[0], founders, came.members if came is not None else ())
        except BaseException:
            # Or the next try would find it open.
            shelf.close()
            raise

    async def _go_on(
        self, shelf: Shelf, folder: Path, me: Founder, founders: tuple[Founder, ...], found: tuple[Founder, ...]
    ) -> None:
        """Take part as `me` with what is on `shelf`."""
        self._shelf = shelf
        config, settings = self._config, self._config.consensus
        self._secret = secret = await asyncio.to_thread(secret_in, folder)
        founding = founding_of(founders)
        self._links = Links(me.number, {}, config.node.run_dir / FOLDER, founding, self._register, self._receive)
        shell = Shell(
            me.number,
            shelf,
            settings_of(config, founding),
            secret,
            seed=int.from_bytes(os.urandom(8)),
            now_ms=now_ms(),
            post=self._links.post,
            report=_report,
        )
        self._roster = roster = Roster(me, founders, found, shell)
        self._distances = Distances(me.number, lambda: {each.node: each.number for each in roster.current()})
        switching = Switching(settings, self._distances)
        chores = Chores(shell, roster, config.topology, secret, switching)
        self._driver = Driver(
            shell, settings.heartbeat_ms / 1000, lambda now: chores.look(now, int(time.time() * 1000))
        )
        await self._links.start()
        await self._meet()
        self._running = asyncio.create_task(self._drive(shelf))
        self._minding = asyncio.create_task(self._mind(Leaving(shell, roster, self._ask), folder))
        if settings.mode == "adaptive":
            self._looking = asyncio.create_task(self._look_at_links())
        log.info("member started", number=me.number, applied=shell.replica.state.applied)

    def _peers(self) -> dict[Member, str]:
        here = self._config.node.name
        known = (each for each in self._roster.current() if self._config.topology.member(each.node) is not None)
        return {each.number: each.node for each in known if each.node != here}

    async def _meet(self) -> None:
        for number, node in self._peers().items():
            await self._links.meet(number, node)

    async def _mind(self, leaving: Leaving, folder: Path) -> None:
        """Have links to those that join, and end when this member was taken out."""
        while True:
            await asyncio.sleep(MIND_S)
            try:
                await self._meet()
            except OSError as error:
                log.warning("no link to a new member yet", reason=str(error))
            if why := await leaving.why():
                log.error("this member was taken out, and stops", reason=why)
                await asyncio.to_thread(write_atomically, folder / LEFT_FILE, why.encode(), 0o600)
                self._left = why
                assert self._running is not None, "it minds a member that runs"
                self._running.cancel()
                await self._links.stop()
                return

    async def _look_at_links(self) -> None:
        """Ask the transport for the modes of this member's links, and tell the others, for ever."""
        while True:
            try:
                modes = self._distances.measured(await self._modes(), now_ms())
                for number in self._peers():
                    self._links.post(number, ModesAre(modes))
            except NovaCronError as error:
                log.info("the modes of the links are not known", reason=str(error))
            await asyncio.sleep(LOOK_S)

    def _receive(self, sender: int, parcel: Parcel) -> None:
        if isinstance(parcel, ModesAre):
            self._distances.told(sender, parcel.modes, now_ms())
            return
        self._driver.shell.receive(sender, parcel, now_ms())
        self._driver.stir()

    async def _drive(self, shelf: Shelf) -> None:
        try:
            await self._driver.run()
        except asyncio.CancelledError:
            for task in (self._looking, self._minding if not self._left else None):
                if task is not None:
                    task.cancel()
            shelf.close()
            raise
        except Exception:
            log.exception("the member can't go on; it starts anew from its disk")
            _end()


def _report(evidence: Evidence) -> None:
    log.error("a member lied; the others exclude it", member=evidence.member, lie=evidence.kind)


def _end() -> NoReturn:
    """What is on the disk is only known once it is opened again, in a new process that Ray makes."""
    os._exit(1)


def _within(deadline_s: float) -> float:
    # Written so that NaN, which is neither, gets the limit too.
    return deadline_s if 0 <= deadline_s <= _DEADLINE_MAX_S else _DEADLINE_MAX_S
