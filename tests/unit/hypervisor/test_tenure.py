"""A node's lease: acquired, renewed, told to the keeper, lost; with the real state machine and a played clock."""

from pathlib import Path

import msgspec
import pytest

from actors.control.commands import ExpireLease, JoinNode, Override, RenewLease, SetTerms
from actors.control.leases import wait_ms
from actors.control.model import VERSION
from actors.control.ownership import risk_of
from actors.errors import NoMajority
from actors.hypervisor.engine.terms import Wanted
from actors.hypervisor.tenure import Tenure
from actors.keeper.files import boot_id, read_order
from tests.kits.agreed import Agreed

NODE = "a"


class Site:
    """One node's agent under test, with what it sees."""

    def __init__(self, folder: Path, states: Agreed) -> None:
        self.folder, self.states = folder, states
        self.now_ms = 1000.0
        self.keeper = True
        self.checks = 0
        self.check_fails = False
        self.wanted = Wanted(takeover="lease", duration_ms=12_000, pause_ms=4_000, drift_ppm=1_000, here=False)
        self.tenure = self.agent()

    def agent(self) -> Tenure:
        """A new agent, as after a restart."""
        return Tenure(
            self.states,
            NODE,
            self.folder,
            keeper_lives=lambda: self.keeper,
            check=self.check,
            wanted=self.wanted,
            clock=lambda: self.now_ms,
        )

    async def check(self) -> None:
        self.checks += 1
        if self.check_fails:
            raise NoMajority(what="it", deadline_s=1, outcome="unknown", reason="away")

    def order(self) -> float | None:
        order = read_order(self.folder)
        assert order is not None
        assert order.boot == boot_id()
        return order.pause_at_ms


@pytest.fixture
def states() -> Agreed:
    """Three members in three sites, so that leases may end by time: D 12 s, P 4 s."""
    states = Agreed("a", "b", "c")
    ending(states)
    return states


@pytest.fixture
def site(tmp_path: Path, states: Agreed) -> Site:
    return Site(tmp_path, states)


def ending(states: Agreed, duration_ms: int = 12_000) -> None:
    after = states.state.cluster.terms.number
    terms = SetTerms(after=after, duration_ms=duration_ms, pause_ms=4_000, drift_ppm=1_000, takeover="lease")
    states.must(terms, "operator:test")


async def test_it_is_renewed_in_time_and_the_keeper_is_told(site: Site) -> None:
    await site.tenure.turn()
    assert site.tenure.may_run()
    assert site.order() == 1000.0 + 8_000
    site.now_ms += 1_500
    await site.tenure.turn()
    assert site.order() == 9_000, "a fifth of the time has not passed yet"
    site.now_ms += 200
    await site.tenure.turn()
    assert site.order() == site.now_ms + 8_000
    assert site.states.state.leases[NODE].renewal == 1


async def test_terms_without_an_end_never_pause(tmp_path: Path) -> None:
    site = Site(tmp_path, Agreed("a", "b"))
    await site.tenure.turn()
    assert site.order() is None
    site.now_ms += 1e9
    site.states.away = True
    await site.tenure.turn()
    assert site.tenure.may_run()
    assert "NoMajority" not in site.tenure.trouble and site.tenure.trouble
    assert site.order() is None


async def test_without_a_majority_the_lease_runs_out_by_the_first_sending(site: Site) -> None:
    await site.tenure.turn()
    site.states.away = True
    for _ in range(20):
        site.now_ms += 500
        await site.tenure.turn()
    assert not site.tenure.may_run()
    assert site.order() == 9_000
    site.states.away = False
    await site.tenure.turn()
    assert site.order() == 3_000 + 8_000, "the renewal was first asked for at 3,000"


