"""The store against the log in memory, a killed writer, flipped bytes, cut files and a full disk."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from actors.consensus.ready import Entry, HardState, Kind, Membership, Ready, Snapshot
from actors.consensus.storage import Compacted, MemoryStorage
from actors.control import snapshot
from actors.control.store import ControlStore
from actors.errors import Failed, SetupMissing, StateCorrupt
from tests.unit.control.kit import three_sites

MEMBERS = Membership((1, 2, 3))
FILES = ("control.sqlite", "control.sqlite-wal", "control.guard")


def entry(at: int, term: int = 1, size: int = 100) -> Entry:
    return Entry(index=at, term=term, payload=random.Random(at * 31 + term).randbytes(size), proof=b"p" * (at % 3))


def contents(store) -> tuple:
    first, last = store.snapshot().index + 1, store.last()
    state = store.state() if isinstance(store, ControlStore) else None
    return store.hard_state(), store.snapshot(), store.entries(first, last) if last >= first else (), state


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "member" / "control.sqlite"


def as_after_a_crash(store_path: Path, to: Path, names=FILES) -> Path:
    """The files as they are now, while the store is open; what was acknowledged is in them."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (store_path.parent / name).exists():
            shutil.copy(store_path.parent / name, to / name)
    return to / store_path.name


# -- the same as in memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_log_in_memory_but_outlives_its_process(path, seed):
    rng = random.Random(seed)
    founders = MEMBERS if seed % 2 else None
    memory = MemoryStorage(founders)
    begins = memory.snapshot()
    store = ControlStore(path, begins)
    term = 1
    for _ in range(12):
        term += rng.random() < 0.3
        base, last = memory.snapshot().index, memory.last()
        what = rng.random()
        if what < 0.15:
            there = Snapshot(index=last + rng.randint(1, 5), term=term, membership=MEMBERS, digest=b"d")
            ready = Ready(snapshot=there, hard_state=HardState(term, 2, there.index))
            store.write(ready, b"state")
            memory.write(ready)
        elif what < 0.3 and last > max(base, 1):
            upto = rng.randint(base + 1, last)
            ready = Ready(hard_state=HardState(term, 1, max(upto, memory.hard_state().commit)))
            store.write(ready)
            memory.write(ready)
            here = Snapshot(index=upto, term=memory.term(upto), membership=MEMBERS)
            store.compact(here, b"compacted")
            memory.compact(here)
        else:
            first = rng.randint(max(base, memory.hard_state().commit) + 1, last + 1)
            new = tuple(entry(at, term) for at in range(first, first + rng.randint(1, 4)))
            ready = Ready(entries=new, hard_state=HardState(term, 1, memory.hard_state().commit, b"x"))
            store.write(ready)
            memory.write(ready)
        assert contents(store)[:3] == contents(memory)[:3]
        if rng.random() < 0.3:
            store.close()
            store = ControlStore(path, begins)
            assert contents(store)[:3] == contents(memory)[:3]
        assert [store.term(at) for at in range(store.snapshot().index, store.last() + 1)] == [
            memory.term(at) for at in range(store.snapshot().index, store.last() + 1)
        ]
        with pytest.raises(Compacted):
            store.entries(store.snapshot().index, store.last())
    store.close()


def test_it_keeps_a_real_state_and_its_trail(path):
    cluster = three_sites()
    store = ControlStore(path)
    last = cluster.state.applied
    store.write(Ready(entries=tuple(entry(at) for at in range(1, last + 1)), hard_state=HardState(1, 1, last)))
    here = Snapshot(index=last, term=1, membership=MEMBERS)
    store.compact(here, snapshot.encode(cluster.state), tuple(cluster.audit))
    store.write(Ready(entries=(entry(last + 1),)))
    store.close()
    store = ControlStore(path)
    assert snapshot.encode(snapshot.decode(store.state())) == snapshot.encode(cluster.state)
    assert store.audit(0) == cluster.audit
    assert store.audit(2, limit=1) == cluster.audit[2:3]
    store.compact(Snapshot(index=last + 1, term=1, membership=MEMBERS), b"later", tuple(cluster.audit))
    assert store.audit(0) == cluster.audit
    store.close()


