"""The end of a lease in BFT: whatever f members say that they saw, it does not come before its holder has paused."""

import itertools

import pytest
from msgspec.structs import replace

from actors.control import attest, lease_rules
from actors.control.attest import attested
from actors.control.commands import (
    AcquireLease,
    AttestExpiry,
    EnrolMember,
    ExpireLease,
    OpenSession,
    SetTerms,
    Upgrade,
    seal,
)
from actors.control.decision import Electorate
from actors.control.engine import apply
from actors.control.keys import public_of
from actors.control.model import VERSION, LeaseState
from actors.control.signing import seal_signed
from tests.unit.control.kit import BFT, Cluster, enrolment, secret_of, three_sites
from tests.unit.control.test_leases import LeaseWorld

SECRETS = {number: secret_of(f"member:{number}") for number in BFT.voters}
LIAR = 4


class LyingWorld(LeaseWorld):
    """Four members that agree in BFT, of whom one lies about how long it has waited."""

    speaks = VERSION
    members = 4

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.overheard: list[AttestExpiry] = []
        self.commit(Upgrade(to=VERSION))
        for number, secret in SECRETS.items():
            enrol = EnrolMember(number=number, node=f"m{number}", site="x", key=public_of(secret))
            self.commit(enrol, by=f"member:m{number}")
        number = self.raw(enrolment("a")).result.number
        opening = seal_signed(OpenSession(), "node:a", secret_of("node:a").sign, by="node:a", number=number)
        self.session, self.numbers = self.raw(opening).result.number, itertools.count(1)
        self.among = BFT

    def raw(self, entry: bytes):
        self.history.append(())
        return apply(self.state, self.state.applied + 1, entry, self.among)

    def sealed(self, command, by) -> bytes:
        """The node signs what it asks for, and a member what is not signed already."""
        if self.among is not BFT or isinstance(command, AttestExpiry):
            return seal(command, by=by)
        if by == "node:a":
            place = {"session": self.session, "number": next(self.numbers)}
            return seal_signed(command, by, secret_of(by).sign, by=by, **place)
        return seal_signed(command, f"member:{LIAR}", SECRETS[LIAR].sign, by=by)

    def member_turns(self) -> None:
        member = self.rng.randrange(self.members)
        if member + 1 == LIAR:
            self.lie()
            return
        if self.rng.random() < 0.05:
            self.restart(member)
        for due in self.books[member].due(self.clocks[member].at(self.true_ms)):
            said = attested(due, member + 1, SECRETS[member + 1].sign)
            self.overheard.append(said)
            self.later(lambda said=said: self.expire(said))

    def expire(self, command) -> None:
        before = self.state.leases["a"]
        self.commit(command, by=f"member:m{command.member if isinstance(command, AttestExpiry) else LIAR}")
        if before.state is LeaseState.ACTIVE and self.state.leases["a"].state is LeaseState.EXPIRED:
            self.expired += 1
            assert self.paused(), f"lease {before.number}.{before.renewal} was ended while its guests ran"

    def lie(self) -> None:
        """Early, in others' names, twice, with what others signed of an earlier renewal."""
        lease = self.state.leases.get("a")
        if lease is None:
            return
        early = ExpireLease(node="a", number=lease.number, renewal=lease.renewal, waited_ms=10**6, drift_ppm=1)
        in_names = self.rng.choice([1, 2, 3])
        lies = [
            early,
            attested(early, LIAR, SECRETS[LIAR].sign),
            attested(early, in_names, SECRETS[LIAR].sign),
            *(replace(old, renewal=lease.renewal) for old in self.overheard[-2:]),
        ]
        for lie in lies:
            self.expire(lie)


def broken() -> bool:
    """Would a guest have run twice in any of 100 worlds?"""
    for seed in range(100):
        try:
            LyingWorld(seed).run(300)
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("seed", range(12))
def test_a_liar_ends_no_lease_before_its_time_and_holds_up_none(seed):
    world = LyingWorld(seed)
    world.run(500)
    assert world.expired
    assert world.renewed > 5


