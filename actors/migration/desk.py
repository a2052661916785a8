"""The jobs of this site: accepted, run, watched, cancelled, and found again after a restart."""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from actors.config.schema import Config
from actors.errors import Conflict, DeadlineExceeded, GuestBusy, JobUnknown, TooLate
from actors.hypervisor.messages import GuestInfo
from actors.migration.decisions import Outlook
from actors.migration.events import Event, Restarted, Started
from actors.migration.executor import Runner, refuse_past_no_return
from actors.migration.journal import JOURNAL_FILE, Journal
from actors.migration.messages import EventsQuery, JobEvents, JobView, MoveRequest, PauseChange, Progress
from actors.migration.owners import Owners
from actors.migration.pause import expected_fixed_ms, pause_ms
from actors.migration.preflight import Cleared, Preflight
from actors.migration.receiver import Receiver
from actors.migration.remotes import Remotes
from actors.migration.saga import Plan, Saga
from actors.migration.states import Deadlines, Job, Side, State
from actors.migration.views import view
from actors.placement.messages import PastMove

log = structlog.get_logger()
# The API gives a submission 15 s; the answer has to be on its way before that.
PREFLIGHT_S = 12.0
MAX_WAIT_S = 60.0
HISTORY = 100


class Desk:
    """Keeps a `Runner` for each job that is not settled, and the journal for all.

    Args:
        config: deadlines and where the journal lies.
        remotes: the actors.
        preflight: clears each request.
        receiver: reaches the target's half of a move.
        owners: agrees on moves with the control state.
    """

    def __init__(
        self, config: Config, remotes: Remotes, preflight: Preflight, receiver: Receiver, owners: Owners
    ) -> None:
        limits = config.migration
        self._deadlines = Deadlines(
            begin_s=limits.begin_s,
            prepare_s=limits.prepare_s,
            perform_s=limits.perform_s,
            switchover_s=limits.switchover_s,
            finish_s=limits.finish_s,
            confirm_s=limits.confirm_s,
            rollback_s=limits.rollback_s,
        )
        self._pause_ms = limits.pause_ms
        self._remotes = remotes
        self._preflight = preflight
        self._receiver = receiver
        self._owners = owners
        self._journal = Journal(Path(config.node.state_dir) / JOURNAL_FILE)
        self._runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._guest_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._news: asyncio.Event = asyncio.Event()

    def recover(self) -> None:
        """Take up every job that an earlier manager left; those already running here are left alone."""
        self._journal.prune()
        for record in self._journal.unsettled():
            if record.job.id not in self._runners:
                log.info("taking up a migration from the journal", job=record.job.id, state=record.job.state)
                self._run(record.job, None, lambda at: Restarted(at=at))

    async def close(self) -> None:
        """Stop running jobs where they are (as a crash would) and close the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._journal.close()

    # -- asking -------------------------------------------------------------------------------------------------

    def job_of(self, guest: str) -> str:
        """The job that has the guest in its hands, '' when none has."""
        return next((r.job.id for r in self._runners.values() if r.job.guest == guest and not r.job.ended), "")

    def has(self, job: str) -> bool:
        """True when this site accepted the job."""
        return job in self._runners or self._journal.get(job) is not None

    def view(self, job: str) -> JobView:
        """One job.

        Raises:
            JobUnknown: this site never had it (or has forgotten it).
        """
        if job in self._runners:
            return self._runners[job].view
        record = self._journal.get(job)
        if record is None:
            raise JobUnknown(job=job)
        return view(record.job, record.progress)

    def views(self) -> list[JobView]:
        """The newest jobs first."""
        return [view(record.job, record.progress) for record in self._journal.newest()]

    def past(self) -> list[PastMove]:
        """What the moves that were completed took; blocking."""
        return [
            PastMove(
                guest=record.job.guest,
                ended_at=record.job.ended_at,
                memory_mib=record.progress.memory_total / (1 << 20),
                wire_bytes=float(record.progress.wire_bytes),
                total_s=record.job.ended_at - record.job.created_at,
                pause_s=max(pause_ms(record.job), 0.0) / 1000,
            )
            for record in self._journal.newest(HISTORY)
            if record.job.state is State.COMPLETED
        ]

    def by_key(self, key: str) -> JobView | None:
        """The job submitted with this key within a day."""
        record = self._journal.by_key(key, time.time())
        return self.view(record.job.id) if record else None

    async def events(self, query: EventsQuery) -> JobEvents:
        """Events after the cursor; waits for the first at most `wait_s` (60 s), and never for an ended job's."""
        deadline_s = time.monotonic() + min(max(query.wait_s, 0.0), MAX_WAIT_S)
        while True:
            news = self._news
            ended = self.view(query.job).ended_at > 0
            events = await asyncio.to_thread(self._journal.events, query.job, query.after)
            if events or ended:
                last = events[-1].seq if events else query.after
                return JobEvents(events=events, final=ended and last >= self._journal.last_seq(query.job))
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return JobEvents(events=[], final=False)
            try:
                async with asyncio.timeout(left_s):
                    await news.wait()
            except TimeoutError:
                pass

    # -- acting -------------------------------------------------------------------------------------------------

    def claim(self, guest: str) -> asyncio.Lock:
        """The lock under which one guest's job, action or creation is decided."""
        lock = self._guest_locks.get(guest)
        if lock is None:
            lock = self._guest_locks[guest] = asyncio.Lock()
        return lock

    def refuse_busy(self, guest: str) -> None:
        """Raise GuestBusy while a job has the guest (V7)."""
        job = self.job_of(guest)
        if job:
            raise GuestBusy(guest=guest, job=job)

    async def submit(self, request: MoveRequest, info: GuestInfo) -> JobView:
        """Accept the move of `info`, a guest of this site: preflight, journal, begin.

        Raises:
            Conflict: the key was used for another guest.
            NovaCronError: what spoke against it (see `Preflight.clear`); nothing was changed.
        """
        async with self.claim(request.guest):
            known = self.by_key(request.key) if request.key else None
            if known is not None:
                return same_request(known, request)
            self.refuse_busy(request.guest)
            try:
                async with asyncio.timeout(PREFLIGHT_S):
                    if request.to:  # what an earlier attempt still owes there would itself stand in the way
                        await self._pay_debts(request.guest, request.to)
                    cleared = await self._preflight.clear(request, info)
                    await self._pay_debts(request.guest, cleared.target)
            except TimeoutError as error:
                raise DeadlineExceeded(what=f"the preflight of guest {info.name}", deadline_s=PREFLIGHT_S) from error
            now = time.time()
            job = Job(
                id=f"m-{secrets.token_hex(6)}",
                guest=info.name,
                source=info.node,
                target=cleared.target,
                pause_budget_ms=request.pause_ms or self._pause_ms,
                if_stalled=request.if_stalled,
                max_mbit=request.max_mbit,
                rtt_ms=cleared.plan.rtt_ms,
                fixed_ms=await asyncio.to_thread(self._fixed_ms, info.node, cleared),
                created_at=now,
                since=now,
                placement_reason=cleared.placement_reason,
                path=cleared.path.path,
                path_reason=cleared.path.reason,
                key=request.key,
            )
            await asyncio.to_thread(self._journal.save, job, Progress(), [])
            return self._run(job, cleared.plan, lambda at: Started(at=at)).view

    async def cancel(self, job: str) -> JobView:
        """Cancel a job; repeating it changes nothing.

        Raises:
            JobUnknown, PastNoReturn
        """
        if job in self._runners:
            return await self._runners[job].cancel()
        record = self._journal.get(job)
        if record is None:
            raise JobUnknown(job=job)
        refuse_past_no_return(record.job)
        return view(record.job, record.progress)

    async def change_pause(self, change: PauseChange) -> JobView:
        """Allow a job another pause; it takes effect at once.

        Raises:
            JobUnknown, TooLate
        """
        if change.id in self._runners:
            return await self._runners[change.id].change_pause(change.pause_ms)
        record = self._journal.get(change.id)
        if record is None:
            raise JobUnknown(job=change.id)
        raise TooLate(job=change.id, state=record.job.state)

    def _fixed_ms(self, source: str, cleared: Cleared) -> float:
        """What the pause will take beside its pages, from the like moves that the journal still has."""
        jobs = (record.job for record in self._journal.newest(HISTORY))
        like = (source, cleared.target, cleared.path.path)
        return expected_fixed_ms(
            cleared.plan.rtt_ms, [one for one in jobs if (one.source, one.target, one.path) == like]
        )

    async def _pay_debts(self, guest: str, target: str) -> None:
        """Clean up what an earlier job of the guest left at the target, before a new one begins there (V8)."""
        for runner in list(self._runners.values()):
            job = runner.job
            if job.guest == guest and job.target == target and Side.TARGET in job.owed:
                await runner.pay_target()

    # -- running ------------------------------------------------------------------------------------------------

    def _run(self, job: Job, plan: Plan | None, first: Callable[[float], Event]) -> Runner:
        saga = Saga(self._remotes, plan, self._receiver.of(job.target), self._owners)
        runner = Runner(job, saga, self._journal, self._deadlines, self._outlook, self._tell)
        self._runners[job.id] = runner
        task = asyncio.create_task(self._keep(runner, first(time.time())), name=job.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return runner

    async def _keep(self, runner: Runner, first: Event) -> None:
        try:
            await runner.run(first)
        except Exception:
            # The journal has the job: the next manager takes it up. Until then the guest stays refused for others.
            log.exception("a migration's runner broke", job=runner.job.id)
            raise
        self._runners.pop(runner.job.id, None)

    async def _outlook(self, job: Job, ahead_s: float) -> Outlook:
        return await self._remotes.outlook(job.source, job.target, ahead_s)

    def _tell(self) -> None:
        # Whoever waits holds the old event; the next waiter gets a new one.
        self._news.set()
        self._news = asyncio.Event()


def same_request(known: JobView, request: MoveRequest) -> JobView:
    """`known` as the answer to a repeated request.

    Raises:
        Conflict: the key was used for another move.
    """
    if known.guest != request.guest or (request.to and request.to != known.target):
        raise Conflict(detail=f"key {request.key!r} was used for {known.id}: {known.guest} to {known.target}")
    return known
