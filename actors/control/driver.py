"""Runs a member's shell on an event loop: ticks from the clock, writes in a thread, questions with deadlines."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from actors.control.model import ControlState, Result
from actors.control.shell import Shell
from actors.control.waiting import Undecided
from actors.errors import NoMajority

log = structlog.get_logger()
_AGAIN_S = 0.05
_ATTEMPT_S = 2.0
NOT_DONE, UNKNOWN = "not done", "unknown"
_Told = TypeVar("_Told")


def now_ms() -> float:
    """CLOCK_BOOTTIME, which also counts suspension."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000


class Driver:
    """The event loop's side of one member.

    Args:
        shell: only used from the loop's thread, except a job's `run`.
        tick_s: of the shell.
        on_tick: called with the time after each tick.
    """

    def __init__(self, shell: Shell, tick_s: float, on_tick: Callable[[float], None]) -> None:
        self.shell = shell
        self._tick_s, self._on_tick = tick_s, on_tick
        self._stirred = asyncio.Event()
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Drive the shell until it fails.

        Raises:
            Failed: the disk refuses.
            SetupMissing: newer rules were put in force than this program knows.
        """
        with ThreadPoolExecutor(1, "state-disk") as disk:
            ticking = asyncio.create_task(self._tick())
            try:
                while True:
                    await self._once(disk)
                    if ticking.done():
                        ticking.result()
            finally:
                ticking.cancel()

    def stir(self) -> None:
        """The shell was told something."""
        self._stirred.set()

    async def submit(self, entry: bytes, what: str, deadline_s: float) -> Result:
        """Have `entry` agreed on; it is sent again until the time is up, so it must be one that may be repeated.

        Raises:
            NoMajority: the time is up.
        """
        loop = asyncio.get_running_loop()
        until, doubt, why = loop.time() + deadline_s, False, ""
        while (left_s := until - loop.time()) > 0:
            told: asyncio.Future[Result | Undecided] = loop.create_future()
            key = self.shell.submit(entry, _into(told))
            self.stir()
            try:
                async with asyncio.timeout(min(left_s, _ATTEMPT_S)):
                    answer = await told
            except TimeoutError:
                self.shell.forget(key)
                answer = Undecided("no answer came", doubt=True)
            if isinstance(answer, Result):
                return answer
            doubt, why = doubt or answer.doubt, answer.why
            await asyncio.sleep(min(_AGAIN_S, max(0.0, until - loop.time())))
        raise NoMajority(what=what, deadline_s=round(deadline_s, 3), outcome=UNKNOWN if doubt else NOT_DONE, reason=why)

    async def fresh(self, what: str, deadline_s: float) -> ControlState:
        """The state, once it shows all that was committed when this was asked; to be read before the next `await`.

        Raises:
            NoMajority: the time is up.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        while (left_s := until - loop.time()) > 0:
            told: asyncio.Future[int] = loop.create_future()
            key = self.shell.read(now_ms(), _into(told))
            self.stir()
            try:
                async with asyncio.timeout(min(left_s, _ATTEMPT_S)):
                    index = await told
            except TimeoutError:
                self.shell.forget(key)
                index = 0
            # A snapshot may have taken the place of the state that was told of, never with less.
            if index and self.shell.replica.state.applied >= index:
                return self.shell.replica.state
            await asyncio.sleep(min(_AGAIN_S, max(0.0, until - loop.time())))
        leader = self.shell.core.leader
        why = f"member {leader} leads and does not answer" if leader else "no leader is known here"
        raise NoMajority(what=what, deadline_s=round(deadline_s, 3), outcome=UNKNOWN, reason=why)

    async def news(self, revision: int, wait_s: float) -> None:
        """Return when the state's revision is above `revision`, or after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while self.shell.replica.state.revision <= revision:
                    await asyncio.shield(self._news)
        except TimeoutError:
            return

    async def _once(self, disk: ThreadPoolExecutor) -> None:
        revision = self.shell.replica.state.revision
        job = self.shell.pump(now_ms())
        if job is None:
            self._tell(revision)
            await self._stirred.wait()
            self._stirred.clear()
            return
        await asyncio.get_running_loop().run_in_executor(disk, job.run)
        self.shell.finished(job, now_ms())
        self._tell(revision)

    def _tell(self, revision: int) -> None:
        if self.shell.replica.state.revision != revision and not self._news.done():
            self._news.set_result(None)
            self._news = asyncio.get_running_loop().create_future()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            # What waits to be taken in goes first: after a stop of the loop it says that the others are there.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            now = now_ms()
            if self.shell.pass_time(now):
                self._on_tick(now)
                self.stir()


def _into(future: asyncio.Future[_Told]) -> Callable[[_Told], None]:
    def told(answer: _Told) -> None:
        if not future.done():
            future.set_result(answer)

    return told
