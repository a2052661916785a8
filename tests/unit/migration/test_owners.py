"""What a move agrees on with the control state, on the real state machine."""

import msgspec
import pytest

from actors.control.commands import BeginMove, DefineGuest, FailOver, Override, StartGuest
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
    for node in ("a", "b", "c"):
        states.lease_for(node)
    states.must(DefineGuest(guest="g", definition="<domain/>"), "node:a")
    states.must(StartGuest(guest="g", node="a", epoch=0), "node:a")
    return states


@pytest.fixture
def owners(states: Agreed) -> Owners:
    return Owners(states, "a")


def job(name: str = "m-1", **more) -> Job:
    return Job(id=name, guest="g", source="a", target="b", pause_budget_ms=300, created_at=1, since=1, **more)


async def started(owners: Owners, move: Job) -> None:
    await owners.begin(move)
    await owners.prepare(move)
    await owners.perform(move)


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
        await owners.begin(job())
    for _ in range(2):
        await owners.prepare(job())
    for _ in range(2):
        await owners.perform(job())
    assert states.state.jobs["m-1"].started


async def test_nothing_begins_without_a_majority(states: Agreed, owners: Owners) -> None:
    states.away = True
    with pytest.raises(NoMajority):
        await owners.begin(job())
    states.away = False
    await owners.stayed(job(ruling=Ruling.SOURCE_KEEPS))
    assert states.state.guests["g"].job == ""


async def test_a_move_that_nobody_drives_is_ended_by_the_next_one(states: Agreed, owners: Owners) -> None:
    states.must(BeginMove(job="m-0", guest="g", target="b", epoch=states.state.guests["g"].epoch), "node:a")
    await owners.begin(job())
    assert states.state.jobs["m-0"].state is State.FAILED
    assert states.state.guests["g"].job == "m-1"


async def test_one_that_was_started_is_not(states: Agreed, owners: Owners) -> None:
    await started(owners, job("m-0"))
    with pytest.raises(StateRefused, match="m-0"):
        await owners.begin(job())
    assert states.state.jobs["m-0"].state is not State.FAILED


async def test_a_guest_that_another_node_owns_is_not_moved_from_here(states: Agreed, owners: Owners) -> None:
    with pytest.raises(StateRefused, match="a owns g"):
        await owners.begin(msgspec.structs.replace(job(), source="b", target="a"))
    with pytest.raises(GuestUnknown):
        await owners.begin(msgspec.structs.replace(job(), guest="nobody-knows"))
    await owners.begin(msgspec.structs.replace(job(), guest="Not_for_the_state"))


async def test_after_a_failover_there_is_nothing_left_to_say(states: Agreed, owners: Owners) -> None:
    await started(owners, job())
    decree = Override(nodes=("a", "b"), risk=risk_of(states.state, ("a", "b")), reason="both are lost")
    states.must(decree, "operator:test")
    states.must(FailOver(guest="g", to="c", epoch=states.state.guests["g"].epoch), "operator:test")
    after = states.state.guests["g"]
    await owners.arrived(job())
    assert states.state.guests["g"] == after
