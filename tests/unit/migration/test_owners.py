"""What a move agrees on with the control state, on the real state machine."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.control import engine
from actors.control.commands import BeginMove, DefineGuest, FailOver, Override, StartGuest, seal
from actors.control.model import Run
from actors.control.ownership import Right, risk_of
from actors.errors import GuestUnknown, NoMajority, StateRefused
from actors.migration.owners import Owners
from actors.migration.states import Job, Ruling, State
from tests.kits.agreed import Agreed


@pytest.fixture
def states() -> Agreed:
    """Guest g runs on a."""
    states = Agreed("a", "b", "c")
    guest_on_a(states)
    return states


def guest_on_a(states: Agreed) -> None:
    for node in ("a", "b", "c"):
        states.lease_for(node)
    states.must(DefineGuest(guest="g", definition="<domain/>"), "node:a")
    states.must(StartGuest(guest="g", node="a", epoch=0), "node:a")


@pytest.fixture
def owners(states: Agreed) -> Owners:
    return Owners(states, "a")


def job(name: str = "m-1", **more) -> Job:
    return Job(id=name, guest="g", source="a", target="b", pause_budget_ms=300, created_at=1, since=1, **more)


async def started(owners: Owners, move: Job) -> None:
    await begun(owners, move)
    await owners.perform(move)


async def begun(owners: Owners, move: Job) -> None:
    await owners.begin(move, await owners.record(move))


async def test_the_target_owns_the_guest_from_one_entry_on(states: Agreed, owners: Owners) -> None:
    before = states.state.guests["g"].epoch
    await started(owners, job())
    assert (await states.standing("g", "a")).right is Right.LEAVE
    assert (await states.standing("g", "b")).right is Right.LEAVE
    for _ in range(2):
        await owners.arrived(job())
    guest = states.state.guests["g"]
    assert (guest.node, guest.job) == ("b", "")
    assert guest.epoch > before
    assert (await states.standing("g", "a")).right is Right.NONE
    assert states.state.jobs["m-1"].state is State.COMPLETED


@pytest.mark.parametrize(("cancelled", "state"), [(True, State.CANCELLED), (False, State.FAILED)])
async def test_the_source_keeps_it_when_the_move_is_undone(
    states: Agreed, owners: Owners, cancelled: bool, state: State
) -> None:
    await started(owners, job())
    undone = job(cancel_asked=cancelled, ruling=Ruling.SOURCE_KEEPS, move_started=True)
    for _ in range(2):
        await owners.stayed(undone)
    assert (await states.standing("g", "a")).right is Right.RUN
    assert (await states.standing("g", "b")).right is Right.NONE
    assert states.state.jobs["m-1"].state is state
    await started(owners, job("m-2"))


async def test_a_guest_that_ended_by_itself_belongs_to_nobody(states: Agreed, owners: Owners) -> None:
    await started(owners, job())
    await owners.stayed(job(ruling=Ruling.GUEST_ENDED, move_started=True, error="move-failed"))
    assert states.state.guests["g"].run is Run.STOPPED


async def test_every_step_may_be_repeated(states: Agreed, owners: Owners) -> None:
    for _ in range(2):
        await begun(owners, job())
    for _ in range(2):
        await owners.perform(job())
    assert states.state.jobs["m-1"].started
    for _ in range(2):
        await owners.commit(job())
    assert states.state.guests["g"].node == "b"
    for _ in range(2):
        await owners.arrived(job(committed=True))
    assert states.state.jobs["m-1"].state is State.COMPLETED


async def test_nothing_begins_without_a_majority(states: Agreed, owners: Owners) -> None:
    states.away = True
    with pytest.raises(NoMajority):
        await begun(owners, job())
    states.away = False
    await owners.stayed(job(ruling=Ruling.SOURCE_KEEPS))
    assert states.state.guests["g"].job == ""


class Late(Agreed):
    """What is asked for may be agreed on later, or twice, whoever has given up on it meanwhile."""

    def __init__(self, *nodes: str) -> None:
        super().__init__(*nodes)
        self.late: list[bytes] = []
        self.fates: Iterator[str] = iter(())

    async def submit(self, command, *, by, deadline_s=15.0):
        fate = next(self.fates, "now")
        entry = seal(command, by=by)
        if fate != "now":
            self.late.append(entry)
        if fate == "late":
            raise NoMajority(what=type(command).__name__, deadline_s=deadline_s, outcome="unknown", reason="lost")
        return await super().submit(command, by=by, deadline_s=deadline_s)

    def deliver(self, which: int) -> None:
        """One of what is under way is agreed on now."""
        engine.apply(self.state, self.state.applied + 1, self.late.pop(which % len(self.late)))


@settings(max_examples=60, deadline=None)
@given(
    fates=st.lists(st.sampled_from(["now", "late", "twice"]), max_size=8),
    turns=st.lists(st.sampled_from(["undo", "arrives"]), max_size=12),
    which=st.lists(st.integers(0, 7), min_size=12, max_size=12),
)
async def test_a_move_that_was_given_up_never_holds_the_guest_however_late_its_beginning_is_agreed_on(
    fates: list[str], turns: list[str], which: list[int]
) -> None:
    states = Late("a", "b", "c")
    guest_on_a(states)
    owners, move = Owners(states, "a"), job()
    states.fates = iter(fates)
    with suppress(NoMajority):
        await started(owners, move)
    undone, paid = msgspec.structs.replace(move, ruling=Ruling.SOURCE_KEEPS, error="no-majority"), False
    for turn, number in zip(turns, which, strict=False):
        if turn == "arrives" and states.late:
            states.deliver(number)
        elif turn == "undo" and not paid:
            with suppress(NoMajority):
                await owners.stayed(undone)
                paid = True
    states.fates = iter(())
    if not paid:
        await owners.stayed(undone)
    while states.late:
        states.deliver(0)
    guest = states.state.guests["g"]
    assert (guest.node, guest.job) == ("a", ""), "nobody leads that move any more"
    await started(owners, job("m-2"))


async def test_rules_before_version_5_are_told_each_state() -> None:
    states = Agreed("a", "b", "c", version=4)
    guest_on_a(states)
    owners = Owners(states, "a")
    await started(owners, job())
    await owners.commit(job())
    await owners.arrived(job(committed=True))
    assert states.state.jobs["m-1"].state is State.COMPLETED
    await owners.stayed(job("m-2", ruling=Ruling.SOURCE_KEEPS))


async def test_a_move_that_nobody_drives_is_ended_by_the_next_one(states: Agreed, owners: Owners) -> None:
    states.must(BeginMove(job="m-0", guest="g", target="b", epoch=states.state.guests["g"].epoch), "node:a")
    await begun(owners, job())
    assert states.state.jobs["m-0"].state is State.FAILED
    assert states.state.guests["g"].job == "m-1"


async def test_one_that_was_started_is_not(states: Agreed, owners: Owners) -> None:
    await started(owners, job("m-0"))
    with pytest.raises(StateRefused, match="m-0"):
        await begun(owners, job())
    assert states.state.jobs["m-0"].state is not State.FAILED


async def test_a_guest_that_another_node_owns_is_not_moved_from_here(states: Agreed, owners: Owners) -> None:
    with pytest.raises(StateRefused, match="a owns g"):
        await begun(owners, msgspec.structs.replace(job(), source="b", target="a"))
    with pytest.raises(GuestUnknown):
        await begun(owners, msgspec.structs.replace(job(), guest="nobody-knows"))
    await begun(owners, msgspec.structs.replace(job(), guest="Not_for_the_state"))


async def test_after_a_failover_there_is_nothing_left_to_say(states: Agreed, owners: Owners) -> None:
    await started(owners, job())
    decree = Override(nodes=("a", "b"), risk=risk_of(states.state, ("a", "b")), reason="both are lost")
    states.must(decree, "operator:test")
    states.must(FailOver(guest="g", to="c", epoch=states.state.guests["g"].epoch), "operator:test")
    after = states.state.guests["g"]
    await owners.arrived(job())
    assert states.state.guests["g"] == after
