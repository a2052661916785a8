"""Anti-entropy between two replicas: compare digests of ever smaller ranges, then send what differs. No clock, no I/O.

Each message is answered from what it says and what is here; there is no state of a session that could be lost, or
filled by a stranger. Either side may begin, at any time; lost, repeated and reordered messages cost bytes and nothing
else.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from actors.errors import StreamCorrupt
from actors.sync.facts import DEPTH, EMPTY, KEY_CHARS_MAX, PLACE_DIGITS, Facts
from actors.sync.values import Value

MESSAGE_BYTES_MAX = 262_144
"""A longer message is refused unread; ours stay below."""
SEND_BYTES = 65_536
FEW = 8
"""A range with no more entries than this is listed instead of split."""
LISTED_MAX = 4096
LOT = 1024
"""Parts of one kind that a message has at most."""
ANSWER_BYTES_MAX = 2 << 20
"""Values that one message is answered with; what is left is found by the next comparison."""
_DIGITS = "0123456789abcdef"

Prefix = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{0,{DEPTH}}}\Z")]
Place = Annotated[bytes, Meta(min_length=PLACE_DIGITS // 2, max_length=PLACE_DIGITS // 2)]
Mark = Annotated[bytes, Meta(min_length=8, max_length=8)]
Count = Annotated[int, Meta(ge=0, le=2**32)]
Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARS_MAX)]


class Range(msgspec.Struct, frozen=True, array_like=True):
    """What the sender has in a range."""

    prefix: Prefix
    count: Count
    mark: Mark


class Split(msgspec.Struct, frozen=True, array_like=True):
    """What the sender has in the sixteen parts of a range, the empty ones left out: digit, count, mark."""

    prefix: Annotated[str, Meta(pattern=rf"^[0-9a-f]{{0,{DEPTH - 1}}}\Z")]
    parts: Annotated[tuple[tuple[Annotated[int, Meta(ge=0, le=15)], Count, Mark], ...], Meta(max_length=16)]


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """Place and mark of everything that the sender has in a range."""

    prefix: Prefix
    marks: Annotated[dict[Place, Mark], Meta(max_length=LISTED_MAX)]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One message; every part may be empty. `wants`: places of which the sender would like the values."""

    ranges: Annotated[tuple[Range, ...], Meta(max_length=16)] = ()
    splits: Annotated[tuple[Split, ...], Meta(max_length=LOT)] = ()
    listings: Annotated[tuple[Listing, ...], Meta(max_length=LOT)] = ()
    values: Annotated[dict[Key, Value], Meta(max_length=LOT)] = {}
    wants: Annotated[frozenset[Place], Meta(max_length=LOT)] = frozenset()


_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()


class Exchange:
    """Speaks for one replica with any number of others."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def begin(self) -> bytes:
        """The message that begins: the digest of everything."""
        everything = self.facts.digest("")
        return _encoder.encode(Message(ranges=(Range("", everything.entries, everything.mark),)))

    def tell(self, delta: dict[str, Value]) -> list[bytes]:
        """Messages that tell a delta at once. They may be lost: the next comparison finds what is missing."""
        answer = _Answer(self.facts)
        answer.parts.extend(delta.items())
        return list(answer.packed())

    def receive(self, data: bytes, now_ms: int) -> list[bytes]:
        """Take a message in; the answer, in as many messages as it needs. None when both are the same.

        Raises:
            StreamCorrupt: it is too long or no message; the peer is not to be listened to.
        """
        if len(data) > MESSAGE_BYTES_MAX:
            raise StreamCorrupt(reason=f"a message of {len(data)} bytes, at most {MESSAGE_BYTES_MAX} are read")
        try:
            message = _decoder.decode(data)
        except _BAD as error:
            raise StreamCorrupt(reason=f"no message of anti-entropy: {error}") from None
        self.facts.merge(message.values, now_ms)
        answer = _Answer(self.facts)
        for each in message.ranges:
            self._compare(each.prefix, each.count, each.mark, answer)
        for split in message.splits:
            told = {digit: (count, mark) for digit, count, mark in split.parts}
            for digit in range(16):
                count, mark = told.get(digit, (0, EMPTY.mark))
                self._compare(split.prefix + _DIGITS[digit], count, mark, answer)
        for listing in message.listings:
            self._list(listing, answer)
        answer.send(place.hex() for place in sorted(message.wants))
        return list(answer.packed())

    def _compare(self, prefix: str, count: int, mark: bytes, answer: "_Answer") -> None:
        mine = self.facts.digest(prefix)
        if (mine.entries, mine.mark) == (count, mark):
            return
        if max(mine.entries, count) <= FEW or len(prefix) == DEPTH:
            few = islice(self.facts.places(prefix), LISTED_MAX)
            answer.parts.append(Listing(prefix, {bytes.fromhex(place): told for place, told in few}))
            return
        parts = []
        for digit in range(16):
            part = self.facts.digest(prefix + _DIGITS[digit])
            if part.entries:
                parts.append((digit, part.entries, part.mark))
        answer.parts.append(Split(prefix, tuple(parts)))

    def _list(self, listing: Listing, answer: "_Answer") -> None:
        """Send what they lack or have otherwise, and ask for what is missing or other here."""
        here = self.facts.digest(listing.prefix)
        if here.entries > 4 * FEW and len(listing.prefix) < DEPTH:
            # Much has come since, or somebody would like everything at once.
            self._compare(listing.prefix, len(listing.marks), EMPTY.mark, answer)
            return
        mine = dict(self.facts.places(listing.prefix))
        theirs = {place.hex(): mark for place, mark in listing.marks.items()}
        answer.send(place for place, mark in mine.items() if theirs.get(place) != mark)
        answer.parts.extend(
            bytes.fromhex(place)
            for place, mark in theirs.items()
            if place.startswith(listing.prefix) and mine.get(place) != mark
        )


class _Answer:
    """What is to be said, before it is cut into messages."""

    def __init__(self, facts: Facts) -> None:
        self.parts: list[Split | Listing | bytes | tuple[str, Value]] = []
        self._facts = facts
        self._left = ANSWER_BYTES_MAX

    def send(self, places: Iterable[str]) -> None:
        """Add the values at these places, as far as they fit."""
        for place in places:
            for key, value in self._facts.at((place,)).items():
                self._left -= len(_encoder.encode(value))
                if self._left < 0:
                    return
                self.parts.append((key, value))

    def packed(self) -> Iterator[bytes]:
        """All of it in messages of about `SEND_BYTES` at most, with what the receiver's limits allow in each."""
        lot: list[Split | Listing | bytes | tuple[str, Value]] = []
        size = 0
        for part in self.parts:
            size += len(_encoder.encode(part))
            lot.append(part)
            if size >= SEND_BYTES or len(lot) == LOT:
                yield _message(lot)
                lot, size = [], 0
        if lot:
            yield _message(lot)


def _message(parts: "list[Split | Listing | bytes | tuple[str, Value]]") -> bytes:
    return _encoder.encode(
        Message(
            splits=tuple(part for part in parts if isinstance(part, Split)),
            listings=tuple(part for part in parts if isinstance(part, Listing)),
            values=dict(part for part in parts if isinstance(part, tuple)),
            wants=frozenset(part for part in parts if isinstance(part, bytes)),
        )
    )
