"""How far a move is and when it will be done: pure arithmetic on figures that others measured."""

from collections import deque

import msgspec

from actors.encoding.messages import CodecStats, add_layers
from actors.hypervisor.messages import MoveStatus
from actors.migration.decisions import known
from actors.migration.eta import Left, time_left
from actors.migration.messages import Progress
from actors.prediction.messages import Forecast

PAGE_BYTES = 4096
WINDOW_S = 10.0
RATE_WINDOW_S = 3.0
PASSES_MIN = 2
LINK_IS_BUSY = 0.7
"""A move that gets less than this share of what the link is expected to carry waits for something else."""


class _Mark(msgspec.Struct, frozen=True):
    """`wire_bytes` of memory, that `guest_bytes` of it became; `sent_bytes` of all."""

    at: float
    sent_bytes: int
    wire_bytes: int
    guest_bytes: int


class Meter:
    """One move's figures over time."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self._last = Progress()
        self._dirty_bytes_per_s = 0.0
        self._counts, self._counted_at = 0, 0.0

    @property
    def last(self) -> Progress:
        """The newest figures."""
        return self._last

    def take(
        self, at: float, status: MoveStatus | None, codec: CodecStats | None, forecast: Forecast | None
    ) -> Progress:
        """Take new figures (None: not to be had this time); the answer is the progress at Unix time `at`."""
        if codec is not None:
            # Pages that the layers settled are guest memory; the stream's own bytes count a zero page as nine.
            # Where there are no layers, what QEMU writes is what crosses.
            pages = sum(layer.pages for layer in codec.layers.values())
            guest_bytes = pages * PAGE_BYTES if codec.layers else codec.stream_bytes
            disks = codec.disks
            sent_bytes = codec.wire_bytes + disks.wire_bytes
            self._marks.append(_Mark(at, sent_bytes, codec.wire_bytes, guest_bytes))
            while self._marks[0].at < at - WINDOW_S:
                self._marks.popleft()
            self._last = msgspec.structs.replace(
                self._last,
                stream_bytes=codec.stream_bytes + disks.stream_bytes,
                wire_bytes=sent_bytes,
                disk_stream_bytes=disks.stream_bytes,
                disk_wire_bytes=disks.wire_bytes,
                round=codec.round if codec.layers or status is None else max(self._last.round, status.iteration),
                layers=add_layers(codec.layers, disks.layers),
                rate_bytes_per_s=self._rate(at),
            )
        if status is not None and (status.memory_total or status.disk_total):
            self._last = msgspec.structs.replace(
                self._last,
                memory_total=status.memory_total,
                memory_remaining=status.memory_remaining,
                disk_total=status.disk_total,
                disk_remaining=status.disk_remaining,
            )
            self._dirty_bytes_per_s = float(status.dirty_pages_per_s * PAGE_BYTES)
            if status.iteration != self._counts:
                self._counts, self._counted_at = status.iteration, at
        eta_s, low_s, high_s = self._eta(forecast)
        self._last = msgspec.structs.replace(self._last, eta_s=eta_s, eta_low_s=low_s, eta_high_s=high_s)
        return self._last

    def _rate(self, at: float) -> float:
        recent = [mark for mark in self._marks if mark.at >= at - RATE_WINDOW_S]
        first, last = recent[0], recent[-1]
        return (last.sent_bytes - first.sent_bytes) / (last.at - first.at) if last.at > first.at else 0.0

    def _eta(self, forecast: Forecast | None) -> tuple[float, float, float]:
        """(expected, low, high) seconds, -1 where nothing is known."""
        nothing = (-1.0, -1.0, -1.0)
        ratio = self._ratio()
        if not self._last.memory_total or ratio is None:
            return nothing
        link = known(forecast)
        own = self._last.rate_bytes_per_s
        if link is not None:
            rates = (link.mean, max(link.low, 1.0), link.high)
        elif own > 0:
            # Nothing is known of the link but what this move got from it: it may have been half or twice of that.
            rates = (own, own / 2, own * 2)
        else:
            return nothing
        again = self._counts >= PASSES_MIN
        dirty = self._dirty_bytes_per_s * ratio if again else 0.0
        # What QEMU has left falls until it counts again: what it will find then has been written already.
        uncounted_s = self._marks[-1].at - self._counted_at
        return time_left(
            Left(
                wire_bytes=self._remaining(ratio) + dirty * uncounted_s,
                dirty_bytes_per_s=dirty,
                work_s=self._work_s(rates[0]),
                again=again,
            ),
            rates,
        )

    def _work_s(self, link_bytes_per_s: float) -> float:
        """How long what is left takes by what this move lately got done, where the link is not what it waits for."""
        first, last = self._marks[0], self._marks[-1]
        lasted_s = last.at - first.at
        if lasted_s <= 0 or self._last.rate_bytes_per_s > LINK_IS_BUSY * link_bytes_per_s:
            return 0.0
        done = last.guest_bytes - first.guest_bytes
        return self._last.memory_remaining / (done / lasted_s) if done > 0 else 0.0

    def _ratio(self) -> float | None:
        """Wire bytes per byte of guest memory: lately, else over the whole move; None before the first byte."""
        if not self._marks or not self._marks[-1].guest_bytes:
            return None
        first, last = self._marks[0], self._marks[-1]
        lately = last.guest_bytes - first.guest_bytes
        return (last.wire_bytes - first.wire_bytes) / lately if lately > 0 else last.wire_bytes / last.guest_bytes

    def _remaining(self, ratio: float) -> float:
        last = self._last
        copied_bytes = last.disk_total - last.disk_remaining
        # Disks that have no codec cross as they are.
        disk_ratio = last.disk_wire_bytes / copied_bytes if copied_bytes > 0 and last.disk_wire_bytes else 1.0
        return last.memory_remaining * ratio + last.disk_remaining * disk_ratio
