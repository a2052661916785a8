"""The keeper's loop with a host that is played, and as a process."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from actors.config.schema import Config
from actors.errors import HypervisorDown
from actors.keeper import start
from actors.keeper.__main__ import Keeper
from actors.keeper.engine import Order, Running
from actors.keeper.files import LOCK_FILE, NOTE_FILE, ORDER_FILE, boot_id, now_ms, read_note, write_order
from actors.locks import hold, holder, signal_holder

DEADLINE_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


class PlayedHost:
    """Guests that can be paused, unless libvirt is away."""

    def __init__(self) -> None:
        self.running = {"1": "a", "2": "b"}
        self.away = False
        self.ended = 0

    def look(self) -> tuple[list[Running], set[str]]:
        if self.away:
            raise HypervisorDown(node="n", reason="away")
        return [Running(name, uuid) for uuid, name in self.running.items()], {"arriving"}

    def pause(self, guests: list[Running]) -> str:
        for guest in guests:
            del self.running[guest.uuid]
        return ""

    def end_incoming(self, transient: set[str]) -> None:
        self.ended += len(transient)


def ordered(in_ms: float, lease: int = 1, answered: int = 0) -> Order:
    return Order(boot=boot_id(), lease=lease, pause_at_ms=now_ms() + in_ms, answered=answered)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[PlayedHost]:
    host = PlayedHost()
    write_order(tmp_path, ordered(in_ms=1e7))
    keeper = Keeper(tmp_path, tmp_path, host)
    thread = threading.Thread(target=keeper.run, daemon=True)
    thread.start()
    yield host
    write_order(tmp_path, None)
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "with no lease and no node it ends"


def test_guests_are_paused_at_the_deadline_and_noted(tmp_path: Path, host: PlayedHost) -> None:
    write_order(tmp_path, ordered(in_ms=50))
    until(lambda: not host.running and host.ended > 0)
    assert [(paused.guest, paused.lease) for paused in read_note(tmp_path).paused] == [("a", 1), ("b", 1)]
    host.running["3"] = "started afterwards"
    until(lambda: not host.running)
    write_order(tmp_path, ordered(in_ms=1e7, lease=2, answered=2))
    until(lambda: [paused.guest for paused in read_note(tmp_path).paused] == ["started afterwards"])
    host.running["1"] = "a"
    write_order(tmp_path, ordered(in_ms=50, lease=2, answered=3))
    until(lambda: [(paused.guest, paused.lease) for paused in read_note(tmp_path).paused] == [("a", 2)])


def test_a_libvirt_that_is_away_is_asked_again(tmp_path: Path, host: PlayedHost) -> None:
    host.away = True
    write_order(tmp_path, ordered(in_ms=0))
    until(lambda: "away" in read_note(tmp_path).trouble)
    host.away = False
    until(lambda: not host.running and not read_note(tmp_path).trouble)


def test_an_order_that_can_not_be_read_pauses(tmp_path: Path) -> None:
    """A keeper that was just started can't know for how long guests may run."""
    (tmp_path / ORDER_FILE).write_bytes(b"{")
    (tmp_path / NOTE_FILE).write_bytes(b"{")
    host = PlayedHost()
    thread = threading.Thread(target=Keeper(tmp_path, tmp_path, host).run, daemon=True)
    thread.start()
    until(lambda: not host.running)
    write_order(tmp_path, None)
    thread.join(DEADLINE_S)
    assert [paused.number for paused in read_note(tmp_path).paused] == [1, 2]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    node = {"name": "n", "run_dir": tmp_path / "run", "state_dir": tmp_path / "state", "libvirt_uri": "test:///default"}
    sites = {"sites": [{"name": "s", "nodes": [{"name": "n", "address": "127.0.0.1"}]}]}
    for folder in ("run", "state"):
        (tmp_path / folder).mkdir()
    return Config.model_validate({"node": node, "topology": sites})


def test_one_keeper_in_a_session_of_its_own_that_ends_when_nothing_is_to_keep(config: Config) -> None:
    lock = config.node.run_dir / LOCK_FILE
    write_order(config.node.state_dir, ordered(in_ms=1e7))
    start.ensure(config, DEADLINE_S)
    pid = holder(lock)
    assert pid is not None
    assert os.getsid(pid) == pid
    start.ensure(config, DEADLINE_S)
    assert holder(lock) == pid, "one that runs is left alone"
    assert signal_holder(lock, signal.SIGKILL)
    until(lambda: not start.alive(config))
    start.ensure(config, DEADLINE_S)
    assert holder(lock) not in (None, pid)
    write_order(config.node.state_dir, None)
    until(lambda: not start.alive(config))


def test_signals_go_to_nobody_when_the_lock_is_free(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") is None
    assert not signal_holder(tmp_path / "lock", signal.SIGKILL)
    os.close(hold(tmp_path / "lock"))
    assert holder(tmp_path / "lock") is None


def test_the_order_is_a_small_file_that_eyes_can_read(tmp_path: Path) -> None:
    write_order(tmp_path, Order(boot="b", lease=3, pause_at_ms=None))
    found = msgspec.json.decode((tmp_path / ORDER_FILE).read_bytes())
    assert found == {"boot": "b", "lease": 3, "pause_at_ms": None, "answered": 0}
