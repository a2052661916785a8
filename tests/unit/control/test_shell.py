"""The shell around a core: three members with real stores, crashes, cuts, snapshots, reads and forwarding."""

import pytest

from actors.control import snapshot
from actors.control.commands import AcquireLease, JoinNode, SetPolicy, seal
from actors.control.model import Result
from actors.control.parcels import AskState, Carry, EntryIs, Frames, IndexIs, StateIs, frame
from actors.control.waiting import Undecided
from actors.errors import Failed, StreamCorrupt
from tests.unit.control.members import FOUNDING, Asked, Group


@pytest.fixture
def group(tmp_path):
    made = Group(tmp_path)
    yield made
    for store in made.stores.values():
        store.close()


def settled(group: Group) -> int:
    return group.run(until=group.leader)


def test_every_member_takes_commands_and_all_apply_the_same(group) -> None:
    settled(group)
    for number in group.numbers:
        assert group.agree(number, f"by-{number}").accepted
    want = {f"by-{number}": "x" for number in group.numbers}
    group.run(until=lambda: all(group.policies(number) == want for number in group.numbers))
    assert len({snapshot.encode(shell.replica.state) for shell in group.shells.values()}) == 1


def test_a_lone_member_agrees_with_itself(tmp_path) -> None:
    group = Group(tmp_path, count=1)
    settled(group)
    assert group.agree(1, "a").accepted
    seen = Asked()
    group.shells[1].read(group.now_ms, seen.told)
    group.run(until=lambda: seen.answer is not None)
    assert seen.answer > 0
    group.stores[1].close()


def test_what_was_acknowledged_outlives_a_leader_that_is_killed(group) -> None:
    leader = settled(group)
    group.agree(leader, "kept")
    group.kill(leader)
    other = group.run(until=group.leader)
    assert other != leader
    group.agree(other, "later")
    assert group.policies(other) == {"kept": "x", "later": "x"}
    group.start(leader)
    group.run(until=lambda: group.policies(leader) == {"kept": "x", "later": "x"})


def test_all_of_them_come_back_with_all_that_was_acknowledged(group) -> None:
    settled(group)
    for count in range(5):
        group.agree(1, f"p{count}")
    for number in group.numbers:
        group.kill(number)
    for number in group.numbers:
        group.start(number)
    settled(group)
    want = {f"p{count}": "x" for count in range(5)}
    group.run(until=lambda: all(group.policies(number) == want for number in group.numbers))


def test_a_leader_that_is_cut_off_answers_nobody_and_the_others_go_on(group) -> None:
    old = settled(group)
    rest = [number for number in group.numbers if number != old]
    group.split(old)
    lost = group.submit(old, "lost")
    new = group.run(until=lambda: group.leader(among=rest))
    assert group.agree(new, "won").accepted
    # Not even a read: it would not show what the others agreed on meanwhile.
    stale = Asked()
    group.shells[old].read(group.now_ms, stale.told)
    assert not stale.answer
    assert lost.answer is None
    group.heal()
    group.run(until=lambda: lost.answer is not None)
    assert lost.answer == Undecided("another leader's entry took its place")
    group.run(until=lambda: all(group.policies(number) == {"won": "x"} for number in group.numbers))


def test_a_read_at_a_follower_sees_what_was_acknowledged_before_it(group) -> None:
    leader = settled(group)
    follower = next(number for number in group.numbers if number != leader)
    for count in range(3):
        group.agree(leader, "p", str(count))
        seen: list[str] = []
        group.shells[follower].read(
            group.now_ms, lambda index, seen=seen: seen.append(group.policies(follower)["p"] if index else "none")
        )
        group.run(until=lambda seen=seen: seen)
        assert seen == [str(count)]


def test_without_a_leader_nothing_is_asked_for_and_that_is_certain(group) -> None:
    asked = group.submit(1, "early")
    assert asked.answer == Undecided("no leader is known here")
    seen = Asked()
    group.shells[1].read(group.now_ms, seen.told)
    assert seen.answer == 0


def test_a_follower_whose_leader_can_not_be_reached_says_that_nothing_was_done(group) -> None:
    leader = settled(group)
    follower = next(number for number in group.numbers if number != leader)
    group.cut.add((follower, leader))
    asked = group.submit(follower, "p")
    assert asked.answer == Undecided("the leader can't be reached from here")


def test_who_waits_no_longer_is_not_told(group) -> None:
    leader = settled(group)
    follower = next(number for number in group.numbers if number != leader)
    asked = group.submit(follower, "p")
    group.shells[follower].forget(asked.key)
    group.run(until=lambda: group.policies(follower) == {"p": "x"})
    assert asked.answer is None


@pytest.mark.parametrize("value_bytes", [10, 4000])
def test_a_member_that_lags_behind_a_snapshot_gets_it_in_pieces(tmp_path, value_bytes) -> None:
    group = Group(tmp_path, compact_entries=120)
    leader = settled(group)
    late = next(number for number in group.numbers if number != leader)
    group.kill(late)
    for count in range(250):
        group.agree(leader, f"p{count}", "v" * value_bytes)
    assert group.stores[leader].newest.store.snapshot().index > 200
    group.start(late)
    want = group.policies(leader)
    group.run(until=lambda: group.policies(late) == want)
    assert group.stores[late].newest.store.snapshot().index > 200
    # And its own disk has it: it starts from there.
    group.kill(late)
    group.start(late)
    assert group.shells[late].replica.state.applied > 200
    group.run(until=lambda: group.policies(late) == want)
    for store in group.stores.values():
        store.close()


