"""Pages of the audit trail, out of what a member keeps of it: its store's table, the state, and what is between."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from actors.control.audit import GENESIS, first_fault
from actors.control.messages import TrailEntry, TrailPage, TrailQuery
from actors.control.model import Audit, ControlState

LOOKED_MAX = 2000
"""Entries that one page looks at; those of a guest may be few among them."""
_TAG = "do"


def moves_of(state: ControlState, guest: str) -> frozenset[str]:
    """The moves of `guest` that the state still knows: their later entries name only the move."""
    return frozenset(job.id for job in state.jobs.values() if job.guest == guest)


def page(query: TrailQuery, kept: Iterable[Audit], count: int, moves: frozenset[str] = frozenset()) -> TrailPage:
    """One page.

    Args:
        query: what is asked for.
        kept: what is known of the entries from number `query.after` on (that one as well, so that the next is seen to
            follow it), in any order, some more than once.
        count: how many entries there are in all.
        moves: of the guest that is asked for.
    """
    # What was added since `count` was read belongs to the next page.
    known = {entry.number: entry for entry in kept if query.after <= entry.number <= count}
    before = known.pop(query.after, None)
    subjects = {query.guest, *moves}
    looked: list[Audit] = []
    shown: list[TrailEntry] = []
    for number in sorted(known)[:LOOKED_MAX]:
        if len(shown) == query.limit:
            break
        entry = known[number]
        looked.append(entry)
        body = _body(entry)
        if entry.subject == query.guest and entry.command == "beginmove":
            subjects.add(str(body["job"]))
        if entry.index > query.since and (not query.guest or entry.subject in subjects):
            shown.append(_shown(entry, body))
    upto = looked[-1].number if looked else max(query.after, count)
    return TrailPage(
        entries=shown,
        count=count,
        upto=upto,
        missing=max(0, upto - query.after - len(looked)),
        fault=next(_faults(before, looked, query.after), 0),
    )


def _faults(before: Audit | None, entries: list[Audit], after: int) -> Iterator[int]:
    """Numbers of entries that do not follow from the one before them, where that one is known."""
    link = GENESIS if after == 0 else before.link if before else None
    number = after
    for entry in entries:
        known = link if entry.number == number + 1 else None
        if known is not None and first_fault([entry], before=known) is not None:
            yield entry.number
        link, number = entry.link, entry.number


def _body(entry: Audit) -> dict[str, Any]:
    """The command's fields, {} where it was too long to be kept."""
    fields = msgspec.msgpack.decode(entry.body, type=dict[str, Any]) if entry.body else {}
    fields.pop(_TAG, None)
    return fields


def _shown(entry: Audit, body: dict[str, Any]) -> TrailEntry:
    return TrailEntry(
        number=entry.number,
        revision=entry.index,
        at_ms=entry.at_ms,
        by=entry.by,
        command=entry.command,
        subject=entry.subject,
        detail=entry.detail,
        body=body,
        link=entry.link.hex(),
    )
