"""Who waits to hear that a move's guest executes here. Used in the agent's event loop alone."""

import asyncio
from collections.abc import Callable


class Arrivals:
    """The waiting, by job."""

    def __init__(self) -> None:
        self._waiting: set[tuple[str, asyncio.Event]] = set()

    async def wait(self, job: str, has_arrived: Callable[[], bool], wait_s: float) -> bool:
        """Return as soon as the guest of `job` has, and what is known after `wait_s` seconds at the latest."""
        told = (job, asyncio.Event())
        self._waiting.add(told)
        try:
            # What was told before this was waiting shows in what is known.
            if not has_arrived():
                async with asyncio.timeout(wait_s):
                    await told[1].wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(told)
        return has_arrived()

    def tell(self, job: str) -> None:
        """The guest of `job` executes."""
        for waited_for, event in self._waiting:
            if waited_for == job:
                event.set()
