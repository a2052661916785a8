"""The history checker: V1 to V5 of a run, and that what was acknowledged is there. Pure.

It believes what QEMU told of itself and what the members agreed on, and reads the latter with code of its own.
"""

from collections import Counter
from collections.abc import Iterator

from actors.control.messages import TrailEntry
from benchmarks.surviving.history import NEVER, History, Span, spans
from benchmarks.surviving.owners import Owners

LATE_MS = 1500.0
"""That a QEMU is gone is seen so much later than it was, at most: its process ends, libvirt notices and tells."""


def faults(history: History) -> list[str]:
    """What was broken, in words with the invariant's number; nothing in a good history."""
    executed = spans(history.seen)
    trail = max(history.trails.values(), key=len, default=[])
    owners = Owners(trail)
    return [
        *_once(executed),
        *(f"V3: {fault}" for fault in owners.faults),
        *_same(history.trails),
        *_owned(executed, owners),
        *_leased(executed, owners),
        *_booted(history, owners),
        *_acknowledged(history, trail),
        *_verdicts(history, owners, trail),
    ]


def margins_ms(history: History) -> dict[str, float]:
    """Of each node whose lease ended by time while guests executed there: by how much the last of them was paused
    before it ended, at the worst."""
    owners = Owners(max(history.trails.values(), key=len, default=[]))
    found: dict[str, float] = {}
    for gap in owners.gaps:
        if gap.decreed or not gap.begin_ms:
            continue
        ends = [span.end_ms for span in spans(history.seen) if span.node == gap.node and span.begin_ms < gap.begin_ms]
        if ends and gap.begin_ms - max(ends) < 60_000:
            found[gap.node] = min(found.get(gap.node, NEVER), gap.begin_ms - max(ends))
    return found


def _least_end(span: Span) -> float:
    """Until when it executed for certain."""
    return span.end_ms if span.exact else max(span.begin_ms, span.end_ms - LATE_MS)


def _once(executed: list[Span]) -> Iterator[str]:
    """V1: at no instant two QEMUs execute one guest."""
    for place, one in enumerate(executed):
        for other in executed[place + 1 :]:
            if one.guest == other.guest and other.begin_ms < _least_end(one):
                yield f"V1: {one.guest} executed on {one.node} and on {other.node} at once, at {other.begin_ms:.0f}"


def _same(trails: dict[str, list[TrailEntry]]) -> Iterator[str]:
    """V3: the members agree on every entry that two of them have."""
    agreed: dict[int, tuple[str, TrailEntry]] = {}
    for member, trail in sorted(trails.items()):
        for entry in trail:
            first, known = agreed.setdefault(entry.number, (member, entry))
            if known.link != entry.link:
                yield f"V3: {first} and {member} do not agree on entry {entry.number}"


def _owned(executed: list[Span], owners: Owners) -> Iterator[str]:
    """V3: a guest executes only where the agreed state lets it."""
    for span in executed:
        holds = [each for each in owners.holds if (each.guest, each.node) == (span.guest, span.node)]
        if not any(each.begin_ms <= span.begin_ms and _least_end(span) <= each.end_ms for each in holds):
            yield (
                f"V3: {span.guest} executed on {span.node} from {span.begin_ms:.0f} to {span.end_ms:.0f},"
                f" which had it {[(each.begin_ms, each.end_ms) for each in holds]}"
            )


def _leased(executed: list[Span], owners: Owners) -> Iterator[str]:
    """V1: nothing executes on a node whose lease may have been given up on."""
    for gap in owners.gaps:
        if gap.decreed:
            continue
        for span in executed:
            if span.node == gap.node and span.begin_ms < gap.end_ms and gap.begin_ms < _least_end(span):
                yield (
                    f"V1: {span.guest} executed on {span.node} from {span.begin_ms:.0f} to {span.end_ms:.0f}, which"
                    f" held no lease from {gap.begin_ms:.0f} to {gap.end_ms:.0f}"
                )


def _booted(history: History, owners: Owners) -> Iterator[str]:
    """V5: a guest is started from nothing only as often as that was granted."""
    booted = Counter((event.guest, event.node) for event in history.seen if event.kind == "booted")
    for (guest, node), count in sorted(booted.items()):
        if count > owners.granted.get((guest, node), 0):
            yield f"V5: {guest} was started {count} times on {node}, granted {owners.granted.get((guest, node), 0)}"


def _acknowledged(history: History, trail: list[TrailEntry]) -> Iterator[str]:
    """V3: what was acknowledged is in the trail, as often as it was."""
    there = {(entry.command, entry.subject, entry.revision) for entry in trail}
    counted = Counter((entry.command, entry.subject) for entry in trail)
    asked = Counter((told.command, told.subject) for told in history.told)
    for told in history.told:
        if told.revision and (told.command, told.subject, told.revision) not in there:
            yield f"V3: {told.command} of {told.subject} was acknowledged in entry {told.revision}, which is not there"
    for (command, subject), count in sorted(asked.items()):
        if counted[command, subject] < count:
            there_too = counted[command, subject]
            yield f"V3: {command} of {subject} was acknowledged {count} times and stands there {there_too} times"


def _verdicts(history: History, owners: Owners, trail: list[TrailEntry]) -> Iterator[str]:
    """V4: the manager, and with it both nodes, ended each move as it was agreed on."""
    ends = {entry.body.get("job") for entry in trail if entry.command in {"endmove", "voidmove"}}
    for ended in history.ended:
        move = owners.moves.get(ended.job)
        if move is None:
            if ended.completed:
                yield f"V4: {ended.job} completed and was never agreed on"
            continue
        if ended.completed != move.committed:
            yield f"V4: {ended.job} ended {'completed' if ended.completed else 'failed'}, committed: {move.committed}"
        if ended.job not in ends:
            yield f"V4: the end of {ended.job} was never agreed on"
        if ended.owner and ended.owner != (move.target if move.committed else move.source):
            yield f"V4: {ended.job} says that {ended.owner} has {ended.guest}, which was not agreed on"
