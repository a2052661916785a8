"""The control state takes a move through every sequence of states that the manager's own engine takes it through."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from actors.control.move_rules import BEFORE
from actors.migration.engine import handle
from actors.migration.events import Announce
from actors.migration.states import State
from tests.unit.migration import test_engine_simulation as simulation


def test_what_the_managers_engine_does_is_allowed_here(monkeypatch):
    entered: set[tuple[State, State]] = set()

    def watched(job, event, deadlines):
        after, instructions = handle(job, event, deadlines)
        state = job.state
        for each in instructions:
            if isinstance(each, Announce) and each.kind == "state" and each.job.state is not state:
                entered.add((state, each.job.state))
                state = each.job.state
        return after, instructions

    monkeypatch.setattr(simulation, "handle", watched)
    run_state_machine_as_test(
        simulation.Moves,
        settings=settings(
            max_examples=60, stateful_step_count=60, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )
    assert {after for _, after in entered} >= set(State) - {State.BEGIN, State.CANCELLED}
    assert [(before, after) for before, after in sorted(entered) if before not in BEFORE[after]] == []
