"""A map of joinable values by key, with digests of ranges of keys that follow every change.

A key's *place* is 16 hex digits of its hash, so keys spread evenly; a range is a prefix of places. A range's digest is
the sum of its entries' hashes, so a change costs one addition per length of prefix, and equal ranges have equal digests
whatever was done in which order.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from actors.errors import BadRequest
from actors.sync.clock import Clock, too_far_ahead
from actors.sync.values import (
    SAMPLE_BYTES_MAX,
    VALUE_BYTES_MAX,
    Counter,
    Members,
    Register,
    Sample,
    Series,
    Value,
    join,
    stamps,
    within_bounds,
)

KEYS_MAX = 100_000
KEY_CHARS_MAX = 128
JOINED_BYTES_MAX = 131_072
"""A set or a counter that would grow beyond this takes no more."""
HORIZON_MS = 7 * 86_400_000
"""What nobody wrote again for so long is forgotten, removals too, and not taken from anybody else either."""
DEPTH = 6
PLACE_DIGITS = 16
_SUM_BITS = 128
_encoder = msgspec.msgpack.Encoder(order="deterministic")


class Digest(NamedTuple):
    """How many entries a range has, and the sum of their hashes."""

    entries: int
    sum: int

    @property
    def mark(self) -> bytes:
        """Eight bytes to compare it by."""
        return self.sum.to_bytes(16, "big")[:8]


EMPTY = Digest(0, 0)


class _Entry(NamedTuple):
    key: str
    value: Value
    hash: int


class Facts:
    """One replica. Writes give the delta that others need; `merge` takes theirs."""

    def __init__(self, writer: str) -> None:
        """`writer` names this replica; one that lost what it had written takes another name."""
        self.clock = Clock(writer)
        self.refused = 0
        self._entries: dict[str, _Entry] = {}
        self._ranges: dict[str, Digest] = {}
        # The places of each range that can't be split any more, and so has few.
        self._leaves: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Value | None:
        """The value of `key`, removed or not; None if it has none."""
        found = self._entries.get(place_of(key))
        return found.value if found else None

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, in order, removed or not."""
        return sorted(entry.key for entry in self._entries.values() if entry.key.startswith(prefix))

    def read(self, key: str) -> bytes | None:
        """What stands in a register; None if it is removed or there never was one."""
        value = self.get(key)
        return value.value if isinstance(value, Register) else None

    # -- writing: each gives the delta ------------------------------------------------------------------------------

    def put(self, key: str, value: bytes | None, now_ms: int) -> dict[str, Value]:
        """Write a register; None removes it.

        Raises:
            BadRequest: the value is too long, or there are too many keys.
        """
        if value is not None and len(value) > VALUE_BYTES_MAX:
            raise BadRequest(detail=f"{key}: {len(value)} bytes are more than a fact has ({VALUE_BYTES_MAX})")
        return self._write(key, Register(self.clock.stamp(now_ms), value))

    def sample(self, key: str, value: bytes, now_ms: int) -> dict[str, Value]:
        """Add a sample to a series.

        Raises:
            BadRequest: the value is too long, or there are too many keys.
        """
        if len(value) > SAMPLE_BYTES_MAX:
            raise BadRequest(detail=f"{key}: {len(value)} bytes are more than a sample has ({SAMPLE_BYTES_MAX})")
        return self._write(key, Series((Sample(self.clock.stamp(now_ms), value),)))

    def count(self, key: str, by: int) -> dict[str, Value]:
        """Count up, or down if `by` is negative.

        Raises:
            BadRequest: there are too many keys.
        """
        old = self.get(key)
        return self._write(key, (old if isinstance(old, Counter) else Counter()).add(self.clock.writer, by))

    def add(self, key: str, element: str) -> dict[str, Value]:
        """Add to a set.

        Raises:
            BadRequest: there are too many keys.
        """
        old = self.get(key)
        return self._write(key, (old if isinstance(old, Members) else Members()).add(self.clock.writer, element))

    def discard(self, key: str, element: str) -> dict[str, Value]:
        """Take out of a set what is known to be in it.

        Raises:
            BadRequest: there are too many keys.
        """
        old = self.get(key)
        return self._write(key, (old if isinstance(old, Members) else Members()).discard(element))

    def _write(self, key: str, delta: Value) -> dict[str, Value]:
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise BadRequest(detail=f"a fact's name has 1 to {KEY_CHARS_MAX} characters, not {len(key)}")
        if not self._join(key, delta):
            raise BadRequest(detail=f"{KEYS_MAX} facts are all there can be, or {key} would grow too large")
        return {key: delta}

    # -- joining ----------------------------------------------------------------------------------------------------

    def merge(self, values: dict[str, Value], now_ms: int) -> list[str]:
        """Join what another replica has; the keys of which the value changed.

        What can't be believed (too far ahead of the clock here, out of bounds) or is too old is left out; `refused`
        counts the first.
        """
        changed = []
        for key, value in values.items():
            told = stamps(value)
            if any(too_far_ahead(stamp, now_ms) for stamp in told) or not within_bounds(value):
                self.refused += 1
                continue
            if told and told[-1].wall_ms < now_ms - HORIZON_MS:
                continue
            before = self._entries.get(place_of(key))
            if not self._join(key, value):
                self.refused += 1
                continue
            if told:
                self.clock.saw(told[-1])
            if before is None or self._entries[place_of(key)] is not before:
                changed.append(key)
        return changed

    def forget(self, now_ms: int) -> int:
        """Forget what is older than the horizon; how many entries that were."""
        old = [
            place
            for place, entry in self._entries.items()
            if (told := stamps(entry.value)) and told[-1].wall_ms < now_ms - HORIZON_MS
        ]
        for place in old:
            self._put(place, None)
        return len(old)

    def _join(self, key: str, value: Value) -> bool:
        """False if the result is more than may be."""
        place = place_of(key)
        old = self._entries.get(place)
        if old is None and len(self._entries) >= KEYS_MAX:
            return False
        if old is not None and old.key != key:
            return False
        joined = join(old.value, value) if old else value
        if old is None or joined != old.value:
            if not within_bounds(joined) or not _fits(joined):
                return False
            self._put(place, _Entry(key, joined, _hash(key, joined)))
        return True

    def _put(self, place: str, new: _Entry | None) -> None:
        old = self._entries.pop(place, None)
        count = (new is not None) - (old is not None)
        difference = (new.hash if new else 0) - (old.hash if old else 0)
        for length in range(DEPTH + 1):
            prefix = place[:length]
            held = self._ranges.get(prefix, EMPTY)
            self._ranges[prefix] = Digest(held.entries + count, (held.sum + difference) % 2**_SUM_BITS)
            if not self._ranges[prefix].entries:
                del self._ranges[prefix]
        leaf = self._leaves.setdefault(place[:DEPTH], set())
        if new is not None:
            self._entries[place] = new
            leaf.add(place)
        else:
            leaf.discard(place)
        if not leaf:
            del self._leaves[place[:DEPTH]]

    # -- ranges -----------------------------------------------------------------------------------------------------

    def digest(self, prefix: str) -> Digest:
        """The digest of the range; `prefix` has at most `DEPTH` digits."""
        return self._ranges.get(prefix, EMPTY)

    def places(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Place and 8 bytes of hash of each entry in the range, in order."""
        if len(prefix) == DEPTH:
            for place in sorted(self._leaves.get(prefix, ())):
                yield place, self._entries[place].hash.to_bytes(16, "big")[:8]
        elif prefix in self._ranges:
            for digit in "0123456789abcdef":
                yield from self.places(prefix + digit)

    def at(self, places: Iterable[str]) -> dict[str, Value]:
        """The values at these places; those that have none are left out."""
        found = (self._entries.get(place) for place in places)
        return {entry.key: entry.value for entry in found if entry is not None}


def place_of(key: str) -> str:
    """Where a key lies: 16 hex digits."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=PLACE_DIGITS // 2).hexdigest()


def _hash(key: str, value: Value) -> int:
    return int.from_bytes(blake2b(_encoder.encode((key, value)), digest_size=16).digest(), "big")


def _fits(value: Value) -> bool:
    """No joined value is larger than one that can be sent."""
    return len(_encoder.encode(value)) <= JOINED_BYTES_MAX
