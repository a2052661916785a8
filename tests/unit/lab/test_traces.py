"""The journals, the lock and the removal of what is on the machine; in directories of the tests' own."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from actors.errors import Conflict, NotFound
from actors.lab import traces
from actors.lab.journal import Entry, Journal
from actors.lab.plan import LabPlan, decode_plan, make_plan
from actors.lab.processes import HOLDER_VARIABLE, LAB_VARIABLE, end_all, is_of, processes_of
from actors.lab.topology import default_topology
from actors.lab.traces import exclusive, make_state_dir, owned, ranges_of_labs, remove_lab, shared_journal

ID = "fedcba9876543210fedcba9876543210"


@pytest.fixture
def plan(tmp_path: Path) -> LabPlan:
    """A lab in directories of this test's own; nothing of it is built."""
    return make_plan(default_topology("trial"), ID, 77, "wanlink", tmp_path / "state", tmp_path / "run")


def test_journal_gives_back_what_was_recorded_and_forgets_a_line_cut_short(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.entries() == []
    entries = [Entry(kind="directory", name="/a"), Entry(kind="interface", name="nv0")]
    for entry in entries:
        journal.record(entry)
    assert journal.entries() == entries
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"kind":"direc')
    assert Journal(tmp_path / "journal.jsonl").entries() == entries


def make(plan: LabPlan) -> None:
    """Make the lab's state directory and let go of it."""
    with exclusive(plan.state_dir.parent):
        os.close(make_state_dir(plan))


def test_state_directory_comes_with_its_plan_and_goes_whole(plan: LabPlan) -> None:
    root = plan.state_dir.parent
    make(plan)
    (plan.run_dir / "london-1").mkdir(parents=True)
    assert decode_plan((plan.state_dir / "plan.json").read_bytes()) == plan
    assert ranges_of_labs(root) == ["10.77.1.0/24", "10.77.2.0/24"]
    remove_lab(plan)
    assert not root.exists()
    assert not plan.run_dir.exists()


def test_shared_directories_go_with_the_last_lab_and_only_if_empty(plan: LabPlan, tmp_path: Path) -> None:
    root = plan.state_dir.parent
    mine, used = tmp_path / "mine", tmp_path / "used"
    make(plan)
    with exclusive(root):
        (root / "another").mkdir()
        for directory in (mine, mine / "inner", used):
            shared_journal(root).record(Entry(kind="directory", name=str(directory)))
            directory.mkdir()
    (used / "file").touch()
    remove_lab(plan)
    assert (mine / "inner").exists(), "another lab still has something mounted there"
    with exclusive(root):
        (root / "another").rmdir()
    assert not mine.exists()
    assert used.exists()
    assert not root.exists()


def test_a_lab_at_work_is_not_taken_down(plan: LabPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_OWN_LOCK_S", 0.2)
    with exclusive(plan.state_dir.parent):
        building = make_state_dir(plan)
    with pytest.raises(Conflict, match="at work on lab 'trial'"), owned(plan):
        pass
    os.close(building)
    with owned(plan):
        remove_lab(plan)
    with pytest.raises(NotFound), owned(plan):
        pass


def test_halves_of_state_directories_are_swept(plan: LabPlan) -> None:
    root = plan.state_dir.parent
    for half in (".trial.new", ".old.gone"):
        (root / half / "nodes").mkdir(parents=True)
    with exclusive(root):
        assert sorted(path.name for path in root.iterdir()) == ["lock"]
    assert not root.exists()


def test_one_at_a_time(plan: LabPlan) -> None:
    root = plan.state_dir.parent
    order: list[str] = []

    def second() -> None:
        with exclusive(root):
            order.append("second")

    waiting = threading.Thread(target=second)
    with exclusive(root):
        waiting.start()
        order.append("first")
    waiting.join(timeout=20)
    assert order == ["first", "second"]


def test_only_marked_processes_are_ended() -> None:
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]

    def start(marks: dict[str, str]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(command, env={**os.environ, **marks}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    ours = start({LAB_VARIABLE: ID, HOLDER_VARIABLE: "node-x"})
    others = start({LAB_VARIABLE: ID[::-1]})
    try:
        (found,) = processes_of(ID)
        assert (found.pid, found.holder) == (ours.pid, "node-x")
        assert is_of(ours.pid, ID)
        assert not is_of(others.pid, ID)
        assert end_all(ID, 10.0) == 1
        assert ours.wait(timeout=10) == -9
        assert others.poll() is None
        assert end_all(ID, 10.0) == 0
    finally:
        for process in (ours, others):
            process.kill()
            process.communicate()
