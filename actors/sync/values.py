"""Values that can be joined in any order, any number of times, and end up the same (Shapiro et al., 2011; deltas:
Almeida et al., 2018).

`join(a, b)` is commutative, associative and idempotent, and never less than either. What a writer does gives a *delta*,
itself a small value: joined to the value it was made from, or to any later one, it has the full effect.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from actors.sync.clock import Stamp

VALUE_BYTES_MAX = 4096
SAMPLE_BYTES_MAX = 64
SERIES_KEPT = 60
ELEMENTS_MAX = 1024
WRITERS_MAX = 1024
DOTS_MAX = 4096

Writer = Annotated[str, Meta(min_length=1, max_length=80)]
Natural = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Payload = Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)]
Element = Annotated[str, Meta(min_length=1, max_length=128)]


class Register(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """The newest write wins. None: it was removed, and says so to older writes until it is forgotten."""

    stamp: Stamp
    value: Payload | None


class Counter(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """Each writer's own ups and downs, which only grow."""

    ups: Annotated[dict[Writer, Natural], Meta(max_length=WRITERS_MAX)] = {}
    downs: Annotated[dict[Writer, Natural], Meta(max_length=WRITERS_MAX)] = {}

    @property
    def total(self) -> int:
        """Ups less downs."""
        return sum(self.ups.values()) - sum(self.downs.values())

    def add(self, writer: str, by: int) -> "Counter":
        """The delta of `by` more (or fewer, if negative) by `writer`."""
        if by > 0:
            return Counter(ups={writer: self.ups.get(writer, 0) + by})
        return Counter(downs={writer: self.downs.get(writer, 0) - by}) if by else Counter()


class Sample(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One measurement."""

    stamp: Stamp
    value: Annotated[bytes, Meta(max_length=SAMPLE_BYTES_MAX)]


class Series(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """The newest `SERIES_KEPT` samples, oldest first."""

    samples: Annotated[tuple[Sample, ...], Meta(min_length=1, max_length=SERIES_KEPT)]


class Dot(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The name of one addition: a writer's `number`-th to this set."""

    writer: Writer
    number: Positive


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Which additions are known: all of a writer's up to a number, and `extra` ones beyond a gap."""

    upto: Annotated[dict[Writer, Positive], Meta(max_length=WRITERS_MAX)] = {}
    extra: Annotated[frozenset[Dot], Meta(max_length=DOTS_MAX)] = frozenset()

    def __contains__(self, dot: Dot) -> bool:
        return dot.number <= self.upto.get(dot.writer, 0) or dot in self.extra

    def next(self, writer: str) -> Dot:
        """The dot of this writer's next addition."""
        beyond = max((dot.number for dot in self.extra if dot.writer == writer), default=0)
        return Dot(writer, max(beyond, self.upto.get(writer, 0)) + 1)


class Members(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """A set in which an addition wins against a removal that did not know it. Removed elements leave nothing behind but
    `seen`, which is a number per writer once no gaps are left."""

    dots: Annotated[dict[Element, frozenset[Dot]], Meta(max_length=ELEMENTS_MAX)] = {}
    seen: Seen = Seen()

    @property
    def elements(self) -> frozenset[str]:
        """What is in the set."""
        return frozenset(self.dots)

    def add(self, writer: str, element: str) -> "Members":
        """The delta of adding `element`; its earlier additions are replaced by this one."""
        dot, old = self.seen.next(writer), self.dots.get(element, frozenset())
        return Members({element: frozenset({dot})}, _joined_seen(Seen(), Seen(extra=old | {dot})))

    def discard(self, element: str) -> "Members":
        """The delta of removing every addition of `element` that is known here."""
        return Members({}, _joined_seen(Seen(), Seen(extra=self.dots.get(element, frozenset()))))


Value = Register | Counter | Series | Members


def join(a: Value, b: Value) -> Value:
    """The least value that has all of both. Of two kinds the later one in `Value` stands, whatever is in them."""
    match a, b:
        case Register(), Register():
            return max(a, b, key=_register_order)
        case Counter(), Counter():
            return Counter(_larger(a.ups, b.ups), _larger(a.downs, b.downs))
        case Series(), Series():
            return series((*a.samples, *b.samples))
        case Members(), Members():
            return _joined_members(a, b)
        case _:
            return max(a, b, key=_kind_order)


def series(samples: tuple[Sample, ...]) -> Series:
    """The series of these samples, in any order; of two with the same stamp the greater one stands."""
    newest = {sample.stamp: sample for sample in sorted(samples)}
    return Series(tuple(sorted(newest.values())[-SERIES_KEPT:]))


def stamps(value: Value) -> tuple[Stamp, ...]:
    """Oldest and newest stamp in it; none for kinds that have no time."""
    match value:
        case Register():
            return (value.stamp,)
        case Series():
            return (value.samples[0].stamp, value.samples[-1].stamp)
        case _:
            return ()


def within_bounds(value: Value) -> bool:
    """What a type alone can't say: samples in order, no more of anything than may be."""
    match value:
        case Series():
            return value == series(value.samples)
        case Members():
            dots = [dot for found in value.dots.values() for dot in found]
            tidy = _joined_seen(Seen(), value.seen) == value.seen
            return (
                tidy and len(dots) <= DOTS_MAX and all(value.dots.values()) and all(dot in value.seen for dot in dots)
            )
        case Counter():
            return all(value.ups.values()) and all(value.downs.values())
        case _:
            return True


def _register_order(register: Register) -> tuple[Stamp, bool, bytes]:
    # Equal stamps come only from a writer that breaks the rules; even then all end up the same.
    return register.stamp, register.value is None, register.value or b""


def _kind_order(value: Value) -> int:
    return (Register, Counter, Series, Members).index(type(value))


def _larger(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    joined = {writer: max(a.get(writer, 0), b.get(writer, 0)) for writer in a.keys() | b.keys()}
    return {writer: number for writer, number in joined.items() if number}


def _joined_members(a: Members, b: Members) -> Members:
    dots: dict[str, frozenset[Dot]] = {}
    for element in a.dots.keys() | b.dots.keys():
        mine, theirs = a.dots.get(element, frozenset()), b.dots.get(element, frozenset())
        kept = (mine & theirs) | {d for d in mine if d not in b.seen} | {d for d in theirs if d not in a.seen}
        if kept:
            dots[element] = kept
    return Members(dots, _joined_seen(a.seen, b.seen))


def _joined_seen(a: Seen, b: Seen) -> Seen:
    """Both, with gaps closed where the additions between are known."""
    upto = _larger(a.upto, b.upto)
    extra = []
    for dot in sorted(a.extra | b.extra):
        if dot.number == upto.get(dot.writer, 0) + 1:
            upto[dot.writer] = dot.number
        elif dot.number > upto.get(dot.writer, 0):
            extra.append(dot)
    return Seen(upto, frozenset(extra))
