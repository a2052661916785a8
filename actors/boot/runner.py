"""Starts, watches and stops a node's components on asyncio; what to do when is decided by `actors.boot.engine`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import structlog

from actors.boot.component import Component
from actors.boot.engine import (
    Cancel,
    Engine,
    Event,
    Failed,
    GoOnWithout,
    Instruction,
    Interrupted,
    Ready,
    RetryAfter,
    RetryDue,
    RollBack,
    Start,
    Started,
)
from actors.boot.status import BootStatus, Unhealthy
from actors.errors import BootFailed, DeadlineExceeded, NovaCronError

log = structlog.get_logger()
_CLEAN_UP_S = 5.0


class Runner:
    """One start and stop of a set of components.

    Args:
        components: checked at once; `BootFailed` names missing needs and cycles.
        sleep, clock: replaced in tests, so that retries cost no time there.
    """

    def __init__(
        self,
        components: Sequence[Component],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = Engine(components)
        self._components = {component.name: component for component in components}
        self._values: dict[str, Any] = {}
        self._sleep = sleep
        self._clock = clock
        self._began_s: float | None = None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._end: Ready | RollBack | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        """What the components that are up returned, by name."""
        return MappingProxyType(self._values)

    def status(self) -> BootStatus:
        """How far the start is, now."""
        return self._engine.status(self._now_s())

    async def boot(self) -> None:
        """Start everything. Cancelling this call rolls back like a critical failure. Call it once.

        Raises:
            BootFailed: a critical component did not start; whatever had started was stopped again in reverse order.
        """
        assert self._began_s is None, "a runner boots once"
        self._began_s = self._clock()
        interrupted: asyncio.CancelledError | None = None
        self._obey(self._engine.begin())
        while self._end is None:
            try:
                event: Event = await self._events.get()
            except asyncio.CancelledError as error:
                interrupted, event = error, Interrupted(self._now_s())
            self._obey(self._engine.handle(event))
        for task in self._tasks.values():
            task.cancel()  # delays of retries that nobody waits for any more
        if isinstance(self._end, Ready):
            status = self.status()
            log.info("ready", elapsed_s=round(status.elapsed_s, 3), sequential_s=round(status.sequential_s, 3))
            return
        log.error("start halted, rolling back", component=self._end.component, reason=self._end.reason)
        await self.stop()
        if interrupted:
            raise interrupted
        stopped = ", ".join(self._end.names) or "nothing, nothing had started"
        raise BootFailed(component=self._end.component, reason=self._end.reason, rolled_back=stopped)

    async def stop(self) -> None:
        """Stop what is up, dependents before what they need; one that fails or hangs is logged and passed over."""
        for name in self._engine.stop_order():
            component = self._components[name]
            try:
                await _bounded(partial(component.stop, self._values[name]), component.deadline_s, f"stop of {name}")
                log.info("component stopped", component=name)
            except Exception as error:  # noqa: BLE001  one bad stop must not keep the others running
                log.error("component did not stop", component=name, reason=_reason(error))
            self._engine.stopped(name)
            del self._values[name]

    async def check_health(self, deadline_s: float = 2.0) -> list[Unhealthy]:
        """Ask every component that is up, all at once, each for at most `deadline_s`; those that are not well."""
        asked = [self._components[name] for name in self._values]
        told = await asyncio.gather(*(self._ask(component, deadline_s) for component in asked))
        return [answer for answer in told if answer]

    async def _ask(self, component: Component, deadline_s: float) -> Unhealthy | None:
        try:
            health = partial(component.health, self._values[component.name])
            await _bounded(health, deadline_s, f"health of {component.name}")
        except Exception as error:  # noqa: BLE001  whatever it raises is the answer
            return Unhealthy(name=component.name, criticality=component.criticality, reason=_reason(error))
        return None

    def _now_s(self) -> float:
        return 0.0 if self._began_s is None else self._clock() - self._began_s

    def _obey(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Start(name):
                    self._launch(name)
                case RetryAfter(name, delay_s, reason):
                    log.warning("component failed, will be tried again", component=name, reason=reason, after_s=delay_s)
                    self._tasks[name] = asyncio.create_task(self._wake(name, delay_s))
                case GoOnWithout(name, reason):
                    log.warning("going on without component", component=name, reason=reason)
                case Cancel(names):
                    for name in names:
                        self._tasks[name].cancel()
                case RollBack() | Ready():
                    self._end = instruction

    def _launch(self, name: str) -> None:
        component = self._components[name]
        needs = {need: self._values[need] for need in component.needs}

        def report(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                self._events.put_nowait(Failed(name, "cancelled", self._now_s()))
            elif error := task.exception():
                # Our own errors say everything in the reason; of any other, the place where it was raised is the news.
                if not isinstance(error, NovaCronError):
                    log.warning("component raised", component=name, exc_info=error)
                self._events.put_nowait(Failed(name, _reason(error), self._now_s()))
            else:
                self._values[name] = task.result()
                log.info("component up", component=name, phase=component.phase)
                self._events.put_nowait(Started(name, self._now_s()))

        start = _bounded(partial(component.start, needs), component.deadline_s, f"start of {name}")
        self._tasks[name] = asyncio.create_task(start, name=f"start {name}")
        self._tasks[name].add_done_callback(report)

    async def _wake(self, name: str, delay_s: float) -> None:
        await self._sleep(delay_s)
        self._events.put_nowait(RetryDue(name, self._now_s()))


async def _bounded(work: Callable[[], Awaitable[Any]], deadline_s: float, what: str) -> Any:
    """The result of `work`. When the deadline passes or the caller is cancelled, `work` is cancelled and has a few
    seconds to clean up; after that it is left alone, so that nothing waits for ever for one that ignores it.

    Raises:
        DeadlineExceeded: no result within `deadline_s` seconds.
    """
    task = asyncio.ensure_future(work())
    try:
        await asyncio.wait({task}, timeout=deadline_s)
        if task.done():
            return task.result()
        raise DeadlineExceeded(what=what, deadline_s=deadline_s)
    except (asyncio.CancelledError, DeadlineExceeded):
        task.cancel()
        await asyncio.wait({task}, timeout=_CLEAN_UP_S)
        if not task.done():
            log.error("ignores that it was cancelled", what=what, waited_s=_CLEAN_UP_S)
        elif not task.cancelled() and task.exception() is None:
            return task.result()  # it succeeded at the last moment: the caller must know, to use or to undo it
        raise


def _reason(error: BaseException) -> str:
    return str(error) or repr(error)
