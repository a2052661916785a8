"""The engine against simulated hypervisors, with a manager that crashes at every step, lost answers and late orders."""

import contextlib
from functools import partial
from itertools import takewhile

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.migration.engine import handle
from actors.migration.events import CancelAsked, Do, Observed, Read, Restarted, Started, StepDone, StepFailed, TimedOut
from actors.migration.states import ENDED, PAST_NO_RETURN, SIDE_OF, Deadlines, Job, Ruling, Side, State, Step
from tests.unit.migration.world import UNREACHABLE, StepRefused, World

DEADLINES = Deadlines(
    begin_s=20, prepare_s=60, perform_s=7200, switchover_s=120, finish_s=60, confirm_s=60, rollback_s=120
)
AT_TARGET = {Step.RECEIVE, Step.UNDO_TARGET, Step.FINISH_TARGET}


class Manager:
    """What the executor does, one step after the other, those beside each other in any order; the journal is `disk`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disk = msgspec.msgpack.encode(
            Job(id="m-1", guest="web", source="a", target="b", pause_budget_ms=300, created_at=1, since=1)
        )
        self.pending: list[tuple[State, Do | Read]] = []
        self.half_read: tuple[State, object] | None = None
        self.late: list = []
        self.feed(Started(at=1))

    @property
    def job(self) -> Job:
        return msgspec.msgpack.decode(self.disk, type=Job)

    def feed(self, event) -> None:
        before = self.job
        after, instructions = handle(before, event, DEADLINES)
        check_transition(before, after)
        if after.state is not before.state:
            self.pending.clear()
        self.disk = msgspec.msgpack.encode(after)
        self.pending += [(after.state, each) for each in instructions if isinstance(each, Do | Read)]

    def crash(self) -> None:
        self.pending.clear()
        self.half_read = None
        self.feed(Restarted(at=5))

    def perform(self, issued_in: State, do: Do, answer: str) -> None:
        """`answer`: done, lost (it happened), late (it happens later, if ever) or refused (it did not happen)."""
        side = self.world.target if do.step in AT_TARGET else self.world.source
        if not side.reachable and answer in {"done", "lost"}:
            answer = "refused"
        effect = partial(self._effect, do)
        happened = False
        if answer in {"done", "lost"}:
            try:
                effect()
                happened = True
            except StepRefused:
                pass
        elif answer == "late":
            self.late.append(effect)
        if answer == "done" and happened:
            self.feed(StepDone(at=2, issued_in=issued_in, step=do.step))
        else:
            self.feed(StepFailed(at=2, issued_in=issued_in, step=do.step, code="internal", fields={"detail": answer}))

    def _effect(self, do: Do) -> None:
        world = self.world
        if do.step is Step.UNDO_SOURCE and do.resume:
            assert not world.target_executed, "V2: the source was to be resumed after the target had executed"
            assert world.libvirt == "over", "V5: the source was to be resumed while libvirt was still at work"
            assert world.target.guest == "absent", "V5: the source was to be resumed while the target could start"
        {
            Step.FREEZE: world.freeze,
            Step.RECEIVE: world.receive,
            Step.WIRE: lambda: None,
            Step.START: world.start,
            Step.COMMIT: lambda: world.agree("target"),
            Step.ABORT: world.abort,
            Step.UNDO_SOURCE: partial(world.undo_source, resume=do.resume),
            Step.UNDO_TARGET: world.undo_target,
            Step.FINISH_SOURCE: world.finish_source,
            Step.FINISH_TARGET: world.finish_target,
            Step.UNDO_STATE: lambda: world.agree("source"),
            Step.FINISH_STATE: lambda: world.agree("target"),
        }[do.step]()

    def advance(self, answer: str = "done", *, later: int = 0) -> None:
        """The next thing the executor would do; reading is two steps, the source's first.

        `later`: so many of the steps that others may go on beside are still under way.
        """
        if self.half_read is not None:
            issued_in, source = self.half_read
            self.half_read = None
            copying = source.status and source.status.outcome == "running" and not source.status.stopped_at
            ask = not (issued_in is State.PERFORM and copying)
            target = self.world.target.read() if ask else None
            self.feed(Observed(at=3, issued_in=issued_in, source=source, target=target))
        elif self.pending:
            beside = takewhile(lambda each: isinstance(each[1], Do) and each[1].beside, self.pending[:-1])
            issued_in, instruction = self.pending.pop(min(later, len(list(beside))))
            if isinstance(instruction, Read):
                self.half_read = (issued_in, self.world.source.read())
            else:
                self.perform(issued_in, instruction, answer)


def check_transition(before: Job, after: Job) -> None:
    """What holds between any job and the next."""
    if before.ended:
        assert after.state is before.state
    if before.state in PAST_NO_RETURN:
        assert after.state in PAST_NO_RETURN
    if before.cancel_asked:
        assert after.cancel_asked
    assert not (after.state is State.COMPLETED and after.error)


class Moves(RuleBasedStateMachine):
    """Any order of the manager's steps, libvirt's, faults and the operator's wishes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.manager = Manager(self.world)

    @initialize(state=st.sampled_from(list(State)[: list(State).index(State.COMPLETED) - 1]))
    def has_come_so_far(self, state):
        until(self.manager, state)

    # -- the manager --------------------------------------------------------------------------------------------

    @rule(times=st.integers(1, 4), later=st.integers(0, 2))
    def goes_on(self, times, later):
        for _ in range(times):
            self.manager.advance(later=later)

    @rule(answer=st.sampled_from(["lost", "late", "refused"]), later=st.integers(0, 2))
    def step_goes_wrong(self, answer, later):
        self.manager.advance(answer, later=later)

    @rule()
    def manager_is_killed(self):
        self.manager.crash()

    @precondition(lambda self: self.manager.late)
    @rule()
    def late_order_arrives(self):
        with contextlib.suppress(StepRefused):
            self.manager.late.pop(0)()

    @rule()
    def operator_cancels(self):
        before = self.manager.job
        self.manager.feed(CancelAsked(at=4))
        once = self.manager.job
        self.manager.feed(CancelAsked(at=4))
        assert self.manager.job == once, "V10: a second cancel changed something"
        if before.state in PAST_NO_RETURN | ENDED:
            assert once == before, "V10: a cancel past the point of no return changed something"
        else:
            assert once.cancel_asked

    @precondition(lambda self: not self.manager.job.ended)
    @rule()
    def time_runs_out(self):
        self.manager.feed(TimedOut(at=9, state=self.manager.job.state))

    # -- libvirt, the guest and the network ---------------------------------------------------------------------

    @rule()
    def libvirt_goes_on(self):
        for step in (
            self.world.libvirt_confirms,
            self.world.libvirt_hands_over,
            self.world.libvirt_stops_source,
            self.world.libvirt_prepares,
        ):
            step()

    @rule(cleaned=st.booleans())
    def libvirt_fails(self, cleaned):
        self.world.libvirt_fails(target_cleaned=cleaned)

    @rule(cleaned=st.booleans(), forgets=st.booleans())
    def libvirtd_dies_at_source(self, cleaned, forgets):
        self.world.libvirtd_dies_at_source(target_cleaned=cleaned, forgets=forgets)

    @rule()
    def target_cleans_up(self):
        self.world.target_cleans_up()

    @precondition(lambda self: self.world.finish_in_flight)
    @rule()
    def finish_arrives_late(self):
        self.world.finish_arrives_late()

    @rule()
    def guest_powers_off(self):
        self.world.guest_powers_off()

    @rule(here=st.booleans(), there=st.booleans())
    def network_changes(self, here, there):
        self.world.source.reachable, self.world.target.reachable = here, there

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def v1_one_copy_runs(self):
        assert not (self.world.source.guest == "running" and self.world.target.guest == "running")

    @invariant()
    def v2_the_source_never_runs_after_the_target_has(self):
        assert not (self.world.target_executed and self.world.source.guest == "running")

    @invariant()
    def v4_the_verdict_is_true_on_both_sides(self):
        job, world = self.manager.job, self.world
        if job.state is State.COMPLETED:
            assert world.target.guest == "running"
            assert world.source.guest == "absent"
        elif job.ended:
            assert not world.target_executed
            assert world.source.guest == "running" or world.guest_ended

    @invariant()
    def v3_what_was_agreed_is_the_verdict(self):
        job = self.manager.job
        if job.settled:
            assert self.world.agreed == ("target" if job.state is State.COMPLETED else "source")

    @invariant()
    def v8_nothing_is_left_when_nothing_is_owed(self):
        if self.manager.job.settled:
            assert not self.world.source.prepared
            assert not self.world.target.prepared
            assert self.world.target.guest != "incoming" or self.world.target.ended

    def teardown(self):
        """Whatever happened: once all answer again, the job ends, and the guest is where the verdict says."""
        world, manager = self.world, self.manager
        world.source.reachable = world.target.reachable = True
        for _ in range(200):
            if manager.job.settled:
                break
            if not manager.pending and manager.half_read is None:
                assert world.libvirt not in {"over", "idle"}, f"{manager.job.state} waits for nothing"
            manager.advance()
            self.libvirt_goes_on()
            if world.target.guest == "absent":
                world.libvirt_fails(target_cleaned=True)
        assert manager.job.settled, f"stuck in {manager.job.state}: {manager.job.note}"
        self.v4_the_verdict_is_true_on_both_sides()
        self.v3_what_was_agreed_is_the_verdict()
        self.v8_nothing_is_left_when_nothing_is_owed()
        if manager.job.state is State.CANCELLED:
            assert manager.job.cancel_asked
        if world.guest_ended:
            assert manager.job.state in {State.FAILED, State.CANCELLED}


