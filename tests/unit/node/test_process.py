"""A host's node as a process: claims, starts in the background, and ends, with real processes that play a node."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.errors import BootFailed, Conflict, DeadlineExceeded, Failed
from actors.node.process import claimed, find, read_status, start, stop

# Claims the directory and lives as `KIND` says.
PLAYER = """
import os, signal, sys, threading
from pathlib import Path
import msgspec
from actors.boot.status import BootStatus, ComponentStatus
from actors.files import write_atomically
from actors.node.process import STATUS_FILE, claimed

run_dir, kind = Path(sys.argv[1]), sys.argv[2]

def say(phase, *components):
    ready, parts = phase == "ready", list(components)
    status = BootStatus(phase=phase, ready=ready, elapsed_s=1.0, sequential_s=1.0, components=parts)
    write_atomically(run_dir / STATUS_FILE, msgspec.json.encode(status), 0o644)

def part(name, state, reason=""):
    return ComponentStatus(name=name, phase="core", criticality="critical", state=state, reason=reason)

print("the player of", kind, flush=True)
if kind == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with claimed(run_dir):
    if kind == "mute":
        sys.exit("it fell over")
    if kind == "fails":
        parts = [part("log", "stopped"), part("security", "failed", "cancelled"), part("store", "failed", "disk full")]
        say("halted", *parts)
        sys.exit(7)
    say("core" if kind == "slow" else "ready")
    threading.Event().wait()
"""
DEADLINE_S = 30.0


class Host:
    """One host's directories, and the players started in them."""

    def __init__(self, folder: Path) -> None:
        self.run_dir, self.log = folder / "run", folder / "state" / "log" / "node.log"

    def argv(self, kind: str) -> list[str]:
        return [sys.executable, "-c", PLAYER, str(self.run_dir), kind]

    def start(self, kind: str, deadline_s: float = DEADLINE_S) -> int:
        """Start a player that becomes ready; its process number."""
        start(self.argv(kind), self.run_dir, self.log, deadline_s)
        pid = find(self.run_dir)
        assert pid is not None
        return pid


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    stop(host.run_dir, 0.1)
    assert find(host.run_dir) is None


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


def test_a_ready_node_is_found_and_lives_in_a_session_of_its_own(host: Host) -> None:
    pid = host.start("ready")
    assert pid != os.getpid()
    assert os.getsid(pid) == pid
    status = read_status(host.run_dir)
    assert status is not None
    assert status.phase == "ready"
    assert host.log.read_text() == "the player of ready\n"
    assert host.log.stat().st_mode & 0o777 == 0o640


def test_a_node_that_runs_is_not_started_again(host: Host) -> None:
    pid = host.start("ready")
    assert host.start("fails") == pid
    assert host.log.read_text().count("\n") == 1


def test_two_nodes_on_one_host_are_refused(host: Host) -> None:
    host.start("ready")
    second = subprocess.run(host.argv("ready"), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode != 0
    assert "already runs on this host" in second.stderr
    status = read_status(host.run_dir)
    assert status is not None, "the refused one must leave the first one's status alone"


def test_a_failed_start_says_which_component_and_why(host: Host) -> None:
    with pytest.raises(BootFailed, match="store failed to start: disk full") as failure:
        host.start("fails")
    assert failure.value.exit_code == 7
    assert failure.value.fields["rolled_back"] == "log"


def test_a_start_that_ends_without_a_word_shows_the_end_of_its_log(host: Host) -> None:
    with pytest.raises(Failed, match="ends with: it fell over"):
        host.start("mute")


def test_a_slow_start_is_left_alone_at_the_deadline_and_can_be_waited_for_again(host: Host) -> None:
    with pytest.raises(DeadlineExceeded, match="goes on starting"):
        host.start("slow", deadline_s=3.0)
    pid = find(host.run_dir)
    assert pid is not None
    with pytest.raises(DeadlineExceeded):
        host.start("ready", deadline_s=0.3)
    assert find(host.run_dir) == pid


def test_an_earlier_nodes_status_is_not_taken_for_the_new_ones(host: Host) -> None:
    first = host.start("ready")
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert find(host.run_dir) is None
    status = read_status(host.run_dir)
    assert status is not None
    assert status.phase == "ready", "it was killed: nobody took it back"
    with pytest.raises(BootFailed):
        host.start("fails")


def test_stop_ends_it_and_says_how(host: Host) -> None:
    assert stop(host.run_dir, DEADLINE_S) == "not running"
    pid = host.start("ready")
    assert stop(host.run_dir, DEADLINE_S) == "stopped"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert stop(host.run_dir, DEADLINE_S) == "not running"


def test_one_that_ignores_the_request_is_killed(host: Host) -> None:
    pid = host.start("deaf")
    assert stop(host.run_dir, 0.3) == "killed"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_claim_ends_with_its_block_and_removes_an_old_status(tmp_path: Path) -> None:
    (tmp_path / "node-status.json").write_text("{}")
    with pytest.raises(Conflict, match="another version"):
        read_status(tmp_path)
    with claimed(tmp_path):
        assert read_status(tmp_path) is None
    with claimed(tmp_path):
        pass
    assert find(tmp_path) is None


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed, match="file"), claimed(tmp_path / "file"):
        pass
