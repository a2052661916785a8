"""The history checker: it lets every honest run pass, and finds each rule that a run breaks."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.control import trail
from actors.control.attest import attested
from actors.control.commands import (
    AcquireLease,
    AdvanceMove,
    BeginMove,
    CommitMove,
    DefineGuest,
    EndMove,
    ExpireLease,
    FailOver,
    JoinNode,
    Override,
    RenewLease,
    SetFlag,
    StartGuest,
    StopGuest,
    Upgrade,
    VoidMove,
)
from actors.control.leases import wait_ms
from actors.control.messages import TrailQuery
from actors.control.model import VERSION
from actors.control.ownership import risk_of
from actors.migration.states import Ruling, State
from benchmarks.surviving.checks import LATE_MS, faults, margins_ms
from benchmarks.surviving.history import Ended, History, Seen, Told, spans
from benchmarks.surviving.owners import Owners
from benchmarks.surviving.plan import PHASES, matrix, short
from benchmarks.surviving.plan import faults as all_faults
from tests.unit.control.kit import Cluster
from tests.unit.control.test_attested import SECRETS

NODES = ("a", "b", "c")


class Run:
    """An honest run: agents, QEMUs and the real rules, on one clock that only goes on."""

    def __init__(self) -> None:
        self.cluster, self.now = Cluster(), 1_000_000.0
        self.seen: list[Seen] = []
        self.told: list[Told] = []
        self.ended: list[Ended] = []
        self.renewed: dict[str, float] = {}
        for site, node in zip(("x", "y", "z"), NODES, strict=True):
            self.done(JoinNode(node=node, site=site, speaks=VERSION))
        self.done(Upgrade(to=VERSION))
        self.done(self.cluster.terms("lease", 12_000, 4_000, 1_000))
        for node in NODES:
            self.acquire(node)

    def done(self, command, by="operator:ann", via=""):
        self.now += 10
        return self.cluster.done(command, by, via=via, at_ms=int(self.now))

    def event(self, kind, guest, node, after_ms=5.0) -> None:
        self.now += after_ms
        self.seen.append(Seen(node=node, guest=guest, kind=kind, at_ms=self.now))

    def acquire(self, node) -> None:
        held = self.cluster.state.leases.get(node)
        terms = self.cluster.state.cluster.terms.number
        command = AcquireLease(node=node, after=held.number if held else 0, boot="b", terms=terms)
        self.renewed[node] = self.now
        self.done(command, f"node:{node}")

    def epoch(self, guest) -> int:
        return self.cluster.state.guests[guest].epoch

    def start(self, guest, node) -> None:
        if guest not in self.cluster.state.guests:
            self.done(DefineGuest(guest=guest, definition="<domain/>"))
        index = self.done(StartGuest(guest=guest, node=node, epoch=self.epoch(guest)), via=node)
        self.told.append(Told(command="startguest", subject=guest, revision=index))
        self.event("booted", guest, node)
        self.event("resume", guest, node)

    def stop(self, guest, node) -> None:
        self.event("gone", guest, node)
        self.done(StopGuest(guest=guest, epoch=self.epoch(guest)), f"node:{node}")

    def move(self, guest, source, target, job, *, arrives=True) -> None:
        self.done(VoidMove(job=f"{job}-given-up", guest=guest, source=source, target=target))
        self.done(BeginMove(job=job, guest=guest, target=target, epoch=self.epoch(guest)))
        self.done(AdvanceMove(job=job, state=State.PERFORM))
        self.event("stop", guest, source, 2000)
        if arrives:
            self.event("resume", guest, target, 80)
            self.done(CommitMove(job=job))
            self.event("gone", guest, source)
            self.done(EndMove(job=job, state=State.COMPLETED))
        else:
            self.done(AdvanceMove(job=job, state=State.ROLLING_BACK))
            self.event("resume", guest, source, 300)
            self.done(EndMove(job=job, state=State.FAILED, ruling=Ruling.SOURCE_KEEPS))
        self.ended.append(Ended(job=job, guest=guest, completed=arrives, owner=target if arrives else source))

    def cut_off(self, node, guests) -> None:
        """Its keeper pauses its guests in time, and a member ends its lease."""
        lease = self.cluster.state.leases[node]
        command = RenewLease(node=node, number=lease.number, renewal=lease.renewal + 1, terms=lease.terms.number)
        sent = self.now
        self.done(command, f"node:{node}")
        applied = self.now
        for guest in guests:
            self.event("stop", guest, node, sent + 8_200 - self.now)
        self.now = applied + wait_ms(lease.terms) + 400
        waited = int(self.now - applied)
        self.cluster.done(
            ExpireLease(node=node, number=lease.number, renewal=lease.renewal + 1, waited_ms=waited, drift_ppm=1000),
            "member:a", at_ms=int(self.now),
        )  # fmt: skip

    def healed(self, node, guests) -> None:
        self.now += 3_000
        self.acquire(node)
        for guest in guests:
            self.event("resume", guest, node, 900)

    def fail_over(self, guest, target) -> None:
        self.done(FailOver(guest=guest, to=target, epoch=self.epoch(guest)), via=target)
        self.event("booted", guest, target)
        self.event("resume", guest, target)

    def history(self) -> History:
        entries = trail.page(TrailQuery(), self.cluster.audit, len(self.cluster.audit)).entries
        return History(seen=self.seen, trails={"a": entries, "b": entries[:-2]}, told=self.told, ended=self.ended)


def story() -> Run:
    run = Run()
    run.start("web", "a")
    run.move("web", "a", "b", "j1")
    run.move("web", "b", "c", "j2", arrives=False)
    run.cut_off("b", ["web"])
    run.healed("b", ["web"])
    run.done(SetFlag(component="itp", percent=7))
    run.told.append(Told(command="setflag", subject="itp"))
    return run


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_honest_runs_pass(seed) -> None:
    rng, run = random.Random(seed), Run()
    for guest in ("web", "db"):
        run.start(guest, rng.choice(NODES))
    for number in range(8):
        guest = rng.choice(("web", "db"))
        record = run.cluster.state.guests[guest]
        other = rng.choice([node for node in NODES if node != record.node])
        here = [
            name
            for name, each in run.cluster.state.guests.items()
            if each.node == record.node and each.run == "running"
        ]
        match rng.randrange(4):
            case 0 if record.run == "running":
                run.move(guest, record.node, other, f"j{number}", arrives=rng.random() < 0.6)
            case 1 if record.run == "running":
                run.cut_off(record.node, here)
                run.healed(record.node, here)
            case 2 if record.run == "running":
                run.cut_off(record.node, here)
                for name in here:
                    run.fail_over(name, other)
                run.healed(record.node, [])
                for name in here:
                    run.event("gone", name, record.node)
            case _:
                if record.run == "running":
                    run.stop(guest, record.node)
                run.start(guest, rng.choice(NODES))
    assert faults(run.history()) == []


def without(history, command, nth=0):
    """The trails as they are without an entry, numbers and all."""
    trail = history.trails["a"]
    gone = [entry.number for entry in trail if entry.command == command][nth]
    return replace(history, trails={"a": [entry for entry in trail if entry.number != gone]})


def added_entry(history, command, body):
    last = history.trails["a"][-1]
    new = replace(last, number=last.number + 1, revision=last.revision + 1, command=command, body=body)
    return replace(history, trails={"a": [*history.trails["a"], new]})


def edited(history, command, nth=0, becomes="", body=None, **changes):
    entries = list(history.trails["a"])
    at = [place for place, entry in enumerate(entries) if entry.command == command][nth]
    changes |= {"body": {**entries[at].body, **(body or {})}, "command": becomes or command}
    entries[at] = replace(entries[at], **changes)
    return replace(history, trails={"a": entries})


def moved(history, kind, nth, by_ms):
    """One event earlier or later."""
    events = list(history.seen)
    at = [place for place, event in enumerate(events) if event.kind == kind][nth]
    events[at] = replace(events[at], at_ms=events[at].at_ms + by_ms)
    return replace(history, seen=events)


def added(history, *events):
    return replace(history, seen=[*history.seen, *events])


def last_ms(history) -> float:
    return max(event.at_ms for event in history.seen)


BREAKS = {}


def breaks(said):
    """What is done to an honest history, and what must be said of it."""

    def keep(broken):
        BREAKS[broken.__name__] = (broken, said)
        return broken

    return keep


@breaks("V1: web executed on b and on c")
def two_at_once(history):
    return added(history, Seen(node="c", guest="web", kind="resume", at_ms=last_ms(history) + 1))


@breaks("V1: web executed on a and on b")
def the_target_begins_before_the_source_stops(history):
    return moved(history, "resume", 1, -100)


@breaks("V1: web")
def the_source_never_stops(history):
    return replace(history, seen=[event for event in history.seen if event.kind not in ("stop", "gone")])


@breaks("V3: web executed on a")
def a_start_without_an_epoch(history):
    return without(history, "startguest")


@breaks("V3: web executed on b")
def a_move_that_was_not_agreed_on_before_it_began(history):
    return without(history, "advancemove", 0)


@breaks("V3: web executed on b")
def a_target_that_runs_before_that_is_agreed_on(history):
    return moved(moved(history, "resume", 1, -2100), "stop", 0, -2100)


@breaks("V3: web executed on a")
def an_old_owner_that_runs_again(history):
    gone_ms = next(event.at_ms for event in history.seen if event.kind == "gone")
    again = [Seen(node="a", guest="web", kind=kind, at_ms=gone_ms + at) for kind, at in (("resume", 9), ("stop", 19))]
    return added(history, *again)


@breaks("is not above")
def an_epoch_that_goes_back(history):
    return edited(history, "beginmove", 1, revision=3)


@breaks("it was at epoch")
def a_stale_belief(history):
    return edited(history, "beginmove", 1, body={"epoch": 1})


@breaks("V1: web executed on b")
def a_pause_that_is_too_late(history):
    return moved(history, "stop", 2, 4_000)


@breaks("V1: web executed on b")
def no_pause_at_all(history):
    last_stop = [event for event in history.seen if event.kind == "stop"][-1]
    return replace(history, seen=[event for event in history.seen if event is not last_stop])


@breaks("V1: web executed on b")
def a_guest_that_is_resumed_before_its_node_has_a_lease(history):
    return moved(history, "resume", -1, -4_000)


@breaks("V1: web executed on a")
def a_guest_that_runs_before_any_lease(history):
    return edited(history, "acquirelease", 0, at_ms=int(last_ms(history)))


@breaks("were waited")
def a_lease_that_was_not_waited_for(history):
    return edited(history, "expirelease", body={"waited_ms": 9_000})


@breaks("did not hold lease 1")
def the_end_of_another_lease(history):
    return edited(history, "expirelease", body={"number": 1})


@breaks("asked by node:c")
def a_lease_in_anothers_name(history):
    return edited(history, "acquirelease", 1, by="node:c")


@breaks("b held no lease")
def a_move_to_a_node_without_a_lease(history):
    return without(history, "acquirelease", 1)


@breaks("and no move held web")
def a_commit_of_a_move_that_does_not_have_the_guest(history):
    return added_entry(history, "commitmove", {"job": "j2"})


@breaks("it was rolling-back")
def a_commit_after_the_way_back(history):
    return edited(history, "endmove", 1, becomes="commitmove")


@breaks("failed, and it was committed")
def a_way_back_after_the_commit(history):
    return edited(history, "endmove", 0, body={"state": "failed"})


@breaks("V5: web was started 2 times")
def a_guest_that_is_started_twice(history):
    return added(history, Seen(node="a", guest="web", kind="booted", at_ms=last_ms(history)))


@breaks("acknowledged in entry 4")
def an_acknowledged_start_that_is_gone(history):
    return replace(history, told=[*history.told, Told(command="startguest", subject="db", revision=4)])


@breaks("acknowledged 2 times")
def one_of_two_acknowledged_is_gone(history):
    return replace(history, told=[*history.told, Told(command="setflag", subject="itp")])


@breaks("V4: j1 ended failed")
def a_verdict_of_its_own(history):
    return replace(history, ended=[replace(history.ended[0], completed=False)])


@breaks("V4: j2 says that c has web")
def the_wrong_owner(history):
    return replace(history, ended=[replace(history.ended[1], owner="c")])


@breaks("never agreed on")
def a_completed_move_that_nobody_agreed_on(history):
    return replace(history, ended=[Ended(job="j9", guest="web", completed=True, owner="a")])


@breaks("V4: the end of j2")
def an_end_that_was_not_agreed_on(history):
    return without(history, "endmove", 1)


@breaks("do not agree on entry 1")
def members_that_disagree(history):
    other = [replace(entry, link="00") for entry in history.trails["a"]]
    return replace(history, trails={**history.trails, "b": other})


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_found(name) -> None:
    history = story().history()
    assert faults(history) == []
    broken, said = BREAKS[name]
    found = faults(broken(history))
    assert any(said in fault for fault in found), found


def test_a_takeover_before_the_end_of_the_lease_is_found() -> None:
    run = Run()
    run.start("web", "a")
    run.cut_off("a", ["web"])
    run.fail_over("web", "b")
    history = run.history()
    assert faults(history) == []
    assert any(
        "the lease of a, which may run it, had not ended" in one for one in faults(without(history, "expirelease"))
    )


def test_in_bft_the_words_of_two_of_four_members_end_a_lease() -> None:
    run = Run()
    run.cluster.enrolled(*NODES)
    run.start("web", "a")
    lease = run.cluster.state.leases["a"]
    run.event("stop", "web", "a", 7_900)
    run.now += wait_ms(lease.terms)
    expiry = ExpireLease(node="a", number=lease.number, renewal=0, waited_ms=0, drift_ppm=0)
    for member in (1, 3):
        run.done(attested(expiry, member, SECRETS[member].sign), f"member:m{member}")
    run.fail_over("web", "b")
    assert faults(run.history()) == []
    for nth in (0, 1):
        found = faults(without(run.history(), "attestexpiry", nth))
        assert any("the lease of a, which may run it, had not ended" in one for one in found)
    assert any("9 is no member" in one for one in faults(edited(run.history(), "attestexpiry", body={"member": 9})))


def test_an_override_is_taken_at_its_word_but_not_for_two_at_once() -> None:
    run = Run()
    run.start("web", "a")
    run.done(Override(nodes=("a",), risk=risk_of(run.cluster.state, ("a",)), reason="it is gone"))
    run.fail_over("web", "b")
    assert any(fault.startswith("V1: web executed on a and on b") for fault in faults(run.history()))
    run.seen = [event for event in run.seen if event.node == "b" or event.kind == "booted"]
    assert faults(run.history()) == []


def test_how_early_a_node_paused_is_measured() -> None:
    run = story()
    (margin,) = margins_ms(run.history()).values()
    # Sent 10 ms before it was applied, paused 8.2 s after it was sent, at the latest due 12.012 s after it was applied.
    assert margin == pytest.approx(12_012 + 10 - 8_200, abs=5)


@given(st.lists(st.tuples(st.sampled_from(["resume", "stop", "gone"]), st.integers(0, 10**6)), max_size=30))
def test_spans_are_what_lies_between_a_resume_and_the_next_end(events) -> None:
    seen = [Seen(node="a", guest="g", kind=kind, at_ms=float(at)) for kind, at in events]
    found = spans(seen)
    for one, other in itertools.pairwise(found):
        assert one.end_ms <= other.begin_ms
    for event in seen:
        if event.kind == "resume":
            assert any(span.begin_ms <= event.at_ms <= span.end_ms for span in found)


def test_a_process_that_is_seen_to_be_gone_may_have_gone_a_moment_before() -> None:
    run = Run()
    run.start("web", "a")
    run.stop("web", "a")
    history = run.history()
    assert faults(moved(history, "gone", 0, LATE_MS - 100)) == []
    assert faults(moved(history, "gone", 0, LATE_MS + 100)) != []


def test_the_short_plan_has_every_part_phase_and_role_of_the_long_one() -> None:
    assert len(matrix()) == len(all_faults()) * len(PHASES) == len(set(matrix()))
    assert set(short()) <= set(matrix())
    assert {cell.phase for cell in short()} == set(PHASES)
    for name in ("part", "role"):
        assert {getattr(cell.fault, name) for cell in short()} == {getattr(each, name) for each in all_faults()}
    assert [str(cell.fault) for cell in matrix("cut source", ("idle",))] == ["cut source-third", "cut source-target"]


def test_of_a_third_node_that_is_a_witness_only_the_member_is_killed() -> None:
    left_out = set(map(str, all_faults())) - set(map(str, all_faults(witness=True)))
    assert left_out == {"kill agent third", "kill keeper third", "kill manager third"}


def test_who_holds_a_lease_at_the_end_is_told() -> None:
    run = story()
    run.cut_off("c", [])
    assert Owners(run.history().trails["a"]).leased == {"a", "b"}
