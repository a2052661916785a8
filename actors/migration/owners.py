"""What a move has agreed on by the control state: its beginning, its start, the point of no return, its end.

Every call may be repeated. A guest whose name the control state can't know is moved without asking it.
"""

from typing import Protocol

import structlog

from actors.control.commands import AdvanceMove, AnyCommand, BeginMove, CommitMove, EndMove, VoidMove
from actors.control.decision import Refusal
from actors.control.messages import Outcome
from actors.control.model import Guest, Node
from actors.errors import StateRefused, Unreachable
from actors.hypervisor.engine.tenure import governed
from actors.migration.states import Job, Ruling, State

log = structlog.get_logger()
# One step of a move waits for each, so that a majority that is lost shows soon; a step is tried again.
ASK_S = 6.0
# Lists of nodes wait for it.
DRAINING_S = 2.0
# The move has ended, the control state has forgotten it, or its rules are too old to be told that it never begins.
_NOTHING_TO_SAY = frozenset({Refusal.NOT_THEN, Refusal.UNKNOWN, Refusal.TOO_NEW})


class States(Protocol):
    """What a move asks of the control state; `StateClient` has it."""

    async def submit(self, command: AnyCommand, *, by: str, deadline_s: float = ...) -> Outcome:
        """Have a command agreed on."""
        ...

    async def guest(self, name: str, *, deadline_s: float = ...) -> Guest:
        """A guest's record."""
        ...

    async def nodes(self, *, deadline_s: float = ...) -> list[Node]:
        """Every node's record."""
        ...


class Owners:
    """The moves that one manager leads.

    Args:
        states: the control state.
        node: the manager's.
    """

    def __init__(self, states: States, node: str) -> None:
        self._states = states
        self._by = f"node:{node}"

    async def draining(self) -> frozenset[str]:
        """The nodes that are to take no guests; none while nobody can say, since the control state itself refuses them
        then."""
        try:
            return frozenset(node.name for node in await self._states.nodes(deadline_s=DRAINING_S) if node.draining)
        except Unreachable:
            return frozenset()

    async def record(self, job: Job) -> Guest | None:
        """The guest's record, None of one whose name the control state can't know.

        Raises:
            NoMajority: nobody can say.
            GuestUnknown: its agent has not told of it yet.
        """
        return await self._states.guest(job.guest, deadline_s=ASK_S) if governed(job.guest) else None

    async def begin(self, job: Job, record: Guest | None) -> None:
        """Reserve the guest of this `record` for the move; from here on its source's agent leaves it to the move.

        Raises:
            StateRefused: it does not run at the source, or is to go to a node that may take none.
            NoMajority: nobody can say.
        """
        if record is None or record.job == job.id:
            return
        if record.job:
            await self._end_orphan(record.job)
        if record.node != job.source:
            detail = f"{record.node or 'nobody'} owns {job.guest}, not {job.source}"
            raise StateRefused(refusal=Refusal.STALE, detail=detail)
        await self._ask(BeginMove(job=job.id, guest=job.guest, target=job.target, epoch=record.epoch))

    async def perform(self, job: Job) -> None:
        """Agreed on before libvirt is told to begin: from here on either side may execute the guest."""
        if not governed(job.guest):
            return
        started = AdvanceMove(job=job.id, state=State.PERFORM)
        try:
            await self._ask(started)
        except StateRefused as no:
            if no.refusal != Refusal.NOT_THEN:
                raise
            # Before version 5 of the rules each state has to be entered.
            await self._ask(AdvanceMove(job=job.id, state=State.PREPARE))
            await self._ask(started)

    async def commit(self, job: Job) -> None:
        """The point of no return: the target has executed the guest, and owns it."""
        if governed(job.guest):
            await self._end(job, (CommitMove(job=job.id),))

    async def arrived(self, job: Job) -> None:
        """The move is over and the guest is the target's."""
        if not governed(job.guest):
            return
        commit = () if job.committed else (CommitMove(job=job.id),)
        ended = EndMove(job=job.id, state=State.COMPLETED)
        # Before version 5 of the rules each state has to be entered.
        await self._end(job, (*commit, ended), (AdvanceMove(job=job.id, state=State.CONFIRM), ended))

    async def stayed(self, job: Job) -> None:
        """The move is undone: the source keeps the guest, or it has ended by itself.

        Of a move that is not known it is agreed on that it never begins: what asked for its beginning may still be on
        its way, and would freeze the guest for a move that nobody leads.
        """
        if not governed(job.guest):
            return
        over = State.CANCELLED if job.cancel_asked and not job.error else State.FAILED
        commands = (
            AdvanceMove(job=job.id, state=State.ROLLING_BACK, error=job.error),
            EndMove(job=job.id, state=over, ruling=job.ruling, error=job.error),
        )
        try:
            await self._all(commands)
        except StateRefused as no:
            if no.refusal != Refusal.UNKNOWN:
                _over_already(job, no)
                return
            await self._end(job, (VoidMove(job=job.id, guest=job.guest, source=job.source, target=job.target),))

    async def _end(self, job: Job, *ways: tuple[AnyCommand, ...]) -> None:
        """Go the first of the ways that the rules allow; none is needed for a move that has ended."""
        for left, commands in zip(reversed(range(len(ways))), ways, strict=True):
            try:
                await self._all(commands)
                return
            except StateRefused as no:
                if not left or no.refusal != Refusal.NOT_THEN:
                    _over_already(job, no)
                    return

    async def _all(self, commands: tuple[AnyCommand, ...]) -> None:
        for command in commands:
            await self._ask(command)

    async def _end_orphan(self, job: str) -> None:
        """End a move that nobody drives: its manager gave up before it knew that it had begun.

        Only one that was not started can be; the desk leads no other move of this guest now.
        """
        try:
            await self._ask(AdvanceMove(job=job, state=State.ROLLING_BACK))
            await self._ask(EndMove(job=job, state=State.FAILED, ruling=Ruling.OPEN))
        except StateRefused as no:
            log.warning("another move has the guest", job=job, reason=str(no))

    async def _ask(self, command: AnyCommand) -> None:
        await self._states.submit(command, by=self._by, deadline_s=ASK_S)


def _over_already(job: Job, no: StateRefused) -> None:
    """Take note that there is nothing more to say of a move, or raise what else the refusal means."""
    if no.refusal in _NOTHING_TO_SAY:
        # It has ended: by an earlier try, or by a failover that nothing can be done about here.
        log.info("the control state has no such move any more", job=job.id, reason=str(no))
    elif no.refusal == Refusal.PAST_NO_RETURN:
        log.error("the control state says that the target has the guest", job=job.id, reason=str(no))
    else:
        raise no