async def test_an_answer_that_is_lost_is_found_out(site: Site) -> None:
    await site.tenure.turn()
    site.now_ms += 3_000
    site.states.lost_answers = 1
    sent_ms = site.now_ms
    await site.tenure.turn()
    assert site.tenure.trouble
    site.now_ms += 500
    await site.tenure.turn()
    assert not site.tenure.trouble
    assert site.order() == sent_ms + 8_000, "it counts from when it was first sent"
    assert site.states.state.leases[NODE].renewal == 1


async def test_new_terms_are_taken_with_the_next_renewal(site: Site) -> None:
    await site.tenure.turn()
    ending(site.states, duration_ms=20_000)
    site.now_ms += 3_000
    await site.tenure.turn()
    site.now_ms += 500
    await site.tenure.turn()
    assert site.order() is not None
    assert site.order() >= 4_000 + 16_000


async def test_a_lease_that_was_ended_pauses_at_once_and_a_new_one_is_taken(site: Site) -> None:
    await site.tenure.turn()
    lease = site.states.state.leases[NODE]
    expire = ExpireLease(node=NODE, number=lease.number, renewal=0, waited_ms=wait_ms(lease.terms), drift_ppm=1_000)
    site.states.must(expire, "member:b")
    site.now_ms += 3_000
    await site.tenure.turn()
    assert not site.tenure.may_run()
    assert site.order() == 0.0
    await site.tenure.turn()
    assert site.tenure.may_run()
    assert site.tenure.number > lease.number
    assert site.checks == 2, "whatever runs here is looked at under each new lease"


async def test_a_lease_that_was_overridden_is_noticed(tmp_path: Path) -> None:
    site = Site(tmp_path, Agreed("a", "b"))
    await site.tenure.turn()
    decree = Override(nodes=(NODE,), risk=risk_of(site.states.state, (NODE,)), reason="a has burnt down")
    site.states.must(decree, "operator:test")
    site.now_ms += 31_000
    await site.tenure.turn()
    assert site.order() == 0.0


async def test_guests_run_no_longer_until_they_were_looked_at(site: Site) -> None:
    site.check_fails = True
    await site.tenure.turn()
    assert not site.tenure.may_run()
    assert read_order(site.folder) is None
    site.check_fails = False
    await site.tenure.turn()
    assert not site.tenure.may_run(), "each try costs everybody an entry"
    site.now_ms += 2_000
    await site.tenure.turn()
    assert site.tenure.may_run()


async def test_without_a_keeper_nothing_is_renewed(site: Site) -> None:
    await site.tenure.turn()
    site.keeper = False
    site.now_ms += 3_000
    await site.tenure.turn()
    assert "keeper" in site.tenure.trouble
    assert not any(isinstance(asked, RenewLease) for asked in site.states.asked)
    site.keeper = True
    await site.tenure.turn()
    assert site.order() == site.now_ms + 8_000


async def test_a_restarted_agent_takes_a_new_lease_and_remembers_what_was_answered(site: Site) -> None:
    await site.tenure.turn()
    await site.tenure.answer(5)
    before = site.tenure.number
    after = site.agent()
    assert not after.may_run(), "until it holds a lease of its own"
    await after.turn()
    assert after.number > before
    order = read_order(site.folder)
    assert order is not None
    assert order.answered == 5


async def test_one_node_sets_the_terms_as_soon_as_they_are_allowed(tmp_path: Path) -> None:
    states = Agreed("a", "b")
    site = Site(tmp_path, states)
    site.wanted = msgspec.structs.replace(site.wanted, here=True)
    site.tenure = site.agent()
    await site.tenure.turn()
    assert states.state.cluster.terms.takeover == "operator", "two members have no third voice"
    assert "not those configured here" in site.tenure.note
    assert site.order() is None
    states.must(JoinNode(node="c", site="c", speaks=VERSION), "operator:test")
    site.now_ms += 31_000
    await site.tenure.turn()
    assert states.state.cluster.terms.takeover == "lease"
    assert site.order() == site.now_ms + 8_000
    await renewed(site, 1)
    assert site.tenure.note == ""