def test_every_kind_of_entry_comes_back(path):
    store = ControlStore(path)
    kinds = tuple(Entry(index=at, term=1, kind=kind) for at, kind in enumerate(Kind, 1))
    store.write(Ready(entries=kinds))
    store.close()
    assert ControlStore(path).entries(1, len(kinds)) == kinds


# -- crashes --------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from actors.consensus.ready import HardState, Ready, Snapshot, Membership
from actors.control.store import ControlStore
from tests.unit.control.test_store import MEMBERS, entry
store = ControlStore(Path(sys.argv[1]))
at = store.last()
while True:
    at += 1
    store.write(Ready(entries=(entry(at),), hard_state=HardState(1, 1, at)))
    print(at, flush=True)
    if at % 40 == 0:
        store.compact(Snapshot(index=at - 5, term=1, membership=MEMBERS), b"%d" % (at - 5))
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path):
    rng, acknowledged = random.Random(7), 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(rng.randint(1, 90)):
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        # It may have got further before the signal.
        told = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        acknowledged = max([acknowledged, *told])
        store = ControlStore(path)
        assert acknowledged <= store.last() <= acknowledged + 1
        assert store.hard_state().commit == store.last()
        first = store.snapshot().index + 1
        assert store.entries(first, store.last()) == tuple(entry(at) for at in range(first, store.last() + 1))
        assert store.state() == (b"%d" % store.snapshot().index if store.snapshot().index else b"")
        store.close()
    assert acknowledged > 50


def written(path: Path, count: int = 12) -> ControlStore:
    store = ControlStore(path)
    for at in range(1, count + 1):
        store.write(Ready(entries=(entry(at),), hard_state=HardState(1, 1, at)))
    return store


def test_a_torn_end_that_was_not_acknowledged_is_cut(path, tmp_path):
    store = written(path)
    before = contents(store)
    guard = as_after_a_crash(path, tmp_path / "before", names=("control.guard",)).parent / "control.guard"
    wal = path.parent / "control.sqlite-wal"
    size = wal.stat().st_size
    store.write(Ready(entries=(entry(13),)))
    grown = wal.stat().st_size
    assert grown > size, "the log must have been added to, or this test cuts nothing"
    for number, cut in enumerate(range(size, grown, 401)):
        crashed = as_after_a_crash(path, tmp_path / f"cut-{number}")
        shutil.copy(guard, crashed.parent / "control.guard")
        with (crashed.parent / "control.sqlite-wal").open("r+b") as file:
            file.truncate(cut)
        again = ControlStore(crashed)
        assert contents(again) == before
        again.write(Ready(entries=(entry(13),)))
        again.close()
    store.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_write_ahead_log_that_is_damaged_or_cut_short_is_refused(path, tmp_path, seed):
    store = written(path)
    before, rng = contents(store), random.Random(seed)
    refused = 0
    for number in range(6):
        crashed = as_after_a_crash(path, tmp_path / f"crash-{number}")
        wal = crashed.parent / "control.sqlite-wal"
        body = bytearray(wal.read_bytes())
        at = rng.randrange(32, len(body))
        if number % 2:
            body = body[:at]
        else:
            body[at] ^= rng.randint(1, 255)
        wal.write_bytes(body)
        try:
            again = ControlStore(crashed)
        except StateCorrupt as error:
            refused += 1
            assert "control.sqlite" in str(error)
            assert "join again" in error.next_step
            continue
        # What was hit held nothing.
        assert contents(again) == before
        again.close()
    assert refused
    store.close()


