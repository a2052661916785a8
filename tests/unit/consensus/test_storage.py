"""The log in memory, against the simplest possible model of one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.consensus.ready import Entry, HardState, Membership, Ready, Snapshot
from actors.consensus.storage import Compacted, MemoryStorage

MEMBERS = Membership((1, 2, 3))


def ready(*entries: Entry) -> Ready[None]:
    return Ready(entries=entries)


def test_a_founder_knows_the_founders() -> None:
    storage = MemoryStorage(MEMBERS)
    assert (storage.last(), storage.term(1), storage.hard_state()) == (1, 0, HardState())
    assert storage.snapshot().membership == MEMBERS


def test_one_that_joins_later_knows_nothing() -> None:
    storage = MemoryStorage()
    assert (storage.last(), storage.term(0), storage.hard_state()) == (0, 0, HardState())
    assert storage.snapshot().membership == Membership(())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=30))
def test_entries_replace_what_stands_from_their_index_on(writes: list[tuple[int, int]]) -> None:
    storage = MemoryStorage()
    model: list[Entry] = []
    for term, (back, count) in enumerate(writes, 1):
        first = max(len(model) - back, 0) + 1
        new = [Entry(index=first + at, term=term) for at in range(count)]
        model[first - 1 :] = new
        storage.write(ready(*new))
    assert storage.last() == len(model)
    assert storage.entries(1, len(model)) == tuple(model)
    assert [storage.term(entry.index) for entry in model] == [entry.term for entry in model]


@given(st.integers(1, 10), st.integers(1, 10))
def test_compaction_keeps_the_rest(length: int, upto: int) -> None:
    upto = min(upto, length)
    storage = MemoryStorage()
    storage.write(ready(*(Entry(index=at, term=at) for at in range(1, length + 1))))
    storage.compact(Snapshot(index=upto, term=upto, membership=MEMBERS))
    assert (storage.last(), storage.term(upto)) == (length, upto)
    assert [entry.index for entry in storage.entries(upto + 1, length)] == list(range(upto + 1, length + 1))
    with pytest.raises(Compacted):
        storage.entries(upto, length)
    with pytest.raises(Compacted):
        storage.term(upto - 1)


def test_a_snapshot_replaces_the_log() -> None:
    storage = MemoryStorage()
    storage.write(ready(Entry(index=1, term=1), Entry(index=2, term=1)))
    there = Snapshot(index=9, term=3, membership=Membership((1, 2)))
    storage.write(Ready(snapshot=there, entries=(Entry(index=10, term=4),), hard_state=HardState(4, 2, 9)))
    assert (storage.last(), storage.term(9), storage.term(10)) == (10, 3, 4)
    assert storage.snapshot() == there
    assert storage.hard_state() == HardState(4, 2, 9)


def test_a_gap_is_a_fault_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="gap"):
        MemoryStorage().write(ready(Entry(index=2, term=1)))