Moves.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMoves = Moves.TestCase


# -- the same world, walked through on purpose ----------------------------------------------------------------------


def to_the_end(manager: Manager, world: World, *, steps: int = 100) -> Job:
    for _ in range(steps):
        if manager.job.settled:
            return manager.job
        manager.advance()
    raise AssertionError(f"stuck in {manager.job.state}: {manager.job.note}")


def until(manager: Manager, state: State) -> None:
    """Let everybody do their work until the job is in `state`."""
    world = manager.world
    for _ in range(60):
        if manager.job.state is state:
            return
        manager.advance()
        if manager.job.state is State.PERFORM and state is not State.PERFORM:
            world.libvirt_prepares()
            world.libvirt_stops_source()
        elif manager.job.state is State.SWITCHOVER and state is not State.SWITCHOVER:
            world.libvirt_hands_over()
        elif manager.job.state is State.FINISH and state is not State.FINISH:
            world.libvirt_confirms()
    raise AssertionError(f"never came to {state}, is in {manager.job.state}")


FORWARD = [State.BEGIN, State.PREPARE, State.PERFORM, State.SWITCHOVER, State.FINISH, State.CONFIRM, State.COMPLETED]


@pytest.mark.parametrize("state", FORWARD)
def test_cancel_in_every_state_of_the_way_forward(state):
    world = World()
    manager = Manager(world)
    until(manager, state)
    manager.feed(CancelAsked(at=4))
    if state in PAST_NO_RETURN:
        assert manager.job.state is state
        assert not manager.job.cancel_asked
    else:
        job = to_the_end(manager, world)
        assert job.state is State.CANCELLED
        assert (world.source.guest, world.target.guest) == ("running", "absent")


