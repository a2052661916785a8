"""Runs one job: feeds its engine, writes the journal, and performs what comes out: one instruction after another, but
for those that the engine lets go on beside the next."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from actors.errors import NovaCronError, PastNoReturn, TooLate
from actors.migration.decisions import Outlook, horizon_s
from actors.migration.engine import handle
from actors.migration.events import (
    Announce,
    CancelAsked,
    Deadline,
    Do,
    Event,
    Observed,
    PauseChanged,
    Read,
    Reading,
    StepDone,
    StepFailed,
    TimedOut,
)
from actors.migration.journal import Journal
from actors.migration.messages import JobEvent, JobView
from actors.migration.progress import Meter
from actors.migration.saga import Saga, Sight
from actors.migration.states import PAST_NO_RETURN, PAUSE_OPEN, Deadlines, Job, State, Step
from actors.migration.views import view

log = structlog.get_logger()
# A little under the half second that the engine looks around in, so that no look is left out.
PROGRESS_S = 0.45
# A pause rests on what is known of the next second.
OUTLOOK_S = 1.0
JOURNAL_RETRY_S = 1.0
ARRIVAL_RETRY_S = 2.0
_COPYING = frozenset({State.PERFORM, State.SWITCHOVER})


class _Due(msgspec.Struct, frozen=True):
    """An instruction, the state it was given in, and when (loop time) it is to be performed."""

    at_s: float
    issued_in: State
    instruction: Do | Read


class Runner:
    """One job under way.

    Args:
        job: as the journal has it.
        saga: performs the steps.
        journal: written before anything is done.
        deadlines: of the states.
        outlook: asks for the forecasts of the job's link, as many seconds ahead as it is given.
        changed: called after each new event.
    """

    def __init__(
        self,
        job: Job,
        saga: Saga,
        journal: Journal,
        deadlines: Deadlines,
        outlook: Callable[[Job, float], Awaitable[Outlook]],
        changed: Callable[[], None],
    ) -> None:
        self.job = job
        self._saga = saga
        self._journal = journal
        self._deadlines = deadlines
        self._ask_outlook = outlook
        self._changed = changed
        self._seq = journal.last_seq(job.id)
        self._meter = Meter()
        self._outlook = Outlook()
        self._outlook_due_s = 0.0
        self._progress_due_s = 0.0
        self._progress_news = False
        self._inbox: asyncio.Queue[tuple[Event, asyncio.Future[None] | None]] = asyncio.Queue()
        self._pending: list[_Due] = []
        self._beside: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._look_now = False
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def view(self) -> JobView:
        """The job as callers see it."""
        return view(self.job, self._meter.last)

    async def run(self, first: Event) -> None:
        """Begin with `first` (Started or Restarted) and return when nothing is left to do."""
        self._inbox.put_nowait((first, None))
        worker = asyncio.create_task(self._work(), name=f"work {self.job.id}")
        try:
            while not self.job.settled:
                event, handled = await self._inbox.get()
                await self._take(event)
                if handled is not None and not handled.done():
                    handled.set_result(None)
        finally:
            for task in (worker, self._listening, *self._beside):
                if task is not None:
                    task.cancel()
            if self._timer:
                self._timer.cancel()
            while not self._inbox.empty():
                _, handled = self._inbox.get_nowait()
                if handled is not None and not handled.done():
                    handled.set_result(None)

    async def cancel(self) -> JobView:
        """Ask for the job to be cancelled; repeating it changes nothing.

        Raises:
            PastNoReturn: the target has executed the guest.
        """
        if not self.job.settled:
            handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._inbox.put_nowait((CancelAsked(at=time.time()), handled))
            await handled
        refuse_past_no_return(self.job)
        return self.view

    async def change_pause(self, pause_ms: int) -> JobView:
        """Allow another pause from now on.

        Raises:
            TooLate: the guest has been stopped already, or stays.
        """
        if self.job.state in PAUSE_OPEN:
            handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._inbox.put_nowait((PauseChanged(at=time.time(), pause_ms=pause_ms), handled))
            await handled
        refuse_too_late(self.job)
        if self.job.state is State.PERFORM:
            await self._saga.steer(self.job, self._outlook)
        return self.view

    async def pay_target(self) -> None:
        """Clean up now what this ended job still owes its target.

        Raises:
            NovaCronError: it can't be done; a new job must not begin there.
        """
        job = self.job
        step = Step.FINISH_TARGET if job.state is State.COMPLETED else Step.UNDO_TARGET
        await self._saga.perform(job, Do(step=step))
        self._inbox.put_nowait((StepDone(at=time.time(), issued_in=job.state, step=step), None))

    # -- the engine's side --------------------------------------------------------------------------------------

    async def _take(self, event: Event) -> None:
        job, instructions = handle(self.job, event, self._deadlines)
        told = [(each.kind, each.job) for each in instructions if isinstance(each, Announce)]
        if self._progress_news:
            self._progress_news = False
            told.append(("progress", job))
        if told or job != self.job:
            await self._write(job, told)
        if job.state is not self.job.state:
            # What an earlier state still wanted is void; entering a state asks for all that it needs.
            self._pending.clear()
            log.info("migration", job=job.id, guest=job.guest, state=job.state, error=job.error, note=job.note)
        self.job = job
        for instruction in instructions:
            if isinstance(instruction, Deadline):
                self._arm(instruction)
            elif isinstance(instruction, Do | Read):
                due_s = asyncio.get_running_loop().time() + instruction.after_s
                self._pending.append(_Due(due_s, job.state, instruction))
        if self._look_now:
            self._hasten()
        if job.state in _COPYING and self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name=f"arrival {job.id}")
        self._wake.set()
        if told:
            self._changed()

    async def _write(self, job: Job, told: list[tuple[str, Job]]) -> None:
        now, progress = time.time(), self._meter.last
        events = [
            JobEvent(seq=self._seq + n, at=now, kind=kind, job=view(then, progress))
            for n, (kind, then) in enumerate(told, start=1)
        ]
        while True:
            try:
                await asyncio.to_thread(self._journal.save, job, progress, events)
                break
            except sqlite3.Error as error:
                # Nothing may be done that is not on disk: wait until it is.
                log.error("the journal can't be written; the move waits", job=job.id, error=str(error))
                await asyncio.sleep(JOURNAL_RETRY_S)
        self._seq += len(events)

    def _arm(self, deadline: Deadline) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(
            deadline.after_s,
            lambda: self._inbox.put_nowait((TimedOut(at=time.time(), state=deadline.state), None)),
        )

    # -- the world's side ---------------------------------------------------------------------------------------

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Of those that are due at the same time the first that was instructed.
            due = min(self._pending, key=lambda each: each.at_s, default=None)
            left_s = due.at_s - loop.time() if due else None
            if due is None or left_s is None or left_s > 0:
                self._wake.clear()
                try:
                    async with asyncio.timeout(left_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                continue
            self._pending.remove(due)
            if isinstance(due.instruction, Do) and due.instruction.beside:
                task = asyncio.create_task(self._follow(due), name=f"{due.instruction.step} {self.job.id}")
                self._beside.add(task)
                task.add_done_callback(self._beside.discard)
            else:
                await self._follow(due)

    async def _follow(self, due: _Due) -> None:
        if isinstance(due.instruction, Do):
            event: Event = await self._perform(due.instruction, due.issued_in)
        else:
            event = await self._read(due.issued_in)
        self._inbox.put_nowait((event, None))

    async def _perform(self, do: Do, issued_in: State) -> Event:
        try:
            await self._saga.perform(self.job, do)
        except NovaCronError as error:
            log.warning("step failed", job=self.job.id, step=do.step, error=str(error))
            return StepFailed(at=time.time(), issued_in=issued_in, step=do.step, code=error.code, fields=error.fields)
        except Exception as error:
            # A fault of ours must end in a roll-back, not in a job that hangs.
            log.exception("step failed", job=self.job.id, step=do.step)
            fields: dict[str, str | int | float] = {"detail": f"{do.step}: {error!r}"}
            return StepFailed(at=time.time(), issued_in=issued_in, step=do.step, code=NovaCronError.code, fields=fields)
        return StepDone(at=time.time(), issued_in=issued_in, step=do.step)

    async def _read(self, issued_in: State) -> Event:
        try:
            if issued_in is State.PERFORM:
                await self._steer()
            sight = await self._saga.read(self.job)
        except Exception as error:
            # As above: a side that can't be read counts as one that does not answer.
            log.exception("reading failed", job=self.job.id)
            unknown = Reading(problem=repr(error))
            sight = Sight(source=unknown, target=unknown, codec=None)
        if issued_in in _COPYING:
            await self._measure(sight)
        codec = sight.codec
        return Observed(
            at=time.time(),
            issued_in=issued_in,
            source=sight.source,
            target=sight.target,
            codec_failure=(codec.reason or "it gave no reason") if codec and codec.state == "failed" else "",
            pages_at=codec.pages_at if codec else 0.0,
            sent_at=codec.last_at if codec else 0.0,
        )

    async def _steer(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._outlook_due_s:
            self._outlook_due_s = now_s + OUTLOOK_S
            self._outlook = await self._ask_outlook(self.job, horizon_s(self._meter.last.eta_s))
            await self._saga.steer(self.job, self._outlook)

    async def _listen(self) -> None:
        """Have the next look made as soon as the target tells that the guest executes there."""
        while self.job.state in _COPYING:
            try:
                if await self._saga.await_arrival(self.job):
                    self._look_now = True
                    self._hasten()
                    return
            except NovaCronError as error:
                # The looks that are made anyway will see it.
                log.debug("no word of its arrival", job=self.job.id, error=str(error))
                await asyncio.sleep(ARRIVAL_RETRY_S)

    def _hasten(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for at, due in enumerate(self._pending):
            if isinstance(due.instruction, Read):
                self._pending[at] = msgspec.structs.replace(due, at_s=min(due.at_s, now_s))
                self._look_now = False
        self._wake.set()

    async def _measure(self, sight: Sight) -> None:
        now_s = asyncio.get_running_loop().time()
        self._meter.take(time.time(), sight.source.status, sight.codec, self._outlook.later)
        if now_s >= self._progress_due_s:
            self._progress_due_s = now_s + PROGRESS_S
            self._progress_news = True


def refuse_too_late(job: Job) -> None:
    """Raise TooLate when the pause of the job can't be changed any more."""
    if job.state not in PAUSE_OPEN:
        raise TooLate(job=job.id, state=job.state)


def refuse_past_no_return(job: Job) -> None:
    """Raise PastNoReturn when the job can't be cancelled any more."""
    if job.state in PAST_NO_RETURN:
        raise PastNoReturn(job=job.id, node=job.target)
