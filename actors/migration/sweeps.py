"""Drains and rebalancings of one manager: planned, made by ordinary moves, watched, cancelled, taken up again."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable
from typing import Protocol

import structlog
from msgspec.structs import replace

from actors.errors import Conflict, NodeUnknown, NotFound, NovaCronError, PastNoReturn, Unreachable
from actors.migration.messages import (
    JobView,
    MoveRequest,
    SweepMove,
    SweepRequest,
    SweepView,
)
from actors.migration.owners import Owners
from actors.migration.remotes import Remotes
from actors.migration.states import ENDED, State
from actors.migration.survey import Survey
from actors.migration.sweep_order import MOVING, PLANNED, startable
from actors.migration.sweep_shelf import Shelved, SweepShelf
from actors.placement.messages import PastMove, PlanMoves
from actors.placement.picture import drained

log = structlog.get_logger()
KEPT = 20
LOOK_S = 1.0
SILENT_S = 120.0
"""A site that does not tell of a move for so long: what becomes of it is its own matter then."""
_MIB = 1 << 20


class Moves(Protocol):
    """Moves of the whole cluster, as the manager makes them for this site."""

    def submit_here(self, request: MoveRequest) -> Awaitable[JobView]:
        """Ask for a move."""
        ...

    def job_here(self, job: str) -> Awaitable[JobView]:
        """How it stands."""
        ...

    def cancel_here(self, job: str) -> Awaitable[JobView]:
        """Cancel it."""
        ...


class SweepDesk:
    """The drains and rebalancings.

    Args:
        remotes, survey, owners: the actors and what there is.
        moves: makes the moves.
        at_once: moves under way at once.
        shelf: where they outlast the manager.
    """

    def __init__(
        self, remotes: Remotes, survey: Survey, owners: Owners, moves: Moves, at_once: int, shelf: SweepShelf
    ) -> None:
        self._remotes = remotes
        self._survey = survey
        self._owners = owners
        self._moves = moves
        self._at_once = at_once
        self._shelf = shelf
        self._writing = asyncio.Lock()
        self._known: dict[str, SweepView] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

    def recover(self) -> None:
        """Go on with what an earlier manager of this node was about; blocking, once.

        A move is asked for under the key that it had, so one that was begun is found again, never made twice.
        """
        shelved = self._shelf.read()
        self._known = {view.id: view for view in shelved.sweeps}
        self._cancelled = set(shelved.cancelled)
        for view in shelved.sweeps:
            if view.state == "running":
                self._begin(view.id)

    async def close(self) -> None:
        """Let go of what is under way; moves that have begun go on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    # -- asking -----------------------------------------------------------------------------------------------------

    def view(self, name: str) -> SweepView:
        """One of them.

        Raises:
            NotFound: this manager has none of that name.
        """
        if name not in self._known:
            raise NotFound(what=f"drain or rebalancing {name} here")
        return self._known[name]

    def views(self) -> list[SweepView]:
        """The newest first."""
        return list(reversed(self._known.values()))

    # -- acting -----------------------------------------------------------------------------------------------------

    async def sweep(self, request: SweepRequest, past: list[PastMove]) -> SweepView:
        """Plan it and, unless it is a dry run, begin.

        Raises:
            Conflict: another one is under way here.
            NodeUnknown, Unreachable: the node to drain is none, or does not tell of its guests.
        """
        running = next((one.id for one in self._known.values() if one.state == "running"), "")
        if running and not request.dry_run:
            raise Conflict(detail=f"{running} is under way: wait for its end or cancel it")
        made = await self._plan(request, past)
        if request.dry_run:
            return made
        self._known[made.id] = made
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]
        await self._write()
        self._begin(made.id)
        return made

    async def cancel(self, name: str) -> SweepView:
        """Begin no more of its moves, and cancel those under way; again: nothing changes."""
        view = self.view(name)
        if view.state == "running":
            self._cancelled.add(name)
            await self._write()
            for move in view.moves:
                if move.state == MOVING and move.job:
                    with contextlib.suppress(PastNoReturn, Unreachable):
                        await self._moves.cancel_here(move.job)
        return self.view(name)

    async def _plan(self, request: SweepRequest, past: list[PastMove]) -> SweepView:
        topology = self._remotes.calls.topology
        site = topology.site_of(request.node) if request.node else None
        if request.node and site is None:
            raise NodeUnknown(node=request.node)
        sites, guests, draining = await asyncio.gather(
            self._survey.sites(everywhere=True), self._survey.guests(everywhere=True), self._owners.draining()
        )
        if site is not None and {f"node {request.node}", f"site {site.name}"} & set(guests.silent):
            raise Unreachable(what=f"node {request.node}, whose guests are to move")
        now = time.time()
        order = PlanMoves(
            nodes=drained((node for each in sites.sites for node in each.nodes), draining),
            guests=guests.guests,
            past=past,
            at=now,
            drain=[request.node] if request.node else [],
            part_groups=request.part_groups,
            most=request.most,
        )
        plan = await self._remotes.plan_moves(order)
        return SweepView(
            id=f"s-{secrets.token_hex(4)}",
            kind="drain" if request.node else "rebalance",
            node=request.node,
            state=PLANNED if request.dry_run else "running",
            created_at=now,
            moves=[SweepMove(plan=move) for move in plan.moves],
            stays=plan.stays,
            before=plan.before,
            after=plan.after,
        )

    # -- running ----------------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> None:
        self._tasks[name] = asyncio.create_task(self._run(name), name=name)

    async def _run(self, name: str) -> None:
        try:
            await self._make_moves(name)
        except Exception:  # its end must be told, whatever is wrong with it
            log.exception("a drain or rebalancing broke off", sweep=name)
        await self._end(name)

    async def _make_moves(self, name: str) -> None:
        begun = [index for index, move in enumerate(self._known[name].moves) if move.state == MOVING]
        under_way = {asyncio.create_task(self._move(name, index)) for index in begun}
        try:
            while True:
                view = self._known[name]
                if name not in self._cancelled:
                    states = [move.state for move in view.moves]
                    for index in startable([move.plan for move in view.moves], states, self._at_once):
                        await self._note(name, index, state=MOVING)
                        under_way.add(asyncio.create_task(self._move(name, index)))
                if not under_way:
                    break
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in under_way:
                task.cancel()

    async def _move(self, name: str, index: int) -> None:
        plan = self._known[name].moves[index].plan
        request = MoveRequest(
            guest=plan.guest, to=plan.target, if_stalled="cancel", parted=plan.parted, key=f"{name}.{index}"
        )
        try:
            job = await self._moves.submit_here(request)
            await self._note(name, index, job=job.id)
            if name in self._cancelled:
                await self._moves.cancel_here(job.id)
            job = await self._until_ended(job)
        except NovaCronError as error:
            log.warning("a planned move is not made", sweep=name, guest=plan.guest, error=str(error))
            await self._note(name, index, state="failed", error=str(error))
            return
        except Exception as error:  # the other moves go on
            log.exception("a planned move failed by a fault of the manager", sweep=name, guest=plan.guest)
            await self._note(name, index, state="failed", error=f"a fault of the manager: {error!r}")
            return
        done = job.state == State.COMPLETED
        state = "completed" if done else "cancelled" if job.state == State.CANCELLED else "failed"
        await self._note(name, index, state=state, error="" if done else job.message)

    async def _until_ended(self, job: JobView) -> JobView:
        heard_at = time.monotonic()
        while job.state not in ENDED:
            await asyncio.sleep(LOOK_S)
            try:
                job = await self._moves.job_here(job.id)
                heard_at = time.monotonic()
            except Unreachable:
                if time.monotonic() - heard_at > SILENT_S:
                    raise
        return job

    async def _note(self, name: str, index: int, **changes: str) -> None:
        view = self._known[name]
        moves = list(view.moves)
        moves[index] = replace(moves[index], **changes)
        self._known[name] = replace(view, moves=moves)
        await self._write()

    async def _end(self, name: str) -> None:
        view = self._known[name]
        moves = [_ended(move) for move in view.moves]
        failed = any(move.state != "completed" for move in moves) or bool(view.stays)
        state = "cancelled" if name in self._cancelled else "failed" if failed else "completed"
        self._known[name] = replace(view, moves=moves, state=state, ended_at=time.time())
        self._cancelled.discard(name)
        self._tasks.pop(name, None)
        await self._write()

    async def _write(self) -> None:
        async with self._writing:
            shelved = Shelved(sweeps=list(self._known.values()), cancelled=sorted(self._cancelled))
            await asyncio.to_thread(self._shelf.write, shelved)


def _ended(move: SweepMove) -> SweepMove:
    """A move of one that has ended: what had not begun never does, what nobody watches any more is said to."""
    if move.state == PLANNED:
        return replace(move, state="cancelled")
    if move.state == MOVING:
        return replace(
            move, state="failed", error="it is not watched any more: `novacron migrations` shows how it stands"
        )
    return move