def test_no_flipped_byte_goes_unnoticed(path, tmp_path):
    store = written(path, 60)
    before = contents(store)
    store.close()
    rng, refused = random.Random(5), 0
    size = path.stat().st_size
    for number in range(120):
        hit = as_after_a_crash(path, tmp_path / f"flip-{number}")
        with hit.open("r+b") as file:
            file.seek(at := rng.randrange(size))
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ rng.randint(1, 255)]))
        try:
            again = ControlStore(hit)
        except (StateCorrupt, SetupMissing):
            refused += 1
            continue
        assert contents(again) == before
        again.close()
    assert refused > 20


@pytest.mark.parametrize("name", FILES[::2])
def test_a_missing_file_is_not_taken_for_a_new_member(path, name):
    written(path).close()
    (path.parent / name).unlink()
    with pytest.raises(StateCorrupt):
        ControlStore(path)


def test_a_damaged_guard_is_refused_but_one_torn_slot_is_not(path):
    store = written(path)
    before = contents(store)
    store.close()
    guard = path.parent / "control.guard"
    body = bytearray(guard.read_bytes())
    body[13] ^= 1
    guard.write_bytes(body)
    again = ControlStore(path)
    assert contents(again) == before
    again.close()
    guard.write_bytes(b"x" * len(body))
    with pytest.raises(StateCorrupt, match="guard"):
        ControlStore(path)


def test_a_making_that_was_cut_off_is_made_again(path):
    path.parent.mkdir()
    (path.parent / "control.guard").touch()
    path.touch()
    begins = Snapshot(index=1, term=0, membership=MEMBERS)
    store = ControlStore(path, begins)
    assert store.snapshot() == begins
    store.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DELETE FROM entries WHERE at = 5", "entry 6 stands where 5 should"),
        ("DELETE FROM entries WHERE at > 10", "entry 12 is committed, and the log ends at 10"),
        ("UPDATE entries SET term = 2 WHERE at = 3", "checksum of entry 3"),
        ("UPDATE held SET body = x'9401' WHERE name = 'hard-state'", "checksum of its hard-state"),
        ("DELETE FROM held WHERE name = 'snapshot'", "snapshot is missing"),
    ],
)
def test_what_sqlite_finds_in_order_is_still_checked(path, damage, says):
    store = written(path)
    store._db.execute(damage)
    store.close()
    with pytest.raises(StateCorrupt, match=says):
        ControlStore(path)


def test_a_store_has_one_process(path):
    store = written(path)
    with pytest.raises(Failed, match="another process"):
        ControlStore(path)
    store.write(Ready(entries=(entry(13),)))
    store.close()
    ControlStore(path).close()


def test_a_store_of_tomorrow_is_left_alone(path):
    store = written(path)
    store._db.execute("PRAGMA user_version = 9")
    store.close()
    with pytest.raises(SetupMissing, match="version 9"):
        ControlStore(path)


def test_a_full_disk_ends_the_store_and_loses_nothing(path):
    store = written(path)
    before = contents(store)
    store._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Failed, match="full"):
        store.write(Ready(entries=(entry(13, size=1_000_000),), hard_state=HardState(2, 2, 12)))
    assert contents(store) == before
    with pytest.raises(Failed, match="takes no more"):
        store.write(Ready(entries=(entry(13),)))
    store.close()
    again = ControlStore(path)
    assert contents(again) == before
    again.close()


def test_the_callers_mistakes_change_nothing(path):
    store = written(path)
    before = contents(store)
    for bad in (Ready(entries=(entry(20),)), Ready(snapshot=Snapshot(index=0, term=0, membership=MEMBERS))):
        with pytest.raises(AssertionError):
            store.write(bad)
    for here in (Snapshot(index=13, term=1, membership=MEMBERS), Snapshot(index=5, term=9, membership=MEMBERS)):
        with pytest.raises(AssertionError):
            store.compact(here, b"")
    assert contents(store) == before
    store.close()
