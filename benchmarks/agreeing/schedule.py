"""Virtual time: what happens when."""

import heapq
from collections.abc import Callable
from typing import Any

Action = Callable[..., None]


class Schedule:
    """Actions in the order of their time, in whole µs; those of the same µs in the order in which they were asked."""

    def __init__(self) -> None:
        self.now_us = 0
        self._queue: list[tuple[int, int, Action, tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay_us: int, action: Action, *arguments: Any) -> None:
        """Do this in `delay_us`."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._count, action, arguments))

    def run(self, until_us: int) -> None:
        """Do all that is due up to `until_us`."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until_us:
            self.now_us, _, action, arguments = pop(queue)
            action(*arguments)
        self.now_us = max(self.now_us, until_us)
