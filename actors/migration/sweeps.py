"""Drains and rebalancings of one manager: planned, carried out by ordinary moves, watched and cancelled."""

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
    """

    def __init__(self, remotes: Remotes, survey: Survey, owners: Owners, moves: Moves, at_once: int) -> None:
        self._remotes = remotes
        self._survey = survey
        self._owners = owners
        self._moves = moves
        self._at_once = at_once
        self._known: dict[str, SweepView] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

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
        self._tasks[made.id] = asyncio.create_task(self._run(made.id), name=made.id)
        return made

    async def cancel(self, name: str) -> SweepView:
        """Begin no more of its moves, and cancel those under way; again: nothing changes."""
        view = self.view(name)
        if view.state == "running":
            self._cancelled.add(name)
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

    async def _run(self, name: str) -> None:
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                view = self._known[name]
                if name not in self._cancelled:
                    states = [move.state for move in view.moves]
                    for index in startable([move.plan for move in view.moves], states, self._at_once):
                        self._note(name, index, state=MOVING)
                        under_way.add(asyncio.create_task(self._move(name, index)))
                if not under_way:
                    break
                _, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in under_way:
                task.cancel()
        self._end(name)

    async def _move(self, name: str, index: int) -> None:
        plan = self._known[name].moves[index].plan
        request = MoveRequest(
            guest=plan.guest, to=plan.target, if_stalled="cancel", parted=plan.parted, key=f"{name}.{index}"
        )
        try:
            job = await self._moves.submit_here(request)
            self._note(name, index, job=job.id)
            if name in self._cancelled:
                await self._moves.cancel_here(job.id)
            job = await self._until_ended(job)
        except NovaCronError as error:
            log.warning("a planned move is not made", sweep=name, guest=plan.guest, error=str(error))
            self._note(name, index, state="failed", error=str(error))
            return
        done = job.state == State.COMPLETED
        state = "completed" if done else "cancelled" if job.state == State.CANCELLED else "failed"
        self._note(name, index, state=state, error="" if done else job.message)

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

    def _note(self, name: str, index: int, **changes: str) -> None:
        view = self._known[name]
        moves = list(view.moves)
        moves[index] = replace(moves[index], **changes)
        self._known[name] = replace(view, moves=moves)

    def _end(self, name: str) -> None:
        view = self._known[name]
        moves = [replace(move, state="cancelled") if move.state == PLANNED else move for move in view.moves]
        failed = any(move.state != "completed" for move in moves) or bool(view.stays)
        state = "cancelled" if name in self._cancelled else "failed" if failed else "completed"
        self._known[name] = replace(view, moves=moves, state=state, ended_at=time.time())
        self._cancelled.discard(name)
        self._tasks.pop(name, None)
