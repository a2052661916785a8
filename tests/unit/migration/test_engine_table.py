"""Every event in every state."""

import itertools

import msgspec
import pytest

from actors.hypervisor.messages import MoveStatus
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
    Restarted,
    Started,
    StepDone,
    StepFailed,
    TimedOut,
)
from actors.migration.states import ENDED, PAST_NO_RETURN, STEPS_IN, Deadlines, Job, Ruling, Side, State, Step

DEADLINES = Deadlines(
    begin_s=20, prepare_s=60, perform_s=7200, switchover_s=120, finish_s=60, confirm_s=60, rollback_s=120
)
SILENT = Reading(problem="no answer")
AFTER_START = frozenset(State) - {State.BEGIN, State.PREPARE}


def job(state, **more):
    started = state in AFTER_START
    return Job(
        id="m-1",
        guest="web",
        source="a",
        target="b",
        pause_budget_ms=300,
        created_at=1,
        since=1,
        state=state,
        move_started=more.pop("move_started", started),
        owed=more.pop("owed", frozenset() if state in ENDED else frozenset(Side)),
        **more,
    )


def readings():
    states = ["running", "paused", "shut-off", "absent", "incoming"]
    outcomes = ["none", "running", "succeeded", "failed"]
    return [SILENT] + [
        Reading(status=MoveStatus(outcome=outcome, guest_state=state, stopped_at=at, resumed_at=at))
        for state, outcome, at in itertools.product(states, outcomes, [0.0, 5.0])
    ]


def events(state):
    """Every event, those that answer something given in `state`."""
    yield from (Started(at=9), Restarted(at=9), CancelAsked(at=9), PauseChanged(at=9, pause_ms=500))
    yield from (TimedOut(at=9, state=each) for each in State if each not in ENDED)
    for step in Step:
        yield StepDone(at=9, issued_in=state, step=step)
        yield StepFailed(at=9, issued_in=state, step=step, code="internal", fields={"detail": "x"})
    for source, target, codec in itertools.product(readings(), readings(), ["", "checksum"]):
        yield Observed(at=9, issued_in=state, source=source, target=target, codec_failure=codec)


def jobs(state):
    yield job(state)
    yield job(state, cancel_asked=True)
    yield job(state, owed=frozenset({Side.TARGET}))
    yield job(state, committed=True)
    if state is State.ROLLING_BACK:
        yield job(state, move_started=False, ruling=Ruling.SOURCE_KEEPS)
        yield job(state, ruling=Ruling.SOURCE_KEEPS)


def test_how_many_there_are():
    """A new state, step or event must be thought of in this file, in `verdict`, and in docs/jobs.md."""
    assert (len(State), len(Step), len(Event.__args__)) == (10, 12, 8)
    assert {State.COMPLETED, State.FAILED, State.CANCELLED} == ENDED
    assert {State.FINISH, State.CONFIRM, State.COMPLETED} == PAST_NO_RETURN


@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state(state):
    for before, event in itertools.product(list(jobs(state)), list(events(state))):
        after, instructions = handle(before, event, DEADLINES)
        check(before, event, after, instructions)
        assert handle(before, event, DEADLINES) == (after, instructions), "pure"
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(after), type=Job) == after


def check(before, event, after, instructions):
    story = f"{before.state} + {event}: {after.state}, {instructions}"
    if before.ended:
        assert after.state is before.state, story
    if before.state in PAST_NO_RETURN:
        assert after.state in PAST_NO_RETURN, story
    if after.state is not before.state:
        told = [each.job.state for each in instructions if isinstance(each, Announce)]
        assert told[-1] is after.state, story
        assert after.ended == (after.ended_at > 0), story
    steps = [each.step for each in instructions if isinstance(each, Do)]
    assert set(steps) <= STEPS_IN[after.state], story
    if Step.START in steps:
        assert after.move_started, story
    if after.state in PAST_NO_RETURN:
        assert not any(each.resume for each in instructions if isinstance(each, Do)), story
        assert Step.UNDO_TARGET not in steps, story
    if after.state is State.CONFIRM and after.state is not before.state and not after.committed:
        assert steps == [Step.COMMIT] or Side.STATE not in after.owed, story
    if Step.RECEIVE in steps:
        assert Side.TARGET in after.owed, story
    if after.state is State.FAILED and before.state is State.ROLLING_BACK and not before.cancel_asked:
        assert Side.SOURCE not in after.owed, story
    entered = after.state is not before.state or isinstance(event, Restarted)
    if entered and not after.ended:
        limits = [each for each in instructions if isinstance(each, Deadline)]
        assert limits[-1].state is after.state, story
        assert any(isinstance(each, Do | Read) for each in instructions), f"nothing drives it on: {story}"


@pytest.mark.parametrize("state", [each for each in State if each not in ENDED])
def test_what_answers_an_earlier_state_is_ignored(state):
    before = job(state)
    for other in State:
        if other is state:
            continue
        for event in events(other):
            if isinstance(event, StepDone | StepFailed | Observed):
                assert handle(before, event, DEADLINES) == (before, [])


