"""The table of who has the guest."""

import itertools

import pytest

from actors.hypervisor.messages import MoveStatus
from actors.migration.events import Reading
from actors.migration.verdict import Verdict, decide

NOBODY = Reading(problem="no answer")
STATES = ["running", "paused", "shut-off", "crashed", "incoming", "absent"]
OUTCOMES = ["none", "running", "succeeded", "failed"]


def says(guest_state, outcome="none", *, resumed_at=0.0, stopped_at=0.0):
    status = MoveStatus(outcome=outcome, guest_state=guest_state, resumed_at=resumed_at, stopped_at=stopped_at)
    return Reading(status=status)


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        # The target runs it, or has run it: it belongs there, whatever the source says.
        (says("paused", "failed"), says("running"), Verdict.ARRIVED),
        (says("running", "running"), says("running"), Verdict.ARRIVED),
        (NOBODY, says("running"), Verdict.ARRIVED),
        (says("paused", "failed"), says("paused", resumed_at=5), Verdict.ARRIVED),
        (says("paused", "failed"), says("absent", resumed_at=5), Verdict.ARRIVED),
        (says("absent", "succeeded"), NOBODY, Verdict.ARRIVED),
        (says("absent", "none"), says("paused"), Verdict.ARRIVED),
        # libvirt is still at it.
        (says("running", "running"), says("incoming"), Verdict.WAIT),
        (says("paused", "running"), says("incoming"), Verdict.WAIT),
        (says("paused", "running"), says("absent"), Verdict.WAIT),
        # The source runs it and libvirt's job is over.
        (says("running", "failed"), says("absent"), Verdict.SOURCE_RUNS),
        (says("running", "failed"), says("incoming"), Verdict.SOURCE_RUNS),
        (says("running", "none"), says("absent"), Verdict.SOURCE_RUNS),
        # Nobody runs it: the target must be provably out of it before the source goes on.
        (says("paused", "failed"), says("absent"), Verdict.RESUME_SOURCE),
        (says("paused", "none"), says("absent"), Verdict.RESUME_SOURCE),
        (says("paused", "failed"), says("incoming"), Verdict.UNDO_TARGET_FIRST),
        (says("paused", "failed"), says("paused"), Verdict.WAIT),
        (says("paused", "failed"), says("shut-off"), Verdict.WAIT),
        # Somebody does not answer.
        (says("paused", "failed"), NOBODY, Verdict.WAIT),
        (says("running", "none"), NOBODY, Verdict.WAIT),
        (says("running", "failed"), NOBODY, Verdict.SOURCE_RUNS),
        (says("running", "failed", stopped_at=5), NOBODY, Verdict.WAIT),
        (says("absent", "failed"), NOBODY, Verdict.WAIT),
        (NOBODY, says("absent"), Verdict.WAIT),
        (NOBODY, NOBODY, Verdict.WAIT),
        # The guest itself ended.
        (says("shut-off", "failed"), says("absent"), Verdict.GUEST_ENDED),
        (says("crashed", "failed"), says("incoming"), Verdict.GUEST_ENDED),
    ],
)
def test_table(source, target, verdict):
    assert decide(source, target, stopped=False).verdict is verdict


def test_a_source_that_once_stopped_waits_for_the_targets_account():
    assert decide(says("running", "failed"), NOBODY, stopped=True).verdict is Verdict.WAIT


@pytest.mark.parametrize("there", ["incoming", "paused"])
def test_a_source_that_libvirt_took_back_is_believed_only_when_the_target_has_let_go(there):
    source = says("running", "failed", stopped_at=5)
    assert decide(source, says(there), stopped=False).verdict is Verdict.UNDO_TARGET_FIRST
    assert decide(says("running", "failed"), says(there), stopped=True).verdict is Verdict.UNDO_TARGET_FIRST
    assert decide(source, says("absent"), stopped=True).verdict is Verdict.SOURCE_RUNS
    assert decide(source, says("running"), stopped=True).verdict is Verdict.ARRIVED


def test_every_combination_has_a_verdict_and_a_reason():
    readings = [NOBODY] + [
        says(state, outcome, resumed_at=at) for state, outcome, at in itertools.product(STATES, OUTCOMES, [0.0, 5.0])
    ]
    for source, target, stopped in itertools.product(readings, readings, [False, True]):
        verdict, reason = decide(source, target, stopped=stopped)
        assert reason
        here, there = source.status, target.status
        if verdict is Verdict.RESUME_SOURCE:
            assert here.outcome in {"none", "failed"}
            assert (here.guest_state, there.guest_state, there.resumed_at) == ("paused", "absent", 0)
        if verdict in {Verdict.SOURCE_RUNS, Verdict.UNDO_TARGET_FIRST, Verdict.GUEST_ENDED}:
            assert there is None or (there.guest_state != "running" and not there.resumed_at)
        if verdict is Verdict.SOURCE_RUNS:
            assert here.guest_state == "running"
