"""The journal on disk."""

import sqlite3

import msgspec
import pytest

from actors.errors import SetupMissing
from actors.migration.journal import KEEP_PROGRESS, KEY_S, Journal
from actors.migration.messages import JobEvent, Progress
from actors.migration.states import Job, Side, State
from actors.migration.views import view


def job(name="m-1", **more):
    return Job(
        id=name, guest="web", source="a", target="b", pause_budget_ms=300, **({"created_at": 1.0, "since": 1.0} | more)
    )


def event(seq, of, kind="state"):
    return JobEvent(seq=seq, at=float(seq), kind=kind, job=view(of, Progress()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "migrations.sqlite"


@pytest.fixture
def journal(path):
    with_file = Journal(path)
    yield with_file
    with_file.close()


def test_what_was_saved_is_there_after_a_crash(path, journal):
    before = job(state=State.ROLLING_BACK, owed=frozenset({Side.TARGET}), error="link-down", error_fields={"node": "a"})
    journal.save(before, Progress(wire_bytes=7), [event(1, before)])
    # A second one on the same file, the first never closed: as after kill -9.
    other = Journal(path)
    assert [(record.job, record.progress.wire_bytes) for record in other.unsettled()] == [(before, 7)]
    assert other.last_seq("m-1") == 1
    other.close()


def test_is_durable_and_strict(path, journal):
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert all("STRICT" in sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE type = 'table'"))
    db.close()


def test_job_and_events_are_written_together(journal):
    journal.save(job(), Progress(), [event(1, job())])
    with pytest.raises(sqlite3.IntegrityError):
        journal.save(job(state=State.PERFORM), Progress(), [event(1, job())])
    assert journal.get("m-1").job.state is State.BEGIN


def test_settled_jobs_are_no_work(journal):
    journal.save(job("m-1", state=State.FAILED, owed=frozenset({Side.TARGET})), Progress(), [])
    journal.save(job("m-2", state=State.COMPLETED), Progress(), [])
    assert [record.job.id for record in journal.unsettled()] == ["m-1"]


def test_newest_first(journal):
    for n in range(5):
        journal.save(job(f"m-{n}", created_at=float(n)), Progress(), [])
    assert [record.job.id for record in journal.newest(3)] == ["m-4", "m-3", "m-2"]


def test_a_key_lives_for_a_day(journal):
    journal.save(job(key="k", created_at=1000.0), Progress(), [])
    assert journal.by_key("k", 1000.0 + KEY_S - 1).job.id == "m-1"
    assert journal.by_key("k", 1000.0 + KEY_S + 1) is None
    assert journal.by_key("other", 1000.0) is None


def test_events_after_a_cursor(journal):
    journal.save(job(), Progress(), [event(n, job()) for n in range(1, 6)])
    assert [each.seq for each in journal.events("m-1", after=3)] == [4, 5]
    assert journal.events("m-9", after=0) == []
    assert journal.last_seq("m-9") == 0


def test_old_progress_is_forgotten_states_are_not(journal):
    journal.save(job(), Progress(), [event(1, job())])
    for n in range(2, 2 * KEEP_PROGRESS + 2):
        journal.save(job(), Progress(), [event(n, job(), "progress")])
    kept = journal.events("m-1", after=0)
    assert [each.kind for each in kept].count("progress") == KEEP_PROGRESS
    assert kept[0].seq == 1
    assert kept[-1].seq == 2 * KEEP_PROGRESS + 1


def test_a_newer_file_is_refused(path, journal):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SetupMissing, match="version 99"):
        Journal(path)


def test_jobs_of_later_fields_are_readable(journal):
    """A field that a newer version added does not stop an older one from reading its jobs."""
    raw = msgspec.to_builtins(job())
    raw["new_field"] = 1
    assert msgspec.convert(raw, Job) == job()
