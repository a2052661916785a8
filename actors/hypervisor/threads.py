"""Blocking calls in threads, each with a deadline, so that a hung daemon never stalls the actor."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from actors.errors import DeadlineExceeded

_Result = TypeVar("_Result")
_THREADS = 16


class Threads:
    """A pool of its own: libvirt's hung calls must not use up asyncio's."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="hypervisor")

    async def run(self, what: str, deadline_s: float, work: Callable[[], _Result]) -> _Result:
        """The result of `work`, which goes on in its thread when the deadline passes.

        Raises:
            DeadlineExceeded: it took longer than `deadline_s`.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            async with asyncio.timeout(deadline_s):
                return await future
        except TimeoutError as error:
            raise DeadlineExceeded(what=what, deadline_s=deadline_s) from error
