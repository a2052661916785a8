"""Rules for moves. The states are those of `actors/migration/states.py`; the point of no return is `CommitMove`."""

from msgspec.structs import replace

from actors.control.commands import AdvanceMove, BeginMove, CommitMove, EndMove, MoveCommand, VoidMove
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.model import ControlState, Job, Run
from actors.control.ownership import (
    at_epoch,
    epoch_at,
    guest_of,
    holds_lease,
    job_of,
    live,
    not_moving,
    own_replica,
    taker_of,
)
from actors.migration.states import ENDED, PAST_NO_RETURN, Ruling, State

ENDED_JOBS_KEPT = 256

BEFORE: dict[State, frozenset[State]] = {
    State.PREPARE: frozenset({State.BEGIN}),
    State.PERFORM: frozenset({State.PREPARE}),
    State.SWITCHOVER: frozenset({State.PERFORM}),
    State.ROLLING_BACK: frozenset({State.BEGIN, State.PREPARE, State.PERFORM, State.SWITCHOVER}),
    State.FINISH: frozenset({State.PERFORM, State.SWITCHOVER, State.ROLLING_BACK}),
    State.CONFIRM: frozenset({State.FINISH}),
    State.COMPLETED: frozenset({State.CONFIRM}),
    State.FAILED: frozenset({State.ROLLING_BACK}),
    State.CANCELLED: frozenset({State.ROLLING_BACK}),
}
"""From which states each one may be entered. Entering a state again changes nothing."""

SKIPS_SINCE = 5
SKIPS: dict[State, frozenset[State]] = {
    State.PERFORM: frozenset({State.BEGIN}),
    State.COMPLETED: frozenset({State.FINISH}),
}
"""From where also, since that version of the rules: what is skipped guards nothing."""

_ADVANCES = frozenset({State.PREPARE, State.PERFORM, State.SWITCHOVER, State.ROLLING_BACK, State.CONFIRM})


