"""The algebra: joins in any order and number come to the same, lose nothing, and a delta is worth the whole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sync import values
from actors.sync.clock import AHEAD_MS_MAX, COUNT_MAX, Clock, Stamp, too_far_ahead
from actors.sync.facts import Facts
from actors.sync.values import (
    SERIES_KEPT,
    Counter,
    Members,
    Register,
    Sample,
    Seen,
    Series,
    join,
    series,
    within_bounds,
)
from tests.unit.sync.kit import NOW_MS, everything, write

stamps = st.builds(Stamp, st.integers(0, 3), st.integers(0, 2), st.sampled_from("abc"))
registers = st.builds(Register, stamps, st.none() | st.binary(max_size=2))
counts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 5))
counters = st.builds(Counter, counts, counts)
samples = st.builds(Sample, stamps, st.binary(max_size=1))
all_series = st.lists(samples, min_size=1, max_size=8).map(tuple).map(series)


@st.composite
def histories(draw):
    """Values that three replicas of one set really got to, by adding, removing and hearing of each other in part."""
    held = {writer: Members() for writer in "abc"}
    deltas = [Members()]
    for _ in range(draw(st.integers(1, 14))):
        writer = draw(st.sampled_from("abc"))
        what = draw(st.sampled_from(["add", "add", "discard", "hear"]))
        if what == "hear":
            delta = draw(st.sampled_from(deltas))
        elif what == "add":
            delta = held[writer].add(writer, draw(st.sampled_from("xy")))
        else:
            delta = held[writer].discard(draw(st.sampled_from("xy")))
        deltas.append(delta)
        held[writer] = join(held[writer], delta)
    return [*held.values(), *deltas]


def triples(one):
    return st.tuples(one, one, one)


any_three = st.one_of(
    triples(registers),
    triples(counters),
    triples(all_series),
    histories().flatmap(lambda found: triples(st.sampled_from(found))),
    triples(st.one_of(registers, counters, all_series)),
)


@given(any_three)
def test_joins_are_commutative_associative_idempotent_and_never_less(three):
    a, b, c = three
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    joined = join(a, b)
    # Inflationary: both are below what they came to.
    assert join(a, joined) == joined
    assert join(b, joined) == joined
    assert within_bounds(joined)


@given(st.integers(0, 2**32))
def test_deltas_come_to_the_same_as_the_whole(seed):
    rng = random.Random(seed)
    writer, told, whole = Facts("a"), Facts("b"), Facts("c")
    deltas = []
    for _ in range(40):
        deltas.append(write(writer, rng, keys=3))
        assert all(writer.get(key) == join(writer.get(key), delta) for key, delta in deltas[-1].items())
    rng.shuffle(deltas)
    for delta in deltas + rng.sample(deltas, 10):
        told.merge(delta, NOW_MS)
    whole.merge(everything(writer), NOW_MS)
    assert everything(told) == everything(whole) == everything(writer)
    assert told.digest("") == whole.digest("") == writer.digest("")


# -- sets -----------------------------------------------------------------------------------------------------------


def test_an_addition_wins_against_a_removal_that_did_not_know_it():
    both = Members().add("a", "x")
    removed = join(both, both.discard("x"))
    again = join(both, both.add("b", "x"))
    assert removed.elements == frozenset()
    assert join(removed, again).elements == {"x"}
    gone = join(again, again.discard("x"))
    assert gone.elements == frozenset()
    assert join(gone, again).elements == frozenset()


def test_what_was_removed_leaves_one_number_behind():
    value = Members()
    for number in range(300):
        value = join(value, value.add("a", f"e{number % 7}"))
        value = join(value, value.discard(f"e{number % 7}"))
    assert value == Members({}, Seen({"a": 300}))


def test_a_gap_in_what_is_seen_closes():
    value, deltas = Members(), []
    for number in range(4):
        deltas.append(value.add("a", f"e{number}"))
        value = join(value, deltas[-1])
    late = join(deltas[3], deltas[1])
    assert len(late.seen.extra) == 2
    whole = join(join(late, deltas[0]), deltas[2])
    assert whole == value
    assert whole.seen == Seen({"a": 4})


# -- the rest -------------------------------------------------------------------------------------------------------


def test_a_series_keeps_the_newest():
    many = [Sample(Stamp(at, 0, "a"), b"") for at in range(SERIES_KEPT + 9)]
    random.Random(1).shuffle(many)
    kept = series(tuple(many))
    assert [sample.stamp.wall_ms for sample in kept.samples] == list(range(9, SERIES_KEPT + 9))


def test_cutting_a_series_short_is_still_a_join(monkeypatch):
    monkeypatch.setattr(values, "SERIES_KEPT", 3)
    rng = random.Random(2)

    def some():
        made = (Sample(Stamp(rng.randrange(6), 0, "a"), rng.choice([b"", b"x"])) for _ in range(rng.randint(1, 4)))
        return series(tuple(made))

    for _ in range(2000):
        a, b, c = some(), some(), some()
        assert join(a, b) == join(b, a)
        assert join(join(a, b), c) == join(a, join(b, c))


def test_a_counter_counts_both_ways_from_everywhere():
    value = Counter()
    for writer, by in (("a", 5), ("b", 2), ("a", -3), ("c", 0), ("b", -4)):
        value = join(value, value.add(writer, by))
    assert value.total == 0
    assert value == Counter({"a": 5, "b": 2}, {"a": 3, "b": 4})


@pytest.mark.parametrize(
    "value",
    [
        Series((Sample(Stamp(2, 0, "a"), b""), Sample(Stamp(1, 0, "a"), b""))),
        Series((Sample(Stamp(2, 0, "a"), b""), Sample(Stamp(2, 0, "a"), b"x"))),
        Counter({"a": 0}),
        Members({"x": frozenset()}),
        Members({"x": Members().add("a", "x").dots["x"]}),
    ],
)
def test_what_no_replica_would_say_is_out_of_bounds(value):
    assert not within_bounds(value)
    facts = Facts("me")
    assert facts.merge({"key": value}, NOW_MS) == []
    assert facts.refused == 1
    assert len(facts) == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_each_stamp_is_later_than_all_before_it(turns):
    clock, last = Clock("a"), Stamp(0, 0, "a")
    for hears, at in turns:
        if hears:
            seen = Stamp(at, COUNT_MAX - 1, "b")
            clock.saw(seen)
            last = max(last, seen)
        stamp = clock.stamp(at)
        assert (stamp.wall_ms, stamp.count) > (last.wall_ms, last.count)
        last = stamp


def test_a_clock_far_ahead_is_not_believed():
    assert not too_far_ahead(Stamp(AHEAD_MS_MAX + 5, 0, "a"), 5)
    assert too_far_ahead(Stamp(AHEAD_MS_MAX + 6, 0, "a"), 5)
    facts = Facts("me")
    late = Register(Stamp(NOW_MS + AHEAD_MS_MAX + 1, 0, "a"), b"x")
    assert facts.merge({"key": late}, NOW_MS) == []
    assert facts.refused == 1
    facts.put("key", b"mine", NOW_MS)
    assert facts.read("key") == b"mine"
