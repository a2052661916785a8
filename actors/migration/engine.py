"""The job's state machine: a job and an event in, the next job and a list of instructions out. No clock, no I/O.

The caller must have the returned job on disk before it performs any of the instructions, and begins them in order: each
once the one before it is done, unless that may go on beside it.
Events that answer an instruction carry the state it was given in; answers to an earlier state's are ignored, since
entering a state always asks for whatever that state needs to know.
"""

from actors.errors import HypervisorFailed, MoveFailed, NotConverging, NovaCronError, StreamCorrupt
from actors.hypervisor.messages import Switchover
from actors.migration.answer import RETRY_S, Answer
from actors.migration.events import (
    Announce,
    CancelAsked,
    Event,
    Instruction,
    Observed,
    PauseChanged,
    Restarted,
    Started,
    StepDone,
    StepFailed,
    TimedOut,
)
from actors.migration.stall import stall_of
from actors.migration.states import (
    PAST_NO_RETURN,
    PAUSE_OPEN,
    SIDE_OF,
    STEPS_IN,
    Deadlines,
    Job,
    Ruling,
    Side,
    State,
    Step,
)
from actors.migration.verdict import GONE, Verdict, decide, executed

POLL_S = 0.5
SWITCHOVER_POLL_S = 0.1
FINISH_POLL_S = 0.05
DEBT_RETRY_S = 10.0
_UNDO = (Step.UNDO_SOURCE, Step.UNDO_TARGET, Step.UNDO_STATE)
_FINISH = (Step.FINISH_STATE, Step.FINISH_TARGET, Step.FINISH_SOURCE)
ALL = frozenset(Side)


def handle(job: Job, event: Event, deadlines: Deadlines) -> tuple[Job, list[Instruction]]:
    """The job after `event`, and what to do about it."""
    turn = _Turn(job, event.at, deadlines)
    match event:
        case Started() if job.state is State.BEGIN:
            turn.start()
        case Restarted():
            turn.restart()
        case CancelAsked() if not job.ended:
            turn.cancel()
        case TimedOut() if event.state is job.state and not job.ended:
            turn.time_out()
        case StepDone() if event.issued_in is job.state and event.step in STEPS_IN[job.state]:
            turn.done(event.step)
        case StepFailed() if event.issued_in is job.state and event.step in STEPS_IN[job.state]:
            turn.failed(event)
        case Observed() if event.issued_in is job.state:
            turn.observed(event)
        case PauseChanged() if job.state in PAUSE_OPEN:
            turn.change_pause(event.pause_ms)
        case _:
            pass
    return turn.job, turn.instructions


