"""What comes back: every message survives its frame however it is cut, and what is hostile is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.encoding import reverse as rev
from actors.encoding.far import MISSES_MAX, Acquaintances, FarStore
from actors.encoding.reverse import Answer, Done, Message, Need, Prints, Reader, Ready, Source, Sources
from actors.encoding.window import Held, Window
from actors.errors import DeadlineExceeded, StreamCorrupt, Unreachable
from tests.unit.encoding import kit

WORDS = st.integers(0, (1 << 48) - 1)
MESSAGES = st.one_of(
    st.binary(max_size=300).map(Answer),
    st.integers(0, (1 << 63) - 1).map(Done),
    st.builds(Need, st.integers(0, (1 << 63) - 1), st.lists(st.integers(0, 2000), max_size=20).map(tuple)),
    st.just(Ready()),
    st.builds(lambda key, blocks: Sources(key, (Source(b"s" * 16, 7, 0, blocks),)), st.binary(min_size=16, max_size=16),
              st.integers(1, rev.BLOCKS_MAX)),
    st.builds(lambda first, words: Prints(first, np.array(words, np.uint64)), st.integers(0, 99),
              st.lists(WORDS, min_size=1, max_size=50)),
)  # fmt: skip


def same(one: Message, other: Message) -> bool:
    if isinstance(one, Prints) and isinstance(other, Prints):
        return one.first == other.first and np.array_equal(one.prints, other.prints)
    return one == other


@given(st.lists(MESSAGES, max_size=8), st.data())
@settings(max_examples=100, deadline=None)
def test_messages_come_as_they_were_sent(messages: list[Message], data: st.DataObject) -> None:
    wire = b"".join(rev.pack(message) for message in messages)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    reader = Reader()
    got = [message for piece in kit.pieces(wire, cuts) for message in reader.feed(piece)] if wire else []
    assert len(got) == len(messages)
    assert all(map(same, got, messages))


@given(MESSAGES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_is_noticed(message: Message, data: st.DataObject) -> None:
    wire = bytearray(rev.pack(message))
    # The fourth byte is not used.
    at = data.draw(st.integers(0, len(wire) - 1).filter(lambda at: at != 3))
    wire[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert list(Reader().feed(bytes(wire))) == []
    except StreamCorrupt:
        return
    assert at in range(4, 8), "only a length that is now longer can leave the reader waiting"


@pytest.mark.parametrize(
    "frame",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        rev._HEAD.pack(rev.MAGIC, rev.ANSWER, rev.BODY_MAX_BYTES + 1, 0),
        rev._frame(9, b""),
        rev._frame(rev.READY, b"x"),
        rev._frame(rev.DONE, b"1234567"),
        rev._frame(rev.NEED, b"123456789"),
        rev._frame(rev.PRINTS, b"\0\0\0\0"),
        rev._frame(rev.PRINTS, b"\0\0\0\0" + b"p" * 7),
        rev._frame(rev.SOURCES, b"k" * 15),
        rev.pack(Sources(b"k" * 16, (Source(b"s" * 16, 1, 5, 10),))),
        rev.pack(Sources(b"k" * 16, (Source(b"s" * 16, 1, 0, 0),))),
        rev.pack(Sources(b"k" * 16, (Source(b"s" * 16, 1, 0, rev.BLOCKS_MAX + 1),))),
    ],
)
def test_hostile_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(StreamCorrupt):
        list(Reader().feed(frame))


def test_what_does_not_fit_together_is_refused() -> None:
    sources = Sources(kit.KEY, (Source(b"s" * 16, 1, 0, 10),))
    with pytest.raises(StreamCorrupt, match="before the sources"):
        FarStore(Acquaintances()).ready()
    far = FarStore(Acquaintances())
    with pytest.raises(StreamCorrupt, match="no source has"):
        far.learn(Prints(0, np.ones(1, np.uint64)))
    far.meet(sources)
    with pytest.raises(StreamCorrupt, match="twice"):
        far.meet(sources)
    with pytest.raises(StreamCorrupt, match="no source has"):
        far.learn(Prints(5, np.ones(6, np.uint64)))


def test_who_claims_in_vain_is_no_longer_believed() -> None:
    acquaintances = Acquaintances()
    far = FarStore(acquaintances)
    far.meet(Sources(kit.KEY, (Source(b"s" * 16, 1, 0, 10),)))
    far.learn(Prints(0, np.arange(1, 11, dtype=np.uint64)))
    far.ready()
    assert list(acquaintances.known()) == [b"s" * 16]
    for number in range(MISSES_MAX):
        assert far.on
        far.miss(np.array([number]))
    assert not far.on
    assert acquaintances.known() == {}


def test_what_is_remembered_is_bounded() -> None:
    acquaintances = Acquaintances(blocks_max=100)
    for number in range(5):
        acquaintances.remember(Source(bytes([number]) * 16, 1, 0, 30), np.ones(30, np.uint64))
    assert [source[0] for source in acquaintances.known()] == [2, 3, 4]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300))
@settings(deadline=None)
def test_changed_prints_are_all_told(spread: list[int]) -> None:
    places = np.unique(np.cumsum([1 + 40 * (step == 0) * step + step for step in spread]))
    prints = np.arange(1, int(places.max()) + 2, dtype=np.uint64)
    changed = np.zeros(len(prints), bool)
    changed[places] = True
    told = np.zeros(len(prints) + 5, np.uint64)
    for message in rev.cut_prints(prints, 5, changed):
        told[message.first : message.first + len(message.prints)] = message.prints
    assert np.array_equal(told[5:][changed], prints[changed])
    assert np.all((told[5:] == prints) | (told[5:] == 0))


def held(start: int, pages: int) -> Held:
    return Held(start, start + 100, np.arange(pages), np.full((pages, 512), start, np.uint64))


def test_pages_are_kept_until_their_batch_is_done() -> None:
    window = Window(held_max_bytes=3 * 4096)
    window.hold(held(0, 2))
    window.wait_for_room(0.0)
    window.hold(held(100, 2))
    with pytest.raises(DeadlineExceeded):
        window.wait_for_room(0.0)
    numbers, pages = window.needed(Need(100, (1,)))
    assert (numbers.tolist(), pages[0, 0]) == ([1], 100)
    assert window.needed(Need(0))[0].tolist() == [0, 1]
    for bad in (Need(50), Need(0, (2,)), Need(0, (1, 1)), Need(0, (1, 0))):
        with pytest.raises(StreamCorrupt):
            window.needed(bad)
    window.done(150)
    with pytest.raises(StreamCorrupt):
        window.needed(Need(0))
    window.stop()
    with pytest.raises(Unreachable):
        window.wait_until_empty(0.0)
    window.done(200)
    window.wait_until_empty(0.0)