@pytest.mark.parametrize("state", FORWARD)
@pytest.mark.parametrize("crashes", [1, 2])
def test_the_manager_is_killed_in_every_state(state, crashes):
    world = World()
    manager = Manager(world)
    until(manager, state)
    for _ in range(crashes):
        manager.crash()
    for _ in range(60):
        if manager.job.settled:
            break
        manager.advance()
        world.libvirt_prepares()
        world.libvirt_stops_source()
        world.libvirt_hands_over()
        world.libvirt_confirms()
    moved = state not in {State.BEGIN, State.PREPARE}
    # Killed just as `perform` is entered, nobody has told libvirt yet: there is no move to go on with.
    if state is State.PERFORM:
        moved = world.target_executed
    assert manager.job.state is (State.COMPLETED if moved else State.FAILED)
    assert manager.job.settled


def test_killed_while_libvirt_copies_the_move_goes_on():
    world = World()
    manager = Manager(world)
    until(manager, State.PERFORM)
    manager.advance()
    assert world.libvirt == "copying"
    manager.crash()
    until(manager, State.COMPLETED)


@pytest.mark.parametrize("state", [State.BEGIN, State.PREPARE, State.PERFORM, State.SWITCHOVER])
def test_too_long_in_a_state_before_the_target_runs_rolls_back(state):
    world = World()
    manager = Manager(world)
    until(manager, state)
    manager.feed(TimedOut(at=9, state=state))
    job = to_the_end(manager, world)
    assert (job.state, job.error) == (State.FAILED, "move-failed")
    assert "longer than" in str(job.error_fields["reason"])
    assert world.source.guest == "running"


