"""When a member asks for the other protocol: real shells, whose leader lags behind what is committed."""

import pytest

from actors.config.schema import Consensus
from actors.consensus.chain import Protocol
from actors.control.commands import AddMember, JoinNode, RemoveMember, SetPolicy, Upgrade, seal
from actors.control.distances import Distances
from actors.control.keys import secret_in
from actors.control.member_rules import under_way
from actors.control.model import VERSION, Result
from actors.control.signing import seal_signed
from actors.control.switching import Switching, asked_in
from tests.unit.control.members import Asked, Group

BY = "operator:ann"


@pytest.fixture
def group(tmp_path):
    made = Group(tmp_path, count=4)
    made.run(until=made.leader)
    made.enrol()
    for number in (*made.numbers, 5):
        speaks = VERSION if number in made.numbers else 0
        made.ask(1, JoinNode(node=f"m{number}", site=f"s{number}", speaks=speaks), BY)
    made.ask(1, Upgrade(to=VERSION), BY)
    yield made
    for shelf in made.stores.values():
        shelf.close()


def look(group: Group, number: int) -> None:
    """What the member does about the switch that its configuration asks for."""
    Switching(Consensus(mode="bft"), Distances(number, dict)).look(group.shells[number], group.now_ms)


def submit(group: Group, number: int, entry: bytes) -> Asked:
    asked = Asked()
    group.shells[number].submit(entry, asked.told)
    return asked


def joins(group: Group, number: int):
    shell = group.shells[number]
    return under_way(shell.replica.state, shell.among)


def stays_in_raft(group: Group, leader: int) -> None:
    for number in group.shells:
        look(group, number)
    # A switch that was asked for before would come before this.
    assert group.agree(leader, "later").accepted
    assert joins(group, leader) is not None
    assert {shell.core.protocol for shell in group.shells.values()} == {Protocol.RAFT}
    assert not any(shell.core.sealed for shell in group.shells.values())


def test_without_a_change_of_members_the_leader_asks_for_the_switch(group) -> None:
    leader = group.leader()
    submit(group, leader, seal(SetPolicy(name="p", value="x"), by=BY))
    look(group, leader)
    group.run(until=lambda: all(shell.core.protocol is Protocol.BFT for shell in group.shells.values()))
    assert all(group.policies(number) == {"p": "x"} for number in group.numbers), "what is on its way keeps it not"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("command", [AddMember(node="m5"), RemoveMember(node="m2", number=2)])
def test_no_switch_is_put_behind_a_change_of_members_that_is_on_its_way(group, command, signed) -> None:
    leader = group.leader()
    entry = seal(command, by=BY)
    if signed:
        entry = seal_signed(
            command, f"member:{leader}", secret_in(group.folder / str(leader)).sign, by=f"member:m{leader}"
        )
    asked = submit(group, leader, entry)
    for _ in range(4):
        look(group, leader)
    group.run(until=lambda: asked.answer is not None)
    assert isinstance(asked.answer, Result)
    assert asked.answer.accepted
    stays_in_raft(group, leader)


def test_a_new_leader_that_has_not_applied_a_joining_yet_does_not_switch_it_away(group) -> None:
    """In BFT nobody makes it a member any more, and it begins with the log of the part before."""
    old = group.leader()
    asked = submit(group, old, seal(AddMember(node="m5"), by=BY))
    index = group.shells[old].last
    others = [number for number in group.numbers if number != old]
    # All have it on disk; the leader falls before any other hears that it is committed.
    group.run(until=lambda: asked.answer is not None or all(group.shells[n].last >= index for n in others))
    assert all(group.shells[number].replica.state.applied < index for number in others)
    group.kill(old)
    seen = []

    def took_over() -> bool:
        lag = [n for n in others if group.shells[n].leads and group.shells[n].replica.state.applied < index]
        seen.extend(lag)
        for number in others:
            look(group, number)
        return any(joins(group, number) is not None for number in others)

    group.run(until=took_over)
    assert seen, "a leader was asked before it had applied that"
    group.run(until=lambda: group.leader(others))
    stays_in_raft(group, group.leader(others))


def test_what_is_no_command_asks_for_nothing() -> None:
    for junk in (b"", b"\xc1", b"\x80", seal(SetPolicy(name="p", value="x"), by=BY)[:-3]):
        assert asked_in(junk) is None
    assert asked_in(seal(AddMember(node="m5"), by=BY)) == AddMember(node="m5")
