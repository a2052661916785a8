"""Anti-entropy: converges in one exchange, costs what differs, and takes nothing amiss."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import BadRequest, StreamCorrupt
from actors.sync import engine, facts
from actors.sync.clock import Stamp
from actors.sync.engine import ANSWER_BYTES_MAX, FEW, MESSAGE_BYTES_MAX, SEND_BYTES, Exchange, Listing, Message
from actors.sync.facts import HORIZON_MS, Facts, place_of
from actors.sync.values import Members, Register
from tests.unit.sync.kit import NOW_MS, everything, exchange, write

GUESTS = 1000
SITES = ("london", "paris", "berlin")


def filled(guests: int, name: str = "a") -> Facts:
    """Each site's facts of each guest."""
    replica = Facts(name)
    for guest in range(guests):
        for site in SITES:
            replica.put(f"{site}/guest-{guest}/store", b"x" * 40, NOW_MS)
    return replica


def copied(replica: Facts, name: str) -> Facts:
    copy = Facts(name)
    copy.merge(everything(replica), NOW_MS)
    return copy


# -- converging -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 150), st.integers(0, 150), st.integers(1, 60))
def test_one_exchange_makes_two_replicas_equal(seed, here, there, keys):
    rng = random.Random(seed)
    a, b = Facts("a"), Facts("b")
    for _ in range(here):
        write(a, rng, keys)
    if rng.random() < 0.5:
        b.merge(everything(a), NOW_MS)
    for _ in range(there):
        write(b, rng, keys)
    for _ in range(here // 4):
        write(a, rng, keys)
    exchange(a, b)
    assert everything(a) == everything(b)
    assert a.digest("") == b.digest("")
    # Equal replicas have nothing to say.
    assert exchange(b, a)[1] == 1
    assert (a.refused, b.refused) == (0, 0)


def test_digests_follow_every_change_whatever_the_order():
    rng, writers = random.Random(3), [Facts(name) for name in "abc"]
    deltas = [write(rng.choice(writers), rng, 40) for _ in range(400)]
    one, other = Facts("x"), Facts("y")
    for delta in deltas:
        one.merge(delta, NOW_MS)
    rng.shuffle(deltas)
    for delta in deltas:
        other.merge(delta, NOW_MS)
    for prefix in ("", "0", "7", "c3", "ffff", "123456"):
        assert one.digest(prefix) == other.digest(prefix)
        assert one.digest(prefix).entries == len(list(one.places(prefix)))
    assert one.digest("").entries == len(one) == sum(one.digest(digit).entries for digit in "0123456789abcdef")


class Line:
    """Loses, repeats and delays messages; carries none while it is cut."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.cut = rng, False
        self.held: list[tuple[str, str, bytes]] = []

    def send(self, source: str, to: str, messages: list[bytes]) -> None:
        if self.cut:
            return
        for message in messages:
            for _ in range(self.rng.choices([0, 1, 2], [5, 90, 5])[0]):
                self.held.append((source, to, message))
        self.rng.shuffle(self.held)


@pytest.mark.parametrize("seed", range(8))
def test_three_sites_converge_after_a_partition_with_writes_on_all_sides(seed):
    rng = random.Random(seed)
    sites = {name: Facts(name) for name in SITES}
    ends = {name: Exchange(site) for name, site in sites.items()}
    lines = {frozenset((a, b)): Line(rng) for a in SITES for b in SITES if a != b}

    def turn(second: int, *, quiet: bool) -> None:
        now = NOW_MS + second * 1000
        for name, site in sites.items():
            others = [other for other in SITES if other != name]
            if not quiet:
                for _ in range(rng.randint(0, 4)):
                    delta = write(site, rng, 300, now + rng.randint(-2000, 2000))
                    for other in others:
                        lines[frozenset((name, other))].send(name, other, ends[name].tell(delta))
            if second % 5 == 0:
                for other in others:
                    lines[frozenset((name, other))].send(name, other, [ends[name].begin()])
        for line in lines.values():
            for _ in range(200):
                if not line.held or rng.random() < 0.02:
                    break
                source, to, message = line.held.pop()
                line.send(to, source, ends[to].receive(message, now))

    for second in range(150):
        for pair, line in lines.items():
            line.cut = 60 <= second < 120 and "london" in pair
            if line.cut:
                line.held.clear()
        turn(second, quiet=False)
    apart = second = 150
    while len({site.digest("") for site in sites.values()}) > 1:
        turn(second, quiet=True)
        second += 1
        assert second < apart + 30, "not converged within 30 s"
    assert everything(sites["london"]) == everything(sites["paris"]) == everything(sites["berlin"])


def test_a_conflict_is_over_after_one_exchange():
    a, b = filled(20, "a"), Facts("b")
    exchange(a, b)
    a.put("hint", b"left", NOW_MS + 1)
    b.put("hint", b"right", NOW_MS + 2)
    b.put("london/guest-3/store", None, NOW_MS + 2)
    exchange(a, b)
    assert a.read("hint") == b.read("hint") == b"right"
    assert a.read("london/guest-3/store") is None


# -- what it costs --------------------------------------------------------------------------------------------------


def cost(guests: int, differences: int) -> tuple[int, int]:
    a = filled(guests)
    b = copied(a, "b")
    rng = random.Random(1)
    for guest in rng.sample(range(guests), differences):
        rng.choice((a, b)).put(f"paris/guest-{guest}/store", b"y" * 40, NOW_MS + 1)
    spent = exchange(a, b)
    assert a.digest("") == b.digest("")
    return spent


def test_the_bytes_are_proportional_to_the_difference():
    # A difference costs its path: at most 16 parts of 14 bytes a level, a listing of FEW marks, the value both ways.
    levels = 4
    each = levels * 16 * 14 + FEW * 20 + 2 * 120
    for differences in (1, 16, 64):
        assert cost(GUESTS, differences)[0] <= 100 + each * differences
    assert cost(GUESTS, 0) == (len(Exchange(filled(GUESTS)).begin()), 1)
    # Far below telling everything, and hardly more for four times as many facts.
    whole = cost(GUESTS, GUESTS)[0]
    assert cost(GUESTS, 10)[0] < whole / 20
    assert cost(4 * GUESTS, 10)[0] < 1.6 * cost(GUESTS, 10)[0]


def test_a_new_replica_gets_everything_in_messages_that_can_be_read():
    a, b = filled(GUESTS), Facts("b")
    for number in range(40):
        a.put(f"large/{number}", b"z" * 4096, NOW_MS)
    sizes = []
    ends = {"a": Exchange(a), "b": Exchange(b)}
    waiting = [("a", ends["b"].begin())]
    while waiting:
        to, message = waiting.pop()
        sizes.append(len(message))
        other = "a" if to == "b" else "b"
        waiting += [(other, answer) for answer in ends[to].receive(message, NOW_MS)]
    assert everything(a) == everything(b)
    assert max(sizes) < SEND_BYTES + 8192


# -- forgetting -----------------------------------------------------------------------------------------------------


def test_removals_are_forgotten_and_what_they_removed_does_not_come_back():
    a = filled(10)
    b = copied(a, "b")
    later = NOW_MS + HORIZON_MS - 1000
    for guest in range(5):
        a.put(f"paris/guest-{guest}/store", None, NOW_MS + 500)
    for guest in range(5, 10):
        a.put(f"paris/guest-{guest}/store", b"again", later)
    # The two meet only when the horizon has passed over the removals and over what they removed.
    now = later + 2000
    assert a.forget(now) == 25
    exchange(a, b, now)
    b.forget(now)
    exchange(b, a, now)
    assert everything(a) == everything(b)
    assert len(a) == 5
    assert a.read("paris/guest-0/store") is None
    assert a.digest("").entries == 5


def test_forgetting_everything_leaves_nothing():
    a = filled(50)
    a.forget(NOW_MS + HORIZON_MS + 1)
    assert (len(a), a.digest("")) == (0, facts.EMPTY)
    assert (a._ranges, a._leaves) == ({}, {})


# -- strangers ------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_in_one_way(data):
    replica = filled(3)
    before = everything(replica)
    try:
        Exchange(replica).receive(data, NOW_MS)
    except StreamCorrupt:
        assert everything(replica) == before


@settings(max_examples=200)
@given(st.data())
def test_damaged_messages_are_refused_or_harmless(data):
    a, b = filled(4), Facts("b")
    rng = random.Random(9)
    for _ in range(30):
        write(b, rng, 5)
    (message,) = Exchange(b).tell(everything(b))
    bad = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    try:
        Exchange(a).receive(bytes(bad), NOW_MS)
    except StreamCorrupt:
        return
    # Whatever came in is whole: others can still be made equal.
    c = Facts("c")
    exchange(a, c)
    assert everything(c) == everything(a)


def test_what_is_too_long_is_not_read():
    with pytest.raises(StreamCorrupt, match="at most"):
        Exchange(Facts("a")).receive(bytes(MESSAGE_BYTES_MAX + 1), NOW_MS)


def test_a_stranger_that_wants_everything_gets_a_bounded_answer():
    a = Facts("a")
    for number in range(1500):
        a.put(f"large/{number}", b"z" * 4000, NOW_MS)
    wants = frozenset(bytes.fromhex(place_of(f"large/{number}")) for number in range(1000))
    answer = Exchange(a).receive(msgspec.msgpack.encode(Message(wants=wants)), NOW_MS)
    assert sum(map(len, answer)) < ANSWER_BYTES_MAX * 1.1
    empty = msgspec.msgpack.encode(Message(listings=(Listing("", {}),)))
    assert sum(map(len, Exchange(a).receive(empty, NOW_MS))) < 1000


def test_an_entry_that_would_grow_too_large_is_refused_and_counted(monkeypatch):
    monkeypatch.setattr(facts, "JOINED_BYTES_MAX", 120)
    a, b = Facts("a"), Facts("b")
    for number in range(5):
        a.add("set", f"element-{number}")
        b.add("set", f"other-{number}")
    b.merge(everything(a), NOW_MS)
    assert b.refused == 1
    with pytest.raises(BadRequest, match="too large"):
        for number in range(40):
            a.add("set", f"more-{number}")


def test_there_is_a_limit_to_the_facts(monkeypatch):
    monkeypatch.setattr(facts, "KEYS_MAX", 3)
    a = filled(1)
    with pytest.raises(BadRequest, match="3 facts"):
        a.put("one more", b"", NOW_MS)
    a.put("paris/guest-0/store", b"still", NOW_MS)
    a.merge({"another": Register(Stamp(NOW_MS, 0, "b"), b"")}, NOW_MS)
    assert (len(a), a.refused) == (3, 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda a: a.put("key", b"x" * 4097, NOW_MS),
        lambda a: a.put("", b"x", NOW_MS),
        lambda a: a.put("k" * 129, b"x", NOW_MS),
        lambda a: a.sample("key", b"x" * 65, NOW_MS),
    ],
)
def test_a_write_that_others_would_refuse_is_refused_here(write):
    a = Facts("a")
    with pytest.raises(BadRequest):
        write(a)
    assert len(a) == 0


def test_two_kinds_under_one_key_come_to_the_same_everywhere():
    a, b = Facts("a"), Facts("b")
    a.put("key", b"x", NOW_MS)
    b.add("key", "x")
    exchange(a, b)
    assert everything(a) == everything(b)
    assert isinstance(a.get("key"), Members)
    with pytest.raises(StreamCorrupt):
        Exchange(a).receive(engine._encoder.encode([[["zz", 1, b"12345678"]]]), NOW_MS)
