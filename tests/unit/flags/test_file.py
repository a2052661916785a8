"""The file of flags between a node's process and its actors, and what the watch makes of the members' answers."""

import asyncio
from pathlib import Path

import pytest

from actors.control import follower
from actors.control.decision import Event
from actors.control.messages import Watched
from actors.control.model import Component, Flag
from actors.errors import NoMajority
from actors.flags import file
from actors.flags.effects import EFFECTS
from actors.flags.file import FILE, Switches, read_flags, write_flags
from actors.flags.watch import FlagWatch

KILLED = Flag(component="hde", killed=True)
HALF = Flag(component="hde", percent=50, nodes_off=frozenset({"b"}))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LOOK_S", 0.0)
    monkeypatch.setattr(follower, "AGAIN_S", 0.01)


def test_without_a_file_every_component_is_on(tmp_path: Path) -> None:
    switches = Switches("a", tmp_path)
    assert all(switches.on(component, "x") for component in EFFECTS)


def test_a_change_counts_at_once_and_a_damaged_file_switches_nothing_off(tmp_path: Path) -> None:
    switches = Switches("a", tmp_path)
    assert switches.on("hde", "web")
    write_flags(tmp_path, {"hde": KILLED})
    assert not switches.on("hde", "web")
    assert switches.on("amst", "web")
    write_flags(tmp_path, {"hde": HALF})
    assert {switches.on("hde", f"guest-{number}") for number in range(50)} == {True, False}
    assert not any(switches.on("hde", f"guest-{number}", "b") for number in range(50))
    (tmp_path / FILE).write_bytes(b"{")
    assert read_flags(tmp_path) == {}
    assert switches.on("hde", "web")


def test_what_was_known_holds_over_a_restart(tmp_path: Path) -> None:
    write_flags(tmp_path, {"hde": KILLED})
    assert not Switches("a", tmp_path).on("hde", "web")


def test_every_component_says_what_off_means() -> None:
    assert set(EFFECTS) == set(Component.__args__)


class Members:
    """Answers as the control state does; `away` while no majority answers."""

    def __init__(self) -> None:
        self.known: dict[str, Flag] = {}
        self.events: list[Event] = []
        self.news = asyncio.Event()
        self.away = False
        self.asked = 0

    def set(self, flag: Flag) -> None:
        self.known[flag.component] = flag
        self.events.append(Event(len(self.events) + 1, "flags", flag.component, flag))
        self.news.set()

    async def flags(self, *, deadline_s: float = 15.0) -> dict[str, Flag]:
        self._refuse()
        return dict(self.known)

    async def watch(self, after: int, wait_s: float = 0.0) -> Watched:
        self._refuse()
        found = [event for event in self.events if event.revision > after]
        if not found and wait_s:
            self.news.clear()
            await self.news.wait()
            return await self.watch(after)
        return Watched(events=found, revision=len(self.events))

    def _refuse(self) -> None:
        self.asked += 1
        if self.away:
            raise NoMajority(what="it", deadline_s=1.0, outcome="unknown", reason="cut off")


async def _until(ask, deadline_s: float = 10.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not ask():  # noqa: ASYNC110  any state at all, nothing announces it
            await asyncio.sleep(0.005)


async def test_the_watch_keeps_the_file_and_leaves_it_while_nobody_answers(tmp_path: Path) -> None:
    members = Members()
    members.set(HALF)
    keeper = FlagWatch(members, tmp_path)
    task = asyncio.create_task(keeper.run())
    try:
        await _until(lambda: read_flags(tmp_path) == {"hde": HALF})
        members.set(KILLED)
        await _until(lambda: read_flags(tmp_path) == {"hde": KILLED})
        assert keeper.problem == ""
        members.away = True
        members.news.set()
        await _until(lambda: "cut off" in keeper.problem)
        assert read_flags(tmp_path) == {"hde": KILLED}
        members.away = False
        members.set(HALF)
        await _until(lambda: read_flags(tmp_path) == {"hde": HALF})
        await _until(lambda: keeper.problem == "")
    finally:
        task.cancel()