def asked_for_terms(states: Agreed) -> int:
    return sum(isinstance(command, SetTerms) for command in states.asked)


async def renewed(site: Site, times: int) -> None:
    for _ in range(times):
        site.now_ms += 2_000
        await site.tenure.turn()
        assert not site.tenure.trouble


async def refused_in_bft(site: Site, states: Agreed) -> None:
    """An agent whose configuration wants other terms has asked for them once."""
    states.bft = True
    site.wanted = msgspec.structs.replace(site.wanted, duration_ms=14_000, here=True)
    site.tenure = site.agent()
    await site.tenure.turn()


async def test_terms_that_members_refuse_in_bft_are_asked_for_once(site: Site, states: Agreed) -> None:
    await refused_in_bft(site, states)
    await renewed(site, 40)
    assert asked_for_terms(states) == 1
    assert "not those configured here" in site.tenure.note
    assert "set consensus.mode to raft" in site.tenure.note
    # A lease that was lost is taken anew under the terms that there are.
    site.now_ms += 60_000
    await site.tenure.turn()
    await site.tenure.turn()
    assert asked_for_terms(states) == 1
    # A new process has read its configuration anew.
    site.tenure = site.agent()
    await site.tenure.turn()
    assert asked_for_terms(states) == 2


async def test_they_are_asked_for_again_when_other_terms_are_in_force(site: Site, states: Agreed) -> None:
    await refused_in_bft(site, states)
    ending(states, duration_ms=16_000)
    await renewed(site, 10)
    assert asked_for_terms(states) == 2
    ending(states, duration_ms=14_000)
    await renewed(site, 10)
    assert asked_for_terms(states) == 2
    assert site.tenure.note == "", "they are the configured ones now"


async def test_they_are_asked_for_again_once_members_agree_in_raft(site: Site, states: Agreed) -> None:
    await refused_in_bft(site, states)
    await renewed(site, 40)
    assert asked_for_terms(states) == 1
    states.bft = False
    await renewed(site, 40)
    assert states.state.cluster.terms.duration_ms == 14_000
    assert site.tenure.note == ""
    assert asked_for_terms(states) == 2


async def test_a_lease_that_is_given_back_is_over_for_everybody_at_once(site: Site, states: Agreed) -> None:
    await site.tenure.turn()
    site.tenure.give_up()
    assert not site.tenure.may_run()
    await site.tenure.give_back()
    assert states.state.leases[NODE].state == "yielded"
    assert read_order(site.folder) is None, "the keeper has nothing to keep"
    asked = len(states.asked)
    await site.tenure.turn()
    await site.tenure.answer(7)
    assert len(states.asked) == asked, "it is neither renewed nor taken anew"
    assert read_order(site.folder) is None
    again = site.agent()
    await again.turn()
    assert again.may_run()


async def test_what_can_not_be_given_back_ends_by_time(site: Site, states: Agreed) -> None:
    await site.tenure.turn()
    site.tenure.give_up()
    states.away = True
    with pytest.raises(NoMajority):
        await site.tenure.give_back()
    assert states.state.leases[NODE].state == "active"
    assert site.order() == 1000.0 + 8_000


async def test_a_renewal_that_is_under_way_does_not_bring_a_given_up_lease_back(site: Site, states: Agreed) -> None:
    await site.tenure.turn()
    submit = states.submit

    async def giving_up(command, **asked):
        outcome = await submit(command, **asked)
        site.tenure.give_up()
        return outcome

    states.submit = giving_up
    site.now_ms += 4_000
    await site.tenure.turn()
    assert states.asked[-1] == RenewLease(
        node=NODE, number=states.state.leases[NODE].number, renewal=1, terms=states.state.cluster.terms.number
    )
    assert not site.tenure.may_run()
    assert site.order() == 1000.0 + 8_000, "the keeper is not told of more time"