def test_when_one_word_is_enough_guests_run_twice(monkeypatch):
    monkeypatch.setattr(lease_rules, "attestations", lambda voters: 1)
    assert broken()


def test_when_signatures_are_not_checked_guests_run_twice(monkeypatch):
    monkeypatch.setattr(lease_rules, "is_signed", lambda command, key: True)
    assert broken()


def test_when_the_time_that_one_says_it_waited_counts_guests_run_twice(monkeypatch):
    monkeypatch.setattr(lease_rules, "ATTESTED_SINCE", VERSION + 1)
    assert broken()


def test_when_what_is_signed_does_not_name_the_renewal_guests_run_twice(monkeypatch):
    whole = attest._statement
    monkeypatch.setattr(attest, "_statement", lambda node, number, renewal, member: whole(node, number, 0, member))
    assert broken()


# -- the rule ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Cluster:
    made = three_sites()
    made.enrolled("a", "b", "c")
    return made


def word(cluster: Cluster, member: int) -> AttestExpiry:
    lease = cluster.state.leases["a"]
    expiry = ExpireLease(node="a", number=lease.number, renewal=lease.renewal, waited_ms=0, drift_ppm=1)
    return attested(expiry, member, SECRETS[member].sign)


def test_two_of_four_end_it_and_each_counts_once(cluster):
    early = ExpireLease(node="a", number=1, renewal=0, waited_ms=10**6, drift_ppm=1)
    assert cluster.refused(early, by="member:m1") == "lease-ended"
    for _ in range(2):
        cluster.done(word(cluster, 2), by="member:m2")
    assert cluster.state.leases["a"].state is LeaseState.ACTIVE
    cluster.restart_twin()
    cluster.done(word(cluster, 3), by="member:m3")
    assert cluster.state.leases["a"].state is LeaseState.EXPIRED
    assert cluster.state.expiries == {}
    cluster.agreed()


def test_what_was_said_of_an_earlier_lease_counts_no_more(cluster):
    old = word(cluster, 1)
    cluster.done(old, by="member:m1")
    number = cluster.leased("a")
    assert cluster.state.expiries == {}
    assert cluster.refused(old, by="member:m1") == "lease-ended"
    assert cluster.refused(replace(old, number=number), by="member:m1") == "not-yours"


def test_who_is_no_voter_or_did_not_sign_has_no_say(cluster):
    cluster.among = Electorate(voters=(1, 2, 3), bft=True)
    assert cluster.refused(word(cluster, 4), by="member:m4") == "not-yours"
    assert cluster.refused(word(cluster, 1), by="member:m2") == "not-yours"
    assert cluster.refused(replace(word(cluster, 1), member=2), by="member:m2") == "not-yours"
    assert cluster.refused(replace(word(cluster, 1), signature="00" * 64), by="member:m1") == "not-yours"


def test_in_raft_one_word_is_enough_as_before(cluster):
    cluster.among = Electorate(voters=(1, 2, 3))
    lease = cluster.state.leases["a"]
    expiry = ExpireLease(node="a", number=lease.number, renewal=0, waited_ms=10**6, drift_ppm=1000)
    cluster.among = BFT
    assert cluster.refused(expiry, by="member:m1") == "not-in-bft"
    cluster.among = Electorate(voters=(1, 2, 3))
    cluster.done(expiry)


def test_a_lease_that_no_time_ends_is_not_ended_by_words(cluster):
    terms = cluster.state.cluster.terms
    order = SetTerms(after=terms.number, duration_ms=9000, pause_ms=900, drift_ppm=9, takeover="operator")
    cluster.among = Electorate(voters=(1, 2, 3))
    cluster.done(order)
    cluster.among = BFT
    number = cluster.done(
        AcquireLease(node="a", after=cluster.state.leases["a"].number, boot="b", terms=terms.number + 1), by="node:a"
    )
    assert number
    assert cluster.refused(word(cluster, 1), by="member:m1") == "lease-held"
