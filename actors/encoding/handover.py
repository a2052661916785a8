"""Batches handed from the encoding thread to the writing thread: the only queue on the way, one place long.

Beside it answers to the far side's questions wait for the writer; they go first.
"""

import threading
from collections import deque

from actors.errors import DeadlineExceeded, Unreachable


class Handover:
    """A place for one frame, which stays taken until the frame has been written, and a queue of answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame = b""
        self._answers: deque[bytes] = deque()
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is being written."""
        return not (self._frame or self._answers)

    def put(self, frame: bytes, patience_s: float) -> None:
        """Hand over `frame` once the one before has been written.

        Raises:
            DeadlineExceeded: the one before was not written within `patience_s`.
            Unreachable: the writer has stopped.
        """
        self.drain(patience_s)
        with self._changed:
            self._frame = frame
            self._changed.notify_all()

    def answer(self, frame: bytes) -> None:
        """Have `frame` written as soon as the one that is being written is."""
        with self._changed:
            self._answers.append(frame)
            self._changed.notify_all()

    def drain(self, patience_s: float) -> None:
        """Wait until everything has been written; raises like `put`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._stopped or self.idle, patience_s):
                raise DeadlineExceeded(what="the wire", deadline_s=patience_s)
            if self._stopped:
                raise Unreachable(what="the wire: its connection has ended")

    def take(self) -> bytes:
        """The next frame, waited for; b"" once stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self.idle)
            if self._stopped:
                return b""
            return self._answers[0] if self._answers else self._frame

    def written(self, frame: bytes) -> None:
        """`frame`, as it was taken, has been written."""
        with self._changed:
            if frame is self._frame:
                self._frame = b""
            else:
                self._answers.popleft()
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake up both sides for good."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