def decide(state: ControlState, command: MoveCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case BeginMove():
            return _begin(state, command, asked)
        case AdvanceMove():
            return _advance(state, command)
        case CommitMove():
            return _commit(state, command)
        case EndMove():
            return _end(state, command, asked)
        case VoidMove():
            return _void(state, command, asked)


def _begin(state: ControlState, command: BeginMove, asked: Asked) -> Outcome:
    guest = guest_of(state, command.guest)
    if command.job in state.jobs:
        raise Refused(Refusal.BUSY, f"there is already a move {command.job}")
    not_moving(guest)
    at_epoch(guest, command.epoch)
    if guest.run is not Run.RUNNING:
        raise Refused(Refusal.NOT_RUNNING, f"{guest.name} is stopped")
    if guest.node == command.target:
        raise Refused(Refusal.SAME_NODE, f"{guest.name} is on {command.target} already")
    if not holds_lease(state, guest.node):
        raise Refused(Refusal.NO_LEASE, f"{guest.node} holds no lease, so {guest.name} does not run there now")
    taker_of(state, command.target)
    job = Job(
        id=command.job,
        guest=guest.name,
        source=guest.node,
        target=command.target,
        epoch=epoch_at(state, asked.index),
        begun_at_ms=asked.at_ms,
    )
    changes = (Change("jobs", job.id, job), Change("guests", guest.name, replace(guest, job=job.id)))
    return Outcome(changes=changes, number=job.epoch)


def _enter(now: ControlState, job: Job, state: State, among: frozenset[State]) -> None:
    if state not in among:
        raise Refused(Refusal.MALFORMED, f"{state} is not entered by this command")
    if job.state in PAST_NO_RETURN and state not in PAST_NO_RETURN:
        raise Refused(Refusal.PAST_NO_RETURN, f"{job.guest} belongs to {job.target} since move {job.id} is {job.state}")
    skips = SKIPS.get(state, frozenset()) if now.cluster.version >= SKIPS_SINCE else frozenset()
    if job.state not in BEFORE[state] | skips:
        raise Refused(Refusal.NOT_THEN, f"move {job.id} is {job.state}, from which it can't go to {state}")


def _advance(state: ControlState, command: AdvanceMove) -> Outcome:
    job = job_of(state, command.job)
    if job.state is command.state:
        return Outcome(number=job.epoch)
    _enter(state, live(job), command.state, _ADVANCES)
    new = replace(
        job,
        state=command.state,
        started=job.started or command.state is State.PERFORM,
        error=job.error or command.error,
    )
    return Outcome(changes=(Change("jobs", job.id, new),), number=job.epoch)


def _commit(state: ControlState, command: CommitMove) -> Outcome:
    job = job_of(state, command.job)
    if job.state in PAST_NO_RETURN:
        return Outcome(number=job.epoch)
    _enter(state, live(job), State.FINISH, PAST_NO_RETURN)
    if not job.started:
        raise Refused(Refusal.NOT_THEN, f"move {job.id} was never started, so {job.target} can't have the guest")
    guest = guest_of(state, job.guest)
    changes = (
        Change("guests", guest.name, replace(guest, node=job.target, epoch=job.epoch)),
        Change("jobs", job.id, replace(job, state=State.FINISH, error="")),
        *own_replica(state, guest.name, job.target),
    )
    return Outcome(changes=changes, number=job.epoch, detail=f"{guest.name} belongs to {job.target}")


def _end(state: ControlState, command: EndMove, asked: Asked) -> Outcome:
    job = job_of(state, command.job)
    if job.state is command.state:
        return Outcome(number=job.epoch)
    _enter(state, live(job), command.state, ENDED)
    guest = guest_of(state, job.guest)
    ruling = job.ruling
    run = guest.run
    if command.state is not State.COMPLETED:
        ruling = command.ruling if job.started else Ruling.SOURCE_KEEPS
        if ruling is Ruling.OPEN:
            raise Refused(Refusal.NOT_THEN, f"move {job.id} was started: who has {job.guest} must be found out first")
        if ruling is Ruling.GUEST_ENDED:
            run = Run.STOPPED
    ended = replace(job, state=command.state, ruling=ruling, error=job.error or command.error, ended_index=asked.index)
    changes = (
        Change("jobs", job.id, ended),
        Change("guests", guest.name, replace(guest, job="", run=run)),
        *oldest_ended(state),
    )
    return Outcome(changes=changes, number=guest.epoch)


def _void(state: ControlState, command: VoidMove, asked: Asked) -> Outcome:
    """An ended record stands under the move's name, so that a `BeginMove` which comes later is refused."""
    job = state.jobs.get(command.job)
    if job is None:
        job = Job(id=command.job, guest=command.guest, source=command.source, target=command.target, epoch=0)
    elif job.state in PAST_NO_RETURN:
        raise Refused(Refusal.PAST_NO_RETURN, f"{job.guest} belongs to {job.target} since move {job.id} is {job.state}")
    elif job.state in ENDED:
        return Outcome(number=job.epoch)
    elif job.started:
        raise Refused(Refusal.NOT_THEN, f"move {job.id} was started: who has {job.guest} must be found out first")
    ended = replace(job, state=State.FAILED, ruling=Ruling.SOURCE_KEEPS, ended_index=asked.index)
    guest = state.guests.get(job.guest)
    held = guest is not None and guest.job == job.id
    freed = (Change("guests", guest.name, replace(guest, job="")),) if guest is not None and held else ()
    changes = (Change("jobs", job.id, ended), *freed, *oldest_ended(state))
    return Outcome(changes=changes, number=job.epoch, detail="" if held else f"{job.id} never begins")


def oldest_ended(state: ControlState) -> list[Change]:
    """Ended moves to forget, so that with one more there are `ENDED_JOBS_KEPT`."""
    ended = sorted((job for job in state.jobs.values() if job.state in ENDED), key=lambda job: job.ended_index)
    return [Change("jobs", job.id, None) for job in ended[: max(0, len(ended) + 1 - ENDED_JOBS_KEPT)]]
