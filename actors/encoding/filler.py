"""Fills a node's store with the pages of a job's ring, in the background and behind the stream."""

import os
import threading
from collections.abc import Callable

import numpy as np
import structlog

from actors.encoding.kernel import PAGE_WORDS, Bytes, Words, copy_page, kernel
from actors.encoding.pages import FILLED, PageRing, is_zero
from actors.encoding.store import Store

log = structlog.get_logger()

EVERY_S = 1.0
NICE = 15
BATCH_PAGES = 256
HALF = 0.5


@kernel
def take_new(ring: PageRing, taken: Bytes, seen: Bytes, start: int, pages: Words, rested: bool) -> tuple[int, int]:
    """Copy pages that were written since they were last taken, from slot `start` on; (next slot, how many).

    `rested`: only those that were the same when they were last `seen`; the others are going to change again. The stream
    may go on meanwhile: a page that changes under the copy is a page like any other.
    """
    count = 0
    slot = start
    while slot < ring.state[FILLED] and count < len(pages):
        write = ring.writes[slot]
        if taken[slot] != write and (seen[slot] == write or not rested):
            taken[slot] = write
            copy_page(pages[count], ring.pages[slot])
            if not is_zero(pages[count]):
                count += 1
        seen[slot] = write
        slot += 1
    return slot, count


class Filler:
    """Fills `store` from the ring of one job; while the job runs only into free slots, for it may refer to the others.

    Args:
        ring: the job's ring, None as long as it has none.
    """

    def __init__(self, job: str, store: Store, ring: Callable[[], PageRing | None]) -> None:
        self._job = job
        self._store = store
        self._ring = ring
        self._taken = self._seen = np.empty(0, np.uint8)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{job}-fill", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """The job is over: what is left goes into the store, in the background."""
        self._ended.set()

    def join(self, patience_s: float) -> None:
        """Wait until all is in the store, `patience_s` at most."""
        self._thread.join(patience_s)

    def _run(self) -> None:
        # Behind the streams and the guests: nothing waits for this thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        kept = 0
        try:
            while not self._ended.wait(EVERY_S):
                # Pages stay in the ring until it is full: before, they can wait until the guest has moved.
                if self._fullness() >= HALF:
                    kept += self._pass(evicts=False)
            kept += self._pass(evicts=True)
        except OSError as error:
            log.warning("the store is not filled any further", job=self._job, reason=str(error))
        log.info("store filled", job=self._job, blocks=kept)

    def _fullness(self) -> float:
        """The ring's share that holds pages."""
        ring = self._ring()
        return int(ring.state[FILLED]) / len(ring.pages) if ring is not None else 0.0

    def _pass(self, *, evicts: bool) -> int:
        ring = self._ring()
        if ring is None:
            return 0
        if not len(self._taken):
            self._taken, self._seen = np.zeros((2, len(ring.pages)), np.uint8)
        pages = np.empty((BATCH_PAGES, PAGE_WORDS), np.uint64)
        slot = kept = 0
        while slot < ring.state[FILLED] and (evicts or self._store.free > BATCH_PAGES):
            slot, count = take_new(ring, self._taken, self._seen, slot, pages, not evicts)
            kept += self._store.add(pages[:count], evicts=evicts)
        return kept


def warm_up() -> None:
    """Compile or load the kernel."""
    nothing = np.zeros(1, np.uint8)
    take_new(PageRing.of(1), nothing, nothing, 0, np.empty((1, PAGE_WORDS), np.uint64), True)
