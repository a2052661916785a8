"""Four members whose log goes on in BFT: real shells, stores and keys; a member that lies in this part."""

import msgspec
import pytest

from actors.consensus.bft.messages import Accuse, Phase
from actors.consensus.bft.notary import Notary
from actors.consensus.bft.witness import contradiction
from actors.consensus.chain import Protocol, Tagged
from actors.control import snapshot, wire
from actors.control.keys import MemberKeys, public_of, secret_in
from actors.control.model import Result
from actors.control.parcels import AskEntry, AskIndex, Carry, EntryIs, IndexIs
from actors.control.shelf import Shelf, parts_in
from actors.errors import StateCorrupt
from tests.unit.control.members import FOUNDING, Asked, Group


@pytest.fixture
def group(tmp_path):
    made = Group(tmp_path, count=4, compact_entries=20)
    made.run(until=made.leader)
    made.enrol()
    made.switch(Protocol.BFT)
    yield made
    for shelf in made.stores.values():
        shelf.close()


def same(group: Group) -> bool:
    return len({snapshot.encode(shell.replica.state) for shell in group.shells.values()}) == 1


def test_every_member_takes_commands_and_all_apply_the_same(group) -> None:
    for number in group.numbers:
        assert group.agree(number, f"by-{number}").accepted
    want = {f"by-{number}": "x" for number in group.numbers}
    group.run(until=lambda: all(group.policies(number) == want for number in group.numbers))
    group.run(until=lambda: same(group))
    assert {shell.core.part for shell in group.shells.values()} == {1}


def test_a_read_at_any_member_sees_what_was_acknowledged_before_it(group) -> None:
    for count in range(4):
        group.agree(1, "p", str(count))
        for number in group.numbers:
            seen: list[str] = []
            group.shells[number].read(
                group.now_ms,
                lambda index, seen=seen, number=number: seen.append(group.policies(number)["p"] if index else "none"),
            )
            group.run(until=lambda seen=seen: seen)
            assert seen == [str(count)]


def test_the_primary_is_killed_and_comes_back_from_its_disk(group) -> None:
    primary = group.shells[1].core.leader
    rest = [number for number in group.numbers if number != primary]
    group.kill(primary)
    assert group.agree(rest[0], "without it").accepted
    assert group.shells[rest[0]].core.leader != primary
    group.start(primary)
    assert group.shells[primary].core.protocol is Protocol.BFT
    group.run(until=lambda: "without it" in group.policies(primary))
    assert group.agree(primary, "with it").accepted


def test_two_of_four_agree_on_nothing(group) -> None:
    group.split(1, 2)
    asked = group.submit(1, "p")
    seen = Asked()
    group.shells[3].read(group.now_ms, seen.told)
    with pytest.raises(AssertionError, match="never came true"):
        group.run(until=lambda: asked.answer is not None or seen.answer, seconds=20)
    group.heal()
    group.run(until=lambda: asked.answer is not None)
    assert isinstance(asked.answer, Result)


def test_one_that_lags_behind_checkpoints_gets_a_snapshot_that_a_quorum_signed(group) -> None:
    late = next(number for number in group.numbers if number != group.shells[1].core.leader)
    other = next(number for number in group.numbers if number != late)
    group.kill(late)
    for count in range(80):
        group.agree(other, f"p{count}", "v" * 3000)
    assert group.stores[other].newest.store.snapshot().proof, "a quorum agreed on a checkpoint"
    group.start(late)
    group.run(until=lambda: group.policies(late) == group.policies(other))
    assert group.stores[late].newest.store.snapshot().proof
    # And its own disk has it, with the state.
    group.kill(late)
    group.start(late)
    assert len(group.policies(late)) > 40
    group.run(until=lambda: same(group))


