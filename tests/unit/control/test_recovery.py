"""One of two members goes on alone: nothing acknowledged is lost, and its grants are above what the other gave."""

import msgspec
import pytest

from actors.control.commands import AcquireLease, DefineGuest, FailOver, JoinNode, StartGuest, Upgrade, seal
from actors.control.members import FOUNDERS_FILE, founded, members_of
from actors.control.model import VERSION
from actors.control.ownership import LINEAGE_BITS
from actors.control.recovery import recovering
from actors.errors import Conflict, Failed, NotFound, StateRefused
from tests.unit.control.members import Asked, Group
from tests.unit.control.test_actor import config_of

SITES = {"london": ["london-1"], "paris": ["paris-1"]}


class Pair:
    """Two members, each on its node with its lease; the guest g runs in paris. Both are down, paris for good."""

    def __init__(self, folder) -> None:
        self.group = Group(folder, count=2)
        self.both = config_of(folder, "london-1", SITES)
        self.alone = config_of(folder, "london-1", SITES, members=["london-1"])
        self.folder = folder / "1"
        self.group.run(until=self.group.leader)
        for node in ("london-1", "paris-1"):
            self.agree(JoinNode(node=node, site=node[:-2], speaks=VERSION))
            self.agree(AcquireLease(node=node, after=0, boot="b", terms=1), by=f"node:{node}")
        self.agree(Upgrade(to=VERSION))
        self.agree(DefineGuest(guest="g", definition="<domain/>"))
        self.epoch = self.agree(StartGuest(guest="g", node="paris-1", epoch=0)).number
        for number in (1, 2):
            self.group.kill(number)
        (self.folder / FOUNDERS_FILE).write_bytes(msgspec.json.encode(members_of(self.both)))

    def agree(self, command, by="operator:ann"):
        asked = Asked()
        self.group.shells[1].submit(seal(command, by=by), asked.told)
        self.group.run(until=lambda: asked.answer is not None)
        assert asked.answer.accepted, asked.answer
        return asked.answer

    def go_on(self) -> None:
        with recovering(self.folder, self.alone, ("paris-1",)) as recovery:
            recovery.go_on(recovery.risk, "the house burned down")


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    for store in made.group.stores.values():
        store.close()


def test_without_it_the_one_that_is_left_agrees_on_nothing(pair) -> None:
    pair.group.start(1)
    with pytest.raises(AssertionError, match="never came true"):
        pair.group.run(until=lambda: pair.group.shells[1].leads)


def test_it_goes_on_with_all_that_was_acknowledged_and_grants_above_it(pair) -> None:
    pair.go_on()
    assert [each.node for each in founded(pair.folder, pair.alone)] == ["london-1"]
    pair.group.numbers = (1,)
    pair.group.start(1)
    pair.group.run(until=pair.group.leader)
    state = pair.group.shells[1].replica.state
    pair.group.run(until=lambda: state.cluster.lineage == 1)
    assert (state.guests["g"].node, state.guests["g"].epoch) == ("paris-1", pair.epoch)
    decree = state.audit[-1]
    assert "the house burned down" in decree.detail
    taken = pair.agree(FailOver(guest="g", to="london-1", epoch=pair.epoch))
    assert taken.number >> LINEAGE_BITS == 1
    assert taken.number > pair.epoch


def test_the_risk_is_named_and_has_to_be_repeated(pair) -> None:
    with recovering(pair.folder, pair.alone, ("paris-1",)) as recovery:
        assert "g" in recovery.risk and "twice" in recovery.risk
        with pytest.raises(StateRefused, match="paris-1"):
            recovery.go_on("whatever", "no")
    pair.group.start(1)
    assert pair.group.shells[1].core.membership.voters == (1, 2), "nothing was changed"


def test_a_node_that_nobody_knows_changes_nothing(pair) -> None:
    with recovering(pair.folder, pair.alone, ("paris-1", "rome-1")) as recovery, pytest.raises(StateRefused):
        recovery.go_on(recovery.risk, "no")
    pair.group.start(1)
    assert pair.group.shells[1].core.membership.voters == (1, 2)


def test_it_can_be_done_again_when_it_was_broken_off(pair, monkeypatch) -> None:
    def fall(*_) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="power cut"):
        patched.setattr("actors.control.recovery.write_atomically", fall)
        pair.go_on()
    with pytest.raises(Conflict, match="founded"):
        founded(pair.folder, pair.alone)
    pair.go_on()
    pair.group.numbers = (1,)
    pair.group.start(1)
    pair.group.run(until=pair.group.leader)
    pair.group.run(until=lambda: pair.group.shells[1].replica.state.cluster.lineage == 2)


def test_what_would_be_a_mistake_is_refused(pair, tmp_path) -> None:
    for config, lost, error, what in (
        (pair.both, ("paris-1",), Conflict, "consensus.members"),
        (pair.alone, (), Conflict, "name every other member"),
        (pair.alone, ("paris-1", "london-1"), Conflict, "can't be"),
    ):
        with pytest.raises(error, match=what), recovering(pair.folder, config, lost):
            pass
    with pytest.raises(NotFound), recovering(tmp_path / "none", pair.alone, ("paris-1",)):
        pass
    pair.group.start(1)
    with pytest.raises(Failed, match="another process"), recovering(pair.folder, pair.alone, ("paris-1",)):
        pass
    pair.group.kill(1)
    pair.go_on()
    with pytest.raises(Conflict, match="only member already"), recovering(pair.folder, pair.alone, ("paris-1",)):
        pass