def test_a_snapshot_that_was_altered_on_the_way_is_not_believed(tmp_path) -> None:
    group = Group(tmp_path, compact_entries=50)
    leader = settled(group)
    late = next(number for number in group.numbers if number != leader)
    group.kill(late)
    for count in range(120):
        group.agree(leader, f"p{count}")
    group.start(late)
    receive = group.shells[late].receive

    def altering(sender, parcel, now_ms) -> None:
        if isinstance(parcel, StateIs):
            altered.append(parcel)
            parcel = StateIs(parcel.index, parcel.offset, parcel.total_bytes, b"\0" * len(parcel.piece))
        receive(sender, parcel, now_ms)

    altered: list[StateIs] = []
    group.shells[late].receive = altering
    group.run(until=lambda: len(altered) > 2)
    assert not group.policies(late)
    group.shells[late].receive = receive
    group.run(until=lambda: group.policies(late) == group.policies(leader))
    for store in group.stores.values():
        store.close()


def test_a_snapshot_that_nobody_has_is_answered_so(group) -> None:
    told = []
    shell = group.shells[1]
    shell._giving._post = lambda to, parcel: told.append((to, parcel)) or True
    shell.receive(2, AskState(4711, 0), group.now_ms)
    assert told == [(2, StateIs(4711, 0, -1))]


def test_the_audit_trail_goes_into_the_store_with_the_snapshot(tmp_path) -> None:
    group = Group(tmp_path, count=1, compact_entries=20)
    settled(group)
    for count in range(60):
        group.agree(1, f"p{count}")
    kept = group.stores[1].newest.store.audit(after=0)
    assert [entry.number for entry in kept] == list(range(1, len(kept) + 1))
    assert len(kept) >= 40
    group.stores[1].close()


def test_many_entries_share_one_write(group) -> None:
    leader = settled(group)
    before = group.shells[leader].writes
    asked = [group.submit(leader, f"p{count}") for count in range(100)]
    group.run(until=lambda: all(isinstance(each.answer, Result) for each in asked))
    assert group.shells[leader].writes - before < 10


def test_an_idle_group_writes_nothing(group) -> None:
    leader = settled(group)
    group.agree(leader, "p")
    group.run(until=lambda: all(group.policies(number) for number in group.numbers))
    before = [shell.writes for shell in group.shells.values()]
    end = group.now_ms + 10_000
    group.run(until=lambda: group.now_ms > end)
    assert [shell.writes for shell in group.shells.values()] == before


def test_a_member_that_restarts_counts_every_lease_anew(group) -> None:
    leader = settled(group)
    for command, by in [
        (JoinNode(node="a", site="x"), "operator:ann"),
        (AcquireLease(node="a", after=0, boot="b", terms=1), "node:a"),
    ]:
        asked = Asked()
        group.shells[leader].submit(seal(command, by=by), asked.told)
        group.run(until=lambda asked=asked: asked.answer is not None)
        assert asked.answer.accepted
    group.kill(leader)
    group.start(leader)
    group.run(until=lambda: "a" in group.shells[leader].replica.state.leases)
    seen = group.shells[leader].replica.book._seen["a"]
    assert seen.at_ms > 1_000.0


def test_a_disk_that_refuses_ends_the_member_and_costs_nothing_acknowledged(group) -> None:
    leader = settled(group)
    group.agree(leader, "kept")
    group.stores[leader].close()
    group.shells[leader].submit(seal(SetPolicy(name="p", value="x"), by="o"), lambda _: None)
    job = group.shells[leader].pump(group.now_ms)
    with pytest.raises(Failed):
        job.run()


def test_frames_come_apart_however_they_are_cut() -> None:
    parcels = [EntryIs(1, Result(index=3)), AskState(1, 2), StateIs(1, 2, 3, b"abc")]
    stream = b"".join(frame(FOUNDING, parcel) for parcel in parcels)
    for step in (1, 3, 7, len(stream)):
        frames, found = Frames(), []
        for at in range(0, len(stream), step):
            found += frames.feed(stream[at : at + step])
        assert [sheet.parcel for sheet in found] == parcels


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", frame(b"x", AskState(1, 2))[:4] * 9]
)
def test_what_is_no_frame_is_refused(data) -> None:
    with pytest.raises(StreamCorrupt):
        Frames().feed(data + bytes(64))


def test_messages_of_the_core_cross_as_they_are(group) -> None:
    settled(group)
    end = group.now_ms + 1000
    group.run(until=lambda: group.now_ms > end and group.mail)
    carried = [parcel for _, _, parcel in group.mail if isinstance(parcel, Carry)]
    assert carried
    for parcel in carried:
        assert Frames().feed(frame(FOUNDING, parcel))[0].parcel == parcel


def test_an_answer_to_an_earlier_life_is_not_taken_for_one_to_a_new_question(group) -> None:
    leader = settled(group)
    follower = next(number for number in group.numbers if number != leader)
    old = group.shells[follower].read(group.now_ms, Asked().told)
    group.kill(follower)
    group.start(follower)
    shell = group.shells[follower]
    group.run(until=lambda: shell.core.leader == leader)
    new = Asked()
    shell.read(group.now_ms, new.told)
    shell.receive(leader, IndexIs(old, 1), group.now_ms)
    assert new.answer is None
    group.run(until=lambda: new.answer is not None)