@pytest.mark.parametrize("state", [each for each in State if each not in ENDED])
def test_a_restarted_manager_keeps_the_rest_of_the_deadline(state):
    before = msgspec.structs.replace(job(state), since=100.0)
    after, instructions = handle(before, Restarted(at=110.0), DEADLINES)
    limit = next(each for each in reversed(instructions) if isinstance(each, Deadline))
    assert limit.state is after.state
    if after.state is state:
        assert limit.after_s == DEADLINES.of(state) - 10


def test_the_source_must_be_seen_gone_before_a_move_is_complete():
    here = job(State.CONFIRM, owed=frozenset())
    still = Reading(status=MoveStatus(outcome="failed", guest_state="paused"))
    there = Reading(status=MoveStatus(outcome="succeeded", guest_state="running", resumed_at=5))
    observed = Observed(at=9, issued_in=State.CONFIRM, source=still, target=there)
    after, instructions = handle(here, observed, DEADLINES)
    assert after.state is State.CONFIRM
    assert [each.step for each in instructions if isinstance(each, Do)] == [Step.FINISH_SOURCE]
    after, _ = handle(after, TimedOut(at=99, state=State.CONFIRM), DEADLINES)
    assert after.state is State.CONFIRM


def test_the_point_of_no_return_is_agreed_on_while_libvirt_says_its_last_words():
    here = Reading(status=MoveStatus(outcome="running", guest_state="paused", stopped_at=4))
    there = Reading(status=MoveStatus(outcome="succeeded", guest_state="running", resumed_at=5))
    observed = Observed(at=9, issued_in=State.SWITCHOVER, source=here, target=there)
    after, instructions = handle(job(State.SWITCHOVER), observed, DEADLINES)
    assert after.state is State.FINISH
    assert [each.step for each in instructions if isinstance(each, Do)] == [Step.COMMIT]
    done = StepDone(at=9, issued_in=State.FINISH, step=Step.COMMIT)
    after, instructions = handle(after, done, DEADLINES)
    assert (after.state, after.committed, instructions) == (State.FINISH, True, [])


@pytest.mark.parametrize("agreed", [True, False])
def test_both_sides_are_cleaned_up_at_once_after_the_point_of_no_return_was_asked_for(agreed):
    answers = {
        True: StepDone(at=9, issued_in=State.CONFIRM, step=Step.COMMIT),
        False: StepFailed(at=9, issued_in=State.CONFIRM, step=Step.COMMIT, code="no-majority"),
    }
    after, instructions = handle(job(State.CONFIRM), answers[agreed], DEADLINES)
    assert (after.state, after.committed) == (State.CONFIRM, agreed)
    steps = [each for each in instructions if isinstance(each, Do)]
    assert [each.step for each in steps] == [Step.FINISH_STATE, Step.FINISH_TARGET, Step.FINISH_SOURCE]
    assert all(each.beside for each in steps)


def test_channels_stay_open_while_libvirt_has_not_said_its_last_word():
    before = job(State.FINISH, owed=frozenset(Side))
    after, instructions = handle(before, TimedOut(at=99, state=State.FINISH), DEADLINES)
    assert after.state is State.FINISH
    assert not [each for each in instructions if isinstance(each, Do)]


def test_the_first_error_is_the_one_that_is_told():
    failed, _ = handle(
        job(State.PREPARE),
        StepFailed(at=2, issued_in=State.PREPARE, step=Step.WIRE, code="link-down", fields={}),
        DEADLINES,
    )
    again, _ = handle(
        failed,
        StepFailed(at=3, issued_in=State.ROLLING_BACK, step=Step.UNDO_TARGET, code="actor-down", fields={}),
        DEADLINES,
    )
    assert again.error == "link-down"


@pytest.mark.parametrize(
    ("stopped_at", "at", "after_s"),
    [
        pytest.param(9.0, 9.05, 0.25, id="the pause has just begun"),
        pytest.param(9.0, 9.25, 0.1, id="nearly over by the budget"),
        pytest.param(9.0, 11.0, 0.1, id="longer than the budget"),
        pytest.param(99.0, 9.0, 0.5, id="a source whose clock is ahead"),
    ],
)
def test_nobody_looks_while_the_pause_is_to_last(stopped_at, at, after_s):
    """A look costs both hosts work just when they need their time."""
    here = Reading(status=MoveStatus(outcome="running", guest_state="paused", stopped_at=stopped_at))
    observed = Observed(at=at, issued_in=State.PERFORM, source=here, target=None)
    after, instructions = handle(job(State.PERFORM), observed, DEADLINES)
    assert after.state is State.SWITCHOVER
    (look,) = (each for each in instructions if isinstance(each, Read))
    assert look.after_s == pytest.approx(after_s)
