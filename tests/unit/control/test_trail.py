"""Pages of the audit trail: whole, in order, and nothing is changed unseen."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.control import trail
from actors.control.commands import BeginMove, CommitMove, SetPolicy, StopGuest
from actors.control.messages import TrailQuery
from actors.errors import BodyInvalid
from tests.unit.control.kit import Cluster


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    made = Cluster()
    for node in ("a", "b"):
        made.joined(node)
    for guest in ("web", "db"):
        made.running(guest, "a")
    made.done(BeginMove(job="j1", guest="web", target="b", epoch=made.state.guests["web"].epoch))
    made.ask(CommitMove(job="j1"))
    made.done(StopGuest(guest="db", epoch=made.state.guests["db"].epoch), by="node:a")
    for number in range(30):
        made.done(SetPolicy(name=f"p{number}", value="x"))
    return made


def read(entries, count, **asked) -> tuple[list[int], int, int]:
    """Every page, one after the other: the numbers shown, how many are missing, the first fault."""
    shown, missing, faults, after = [], 0, [], 0
    while True:
        query = TrailQuery(after=after, **asked)
        page = trail.page(query, entries, count)
        shown += [entry.number for entry in page.entries]
        missing, after = missing + page.missing, page.upto
        faults += [page.fault] if page.fault else []
        if after >= count:
            return shown, missing, next(iter(faults), 0)


@given(limit=st.integers(1, 9), seed=st.integers(0, 99))
def test_pages_show_every_entry_once_from_wherever_it_is_kept(cluster, limit, seed) -> None:
    entries = [*cluster.audit, *random.Random(seed).sample(cluster.audit, 7)]
    random.Random(seed).shuffle(entries)
    count = len(cluster.audit)
    assert read(entries, count, limit=limit) == (list(range(1, count + 1)), 0, 0)


@given(limit=st.integers(1, 9), changed=st.integers(0, 20))
def test_a_changed_entry_is_found_also_at_the_edge_of_a_page(cluster, limit, changed) -> None:
    entries = list(cluster.audit)
    entries[changed] = msgspec.structs.replace(entries[changed], by="operator:eve")
    assert read(entries, len(entries), limit=limit)[2] == entries[changed].number


@given(limit=st.integers(1, 9), gone=st.sets(st.integers(0, 25), min_size=1))
def test_what_a_member_does_not_have_is_counted_and_is_no_fault(cluster, limit, gone) -> None:
    entries = [entry for at, entry in enumerate(cluster.audit) if at not in gone]
    numbers = [entry.number for entry in entries]
    assert read(entries, len(cluster.audit), limit=limit) == (numbers, len(gone), 0)


def test_what_was_added_while_a_page_was_made_is_left_to_the_next(cluster) -> None:
    page = trail.page(TrailQuery(), cluster.audit, len(cluster.audit) - 2)
    assert [entry.number for entry in page.entries] == list(range(1, page.count + 1))
    assert page.upto == page.count


def test_a_guests_entries_are_its_own_and_those_of_its_moves(cluster) -> None:
    query = TrailQuery(guest="web")
    page = trail.page(query, cluster.audit, len(cluster.audit))
    assert [entry.command for entry in page.entries] == ["defineguest", "startguest", "beginmove"]
    begun = page.entries[-1]
    assert begun.body == {"job": "j1", "guest": "web", "target": "b", "epoch": page.entries[1].revision}
    later = trail.page(
        TrailQuery(guest="db", since=page.entries[1].revision), cluster.audit, len(cluster.audit),
        trail.moves_of(cluster.state, "db"),
    )  # fmt: skip
    assert [entry.command for entry in later.entries] == ["defineguest", "startguest", "stopguest"]
    assert trail.moves_of(cluster.state, "web") == {"j1"}


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 501}, {"after": -1}])
def test_what_can_not_be_asked_is_refused(asked) -> None:
    with pytest.raises(BodyInvalid):
        TrailQuery(**asked)