class _Turn(Answer):
    """One event's handling."""

    # -- events -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._set(owed=self.job.owed | {Side.SOURCE, Side.STATE})
        self._enter(State.BEGIN)
        self._do(Step.FREEZE)

    def restart(self) -> None:
        match self.job.state:
            case State.BEGIN | State.PREPARE:
                self._fail(MoveFailed(job=self.job.id, state=self.job.state, reason="the manager was restarted"))
            case State.PERFORM | State.SWITCHOVER:
                self._rearm()
                self._read()
            case State.FINISH:
                self._rearm()
                self._commit()
                self._read()
            case State.CONFIRM:
                self._rearm()
                self._confirm()
            case State.ROLLING_BACK:
                self._rearm()
                self._roll_back()
            case _:
                self._pay_debts(after_s=0.0)

    def cancel(self) -> None:
        if self.job.state in PAST_NO_RETURN or self.job.cancel_asked:
            return
        self._set(cancel_asked=True)
        if self.job.state is not State.ROLLING_BACK:
            self._enter(State.ROLLING_BACK)
            self._roll_back()

    def change_pause(self, pause_ms: int) -> None:
        if pause_ms != self.job.pause_budget_ms:
            self._set(pause_budget_ms=pause_ms, stalled=False, note="")
            self.instructions.append(Announce(kind="state", job=self.job))

    def time_out(self) -> None:
        state = self.job.state
        if state is State.FINISH:
            # libvirt still has its last words to say over the channels that confirm would close: wait on.
            self._overdue()
        elif state is State.CONFIRM:
            if self.job.source_gone:
                self._end(State.COMPLETED)
            else:
                self._overdue()
        elif state is State.ROLLING_BACK:
            if self.job.ruling is not Ruling.OPEN and Side.SOURCE not in self.job.owed:
                self._end_rolled_back()
            else:
                self._overdue()
        else:
            reason = f"it took longer than {self._deadlines.of(state):g} s"
            self._fail(MoveFailed(job=self.job.id, state=state, reason=reason))

    def done(self, step: Step) -> None:
        if step in SIDE_OF:
            self._cleaned(step)
            return
        match self.job.state, step:
            case State.BEGIN, Step.FREEZE:
                self._set(owed=ALL)
                self._enter(State.PREPARE)
                self._do(Step.RECEIVE)
            case State.PREPARE, Step.RECEIVE:
                self._do(Step.WIRE)
            case State.PREPARE, Step.WIRE:
                self._set(move_started=True)
                self._enter(State.PERFORM)
                self._do(Step.START)
            case _, Step.COMMIT:
                self._set(committed=True)
                if self.job.state is State.CONFIRM:
                    self._finish_sides()
            case _:
                self._read()

    def failed(self, event: StepFailed) -> None:
        step = event.step
        if step in SIDE_OF:
            self._retry(step)
        elif step is Step.COMMIT and self.job.state is State.CONFIRM:
            # The job ends by what both hypervisors say; what is owed to the control state says the same later.
            self._finish_sides()
        elif step is Step.COMMIT:
            self._commit(RETRY_S)
        elif self.job.state is State.ROLLING_BACK:
            self._read(RETRY_S)
        else:
            self._fail_with(event.code, event.fields)

    def observed(self, event: Observed) -> None:
        here, there = event.source.status, event.target.status if event.target else None
        self._set(
            stopped_at=(here.stopped_at if here else 0.0) or self.job.stopped_at,
            resumed_at=(there.resumed_at if there else 0.0) or self.job.resumed_at,
            pages_at=event.pages_at or self.job.pages_at,
            sent_at=event.sent_at or self.job.sent_at,
            delivered_at=(there.delivered_at if there else 0.0) or self.job.delivered_at,
            loaded_at=(there.loaded_at if there else 0.0) or self.job.loaded_at,
        )
        if here and here.switchover and here.switchover.predicted_ms >= 0:
            self._set(predicted_pause_ms=here.switchover.predicted_ms)
        if here and here.outcome != "running" and here.guest_state in GONE:
            self._set(source_gone=True)
        match self.job.state:
            case State.PERFORM | State.SWITCHOVER:
                self._watch(event)
            case State.FINISH:
                self._finish(event)
            case State.CONFIRM:
                self._confirm_source(event)
            case State.ROLLING_BACK if self.job.ruling is Ruling.OPEN:
                self._rule(event)
            case _:
                pass

    # -- the way forward ----------------------------------------------------------------------------------------

    def _watch(self, event: Observed) -> None:
        here, there = event.source.status, event.target.status if event.target else None
        arrived = (there is not None and executed(there)) or (here is not None and here.outcome == "succeeded")
        if self.job.state is State.PERFORM and (arrived or self.job.stopped_at):
            self._enter(State.SWITCHOVER)
        if arrived:
            self._arrived(event)
        elif event.codec_failure:
            self._fail(StreamCorrupt(reason=event.codec_failure))
        elif here is not None and here.outcome == "failed":
            message = here.reason or "the migration failed"
            self._fail(HypervisorFailed(node=self.job.source, message=message, libvirt_code=here.libvirt_code))
        elif here is not None and here.outcome == "none":
            reason = f"the agent of {self.job.source} knows of no such move"
            self._fail(MoveFailed(job=self.job.id, state=self.job.state, reason=reason))
        elif here is None:
            self._set(note=f"the source does not answer: {event.source.problem}")
            self._read_on(event.at)
        else:
            self._look_for_stall(here.switchover)
            if self.job.state is not State.ROLLING_BACK:
                self._read_on(event.at)

    def _read_on(self, at: float) -> None:
        if self.job.state is not State.SWITCHOVER:
            self._read(POLL_S)
            return
        # A look has both hosts work and takes QEMU's monitor, which libvirt needs to end the pause.
        left_s = self.job.stopped_at + self.job.pause_budget_ms / 1000 - at
        self._read(min(max(left_s, SWITCHOVER_POLL_S), POLL_S))

    def _look_for_stall(self, seen: Switchover | None) -> None:
        stall = stall_of(seen) if seen is not None and self.job.state is State.PERFORM else None
        if stall is None:
            self._set(stalled=False, note="")
            return
        if self.job.if_stalled == "cancel":
            self._fail(NotConverging(job=self.job.id, advice=str(stall)))
            return
        begins = not self.job.stalled
        self._set(stalled=True, note=str(stall))
        if begins:
            self.instructions.append(Announce(kind="stalled", job=self.job))

    def _arrived(self, event: Observed) -> None:
        self._enter(State.FINISH)
        if not _over(event):
            self._commit()
        self._finish(event)

    def _commit(self, after_s: float = 0.0) -> None:
        """Have the point of no return agreed on, while libvirt says its last words."""
        if Side.STATE in self.job.owed and not self.job.committed:
            self._do(Step.COMMIT, beside=True, after_s=after_s)

    def _finish(self, event: Observed) -> None:
        if _over(event):
            self._enter(State.CONFIRM)
            self._confirm()
        else:
            self._read(FINISH_POLL_S if event.source.status else RETRY_S)

    def _confirm(self) -> None:
        # The point of no return is agreed on before anything that could not be taken back is done about it.
        if Side.STATE in self.job.owed and not self.job.committed:
            self._do(Step.COMMIT)
        else:
            self._finish_sides()

    def _finish_sides(self) -> None:
        for step in _FINISH:
            if SIDE_OF[step] in self.job.owed:
                self._do(step, beside=True)
        if not self.job.owed:
            self._read()

    def _confirm_source(self, event: Observed) -> None:
        if self.job.source_gone and not self.job.owed:
            self._end(State.COMPLETED)
        elif event.source.status is None:
            self._set(note=f"waiting for the source to confirm: {event.source.problem}")
            self._read(RETRY_S)
        else:
            # The guest belongs to the target: what still stands at the source must go, and never run again (V2).
            self._set(owed=self.job.owed | {Side.SOURCE})
            self._do(Step.FINISH_SOURCE, after_s=RETRY_S)

    # -- the way back -------------------------------------------------------------------------------------------

    def _fail(self, error: NovaCronError) -> None:
        self._fail_with(error.code, error.fields)

    def _fail_with(self, code: str, fields: dict[str, str | int | float]) -> None:
        if not self.job.error:
            self._set(error=code, error_fields=fields)
        self._enter(State.ROLLING_BACK)
        self._roll_back()

    def _roll_back(self) -> None:
        if not self.job.move_started:
            # libvirt was never told to begin, so the guest never left the source.
            self._set(ruling=Ruling.SOURCE_KEEPS)
        if self.job.ruling is Ruling.OPEN:
            self._do(Step.ABORT)
        else:
            self._clean_up()

    def _rule(self, event: Observed) -> None:
        assert event.target is not None, "both sides are asked in a roll-back"
        verdict, reason = decide(event.source, event.target, stopped=self.job.stopped_at > 0)
        self._explain(reason)
        match verdict:
            case Verdict.ARRIVED:
                self._arrived_after_all(event)
            case Verdict.WAIT if event.source.status and event.source.status.outcome == "running":
                self._do(Step.ABORT, after_s=RETRY_S)
            case Verdict.WAIT:
                self._read(RETRY_S)
            case Verdict.UNDO_TARGET_FIRST:
                again = Side.TARGET not in self.job.owed
                self._set(owed=self.job.owed | {Side.TARGET})
                self._do(Step.UNDO_TARGET, after_s=RETRY_S if again else 0.0)
            case Verdict.RESUME_SOURCE:
                again = Side.SOURCE not in self.job.owed
                self._set(owed=self.job.owed | {Side.SOURCE})
                self._do(Step.UNDO_SOURCE, resume=True, after_s=RETRY_S if again else 0.0)
            case Verdict.SOURCE_RUNS:
                self._set(ruling=Ruling.SOURCE_KEEPS)
                self._clean_up()
            case Verdict.GUEST_ENDED:
                ended = MoveFailed(job=self.job.id, state=self.job.state, reason=reason)
                self._set(ruling=Ruling.GUEST_ENDED, error=ended.code, error_fields=ended.fields)
                self._clean_up()

    def _arrived_after_all(self, event: Observed) -> None:
        cause = "the cancel" if self.job.cancel_asked else self.job.error
        self._set(error="", error_fields={}, note=f"{cause} came too late: the target already has the guest")
        self._arrived(event)

    def _clean_up(self) -> None:
        for step in _UNDO:
            if SIDE_OF[step] in self.job.owed:
                self._do(step)
        if not self.job.owed:
            self._end_rolled_back()

    def _cleaned(self, step: Step) -> None:
        self._set(owed=self.job.owed - {SIDE_OF[step]})
        if self.job.state is State.ROLLING_BACK:
            if self.job.ruling is Ruling.OPEN:
                self._read()
            elif not self.job.owed:
                self._end_rolled_back()
        elif self.job.state is State.CONFIRM and not self.job.owed:
            if self.job.source_gone:
                self._end(State.COMPLETED)
            else:
                self._read()

    def _retry(self, step: Step) -> None:
        if self.job.state is State.ROLLING_BACK and self.job.ruling is Ruling.OPEN:
            # Whatever was about to be undone, look again before it is tried again (V11).
            self._read(RETRY_S)
        elif self.job.owed == {Side.STATE} and self.job.state is State.ROLLING_BACK:
            # What is left is to tell the control state: no reason to have the guest's owner wait.
            self._end_rolled_back()
        elif self.job.owed == {Side.STATE} and self.job.state is State.CONFIRM and self.job.source_gone:
            self._end(State.COMPLETED)
        elif SIDE_OF[step] in self.job.owed:
            self._do(step, after_s=DEBT_RETRY_S if self.job.ended else RETRY_S)

    def _end_rolled_back(self) -> None:
        self._end(State.CANCELLED if self.job.cancel_asked and not self.job.error else State.FAILED)

    def _end(self, state: State) -> None:
        self._set(ended_at=self._at)
        self._enter(state)
        self._pay_debts(after_s=DEBT_RETRY_S)

    def _pay_debts(self, after_s: float) -> None:
        completed = self.job.state is State.COMPLETED
        for step in _FINISH if completed else _UNDO:
            if SIDE_OF[step] in self.job.owed:
                self._do(step, after_s=after_s)


def _over(event: Observed) -> bool:
    """True when libvirt's job at the source is known to be over."""
    return event.source.status is not None and event.source.status.outcome != "running"