def test_it_goes_back_to_raft_and_all_parts_that_nobody_needs_are_deleted(group) -> None:
    group.agree(2, "in bft")
    group.switch(Protocol.RAFT)
    assert group.agree(2, "in raft").accepted
    group.run(until=lambda: all(parts_in(group.folder / str(number)) == [2] for number in group.numbers))
    trail = group.stores[1].newest.store.audit(after=0)
    for number in group.numbers:
        group.kill(number)
    for number in group.numbers:
        group.start(number)
    group.run(until=group.leader)
    group.run(until=lambda: group.policies(1) == {"in bft": "x", "in raft": "x"})
    assert [entry.number for entry in trail] == list(range(1, len(trail) + 1)), "the audit trail goes on"
    assert trail


def test_what_was_asked_for_in_the_part_that_ended_is_asked_for_again(group) -> None:
    asked = [group.submit(number, f"p{number}") for number in group.numbers]
    group.switch(Protocol.RAFT)
    group.run(until=lambda: all(each.answer is not None for each in asked))


def test_nobody_signs_for_what_another_member_says_it_was_asked(group) -> None:
    group.mail.clear()
    group.shells[1].receive(2, AskEntry(7, b"entry"), group.now_ms)
    group.shells[1].receive(2, AskIndex(8), group.now_ms)
    said = [parcel for _, to, parcel in group.mail if to == 2]
    assert EntryIs(7, None, doubt=False, why="every member proposes by itself in BFT") in said
    assert IndexIs(8, 0) in said


def _notary(group: Group, liar: int) -> Notary:
    keys = {number: public_of(secret_in(group.folder / str(number))) for number in group.numbers}
    secret = secret_in(group.folder / str(liar))
    return Notary(liar, MemberKeys(secret, lambda number: keys[number]), FOUNDING + b"/1")


def test_a_member_that_contradicts_itself_is_reported_excluded_and_in_the_audit_trail(group) -> None:
    liar = next(number for number in group.numbers if number != group.shells[1].core.leader)
    notary = _notary(group, liar)
    rank = (group.shells[1].core.term, 1_000_000)
    claims = [notary.claim(Phase.CHECKPOINT, 0, rank, content) for content in (b"a", b"b")]
    honest = next(number for number in group.numbers if number != liar)
    (parcel,) = wire.packed(Tagged(1, Accuse(contradiction(*claims))))
    group.shells[honest].receive(4 if honest != 4 else 3, parcel, group.now_ms)
    others = [number for number in group.numbers if number != liar]
    group.run(until=lambda: all(liar not in group.shells[n].core.membership.voters for n in others))
    assert any(evidence.member == liar for evidence in group.caught)
    group.run(until=lambda: all(group.shells[n].replica.state.members[str(liar)].caught for n in others))
    state = group.shells[honest].replica.state
    assert (state.audit[-1].command, state.audit[-1].subject) == ("excludemember", f"m{liar}")
    assert group.agree(honest, "without the liar").accepted


@pytest.mark.parametrize("junk", [b"\xc1", b"\x93\x01\x02\x03", b"\x92\x63\xc0", b""])
def test_what_no_honest_member_sends_is_dropped(group, junk) -> None:
    for part in (0, 1, 2, -5, 1 << 40):
        group.shells[1].receive(2, Carry(msgspec.Raw(junk or b"\x90"), part), group.now_ms)
    assert group.agree(1, "p").accepted


def test_a_newer_part_that_is_missing_is_not_begun_again(group) -> None:
    group.kill(2)
    (group.folder / "2" / "state-1.db").unlink()
    with pytest.raises(StateCorrupt, match="missing"):
        Shelf(group.folder / "2")
    group.down.discard(2)
    group.shells.pop(2, None)


def test_a_part_whose_making_was_cut_off_is_begun_again(group) -> None:
    group.kill(2)
    folder = group.folder / "2"
    (folder / "state-2.db").touch()
    group.start(2)
    assert group.shells[2].core.part == 1
    assert not (folder / "state-2.db").exists()
    group.run(until=lambda: same(group))