def test_target_unreachable_and_source_paused_stays_paused_and_keeps_asking():
    world = World()
    manager = Manager(world)
    until(manager, State.SWITCHOVER)
    world.libvirtd_dies_at_source(target_cleaned=False, forgets=False)
    world.target.reachable = False
    for _ in range(30):
        manager.advance()
    manager.feed(TimedOut(at=9, state=State.ROLLING_BACK))
    for _ in range(30):
        manager.advance()
    assert manager.job.state is State.ROLLING_BACK
    assert world.source.guest == "paused"
    assert "waiting for the target" in manager.job.note
    world.target.reachable = True
    assert to_the_end(manager, world).state is State.FAILED
    assert (world.source.guest, world.target.guest) == ("running", "absent")


def test_source_libvirtd_dies_after_the_hand_over_the_source_is_removed_not_resumed():
    world = World()
    manager = Manager(world)
    until(manager, State.SWITCHOVER)
    world.libvirt_hands_over()
    world.libvirtd_dies_at_source(target_cleaned=False, forgets=True)
    assert world.source.guest == "paused"
    assert to_the_end(manager, world).state is State.COMPLETED
    assert (world.source.guest, world.target.guest) == ("absent", "running")


def test_a_failed_copy_with_the_target_gone_frees_the_source_and_keeps_the_debt():
    world = World()
    manager = Manager(world)
    until(manager, State.PERFORM)
    manager.advance()
    world.libvirt_prepares()
    world.target.reachable = False
    world.libvirt_fails(target_cleaned=False)
    for _ in range(30):
        manager.advance()
    job = manager.job
    assert (job.state, job.ruling, job.owed) == (State.ROLLING_BACK, Ruling.SOURCE_KEEPS, frozenset({Side.TARGET}))
    assert not world.source.prepared
    manager.feed(TimedOut(at=9, state=State.ROLLING_BACK))
    assert manager.job.state is State.FAILED
    assert not manager.job.settled
    world.target.reachable = True
    assert to_the_end(manager, world).settled
    assert world.target.guest == "absent"


def test_an_unanswered_start_is_settled_by_looking():
    world = World()
    manager = Manager(world)
    until(manager, State.PERFORM)
    manager.advance("lost")
    assert world.libvirt == "copying"
    assert to_the_end(manager, world).state is State.FAILED
    assert (world.source.guest, world.target.guest) == ("running", "absent")


def test_pause_comes_from_both_sides_clocks():
    world = World()
    manager = Manager(world)
    until(manager, State.COMPLETED)
    assert manager.job.resumed_at - manager.job.stopped_at == pytest.approx(0.1)


def test_unreachable_is_a_reading_without_status():
    assert UNREACHABLE.status is None
    assert set(SIDE_OF.values()) == set(Side)
