"""Pages that the far side was referred to, kept until it has rebuilt their batch: it may ask for them after all."""

import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from actors.encoding.kernel import Ints, Words
from actors.encoding.reverse import Need
from actors.errors import DeadlineExceeded, StreamCorrupt, Unreachable

# As many bytes of pages may be under way. At 50 ms this lets 640 MB/s of references through.
HELD_MAX_BYTES = 32 << 20


class Held(NamedTuple):
    """One batch: where in the stream it begins and ends, the blocks it refers to, and their pages."""

    start: int
    end: int
    numbers: Ints
    pages: Words


class Window:
    """The batches with references that are under way. Filled by one thread, emptied by another."""

    def __init__(self, held_max_bytes: int = HELD_MAX_BYTES) -> None:
        self._changed = threading.Condition()
        self._held: deque[Held] = deque()
        self._bytes = 0
        self._max_bytes = held_max_bytes
        self._stopped = False

    @property
    def held_bytes(self) -> int:
        """Bytes of the pages kept."""
        return self._bytes

    def hold(self, held: Held) -> None:
        """Keep the pages of a batch that is about to be sent."""
        with self._changed:
            self._held.append(held)
            self._bytes += held.pages.nbytes

    def wait_for_room(self, patience_s: float) -> None:
        """Wait until another batch may be encoded.

        Raises:
            DeadlineExceeded: the far side rebuilt none within `patience_s`.
            Unreachable: `stop` was called.
        """
        self._wait(self._max_bytes, patience_s)

    def wait_until_empty(self, patience_s: float) -> None:
        """Wait until every batch has been rebuilt; raises like `wait_for_room`."""
        self._wait(1, patience_s)

    def _wait(self, below_bytes: int, patience_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._stopped or self._bytes < below_bytes, patience_s):
                raise DeadlineExceeded(what="the far side's decoder", deadline_s=patience_s)
            if self._bytes >= below_bytes:
                raise Unreachable(what="the wire: its connection has ended")

    def done(self, offset: int) -> list[Held]:
        """All before `offset` has been rebuilt; the batches that are no longer kept."""
        released: list[Held] = []
        with self._changed:
            while self._held and self._held[0].end <= offset:
                released.append(self._held.popleft())
            self._bytes -= sum(held.pages.nbytes for held in released)
            self._changed.notify_all()
        return released

    def needed(self, need: Need) -> tuple[Ints, Words]:
        """(numbers, pages) of the blocks that are missing.

        Raises:
            StreamCorrupt: no such batch is under way, or it refers to fewer blocks.
        """
        with self._changed:
            held = next((held for held in self._held if held.start == need.offset), None)
        if held is None:
            raise StreamCorrupt(reason=f"pages of a batch at byte {need.offset} were asked for, which is not under way")
        places = np.array(need.places, np.int64) if need.places else np.arange(len(held.numbers))
        if np.any(places >= len(held.numbers)) or np.any(np.diff(places) <= 0):
            raise StreamCorrupt(reason="pages were asked for that the batch does not refer to")
        return held.numbers[places], held.pages[places]

    def stop(self) -> None:
        """Wake up whoever waits, for good."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
