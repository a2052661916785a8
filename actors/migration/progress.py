"""How far a move is and when it will be done: pure arithmetic on figures that others measured."""

from collections import deque

import msgspec

from actors.encoding.messages import CodecStats, add_layers
from actors.hypervisor.messages import MoveStatus
from actors.migration.messages import Progress
from actors.prediction.messages import Forecast

PAGE_BYTES = 4096
WINDOW_S = 10.0
RATE_WINDOW_S = 3.0


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
        eta_s, low_s, high_s = self._eta(forecast)
        self._last = msgspec.structs.replace(self._last, eta_s=eta_s, eta_low_s=low_s, eta_high_s=high_s)
        return self._last

    def _rate(self, at: float) -> float:
        recent = [mark for mark in self._marks if mark.at >= at - RATE_WINDOW_S]
        first, last = recent[0], recent[-1]
        return (last.sent_bytes - first.sent_bytes) / (last.at - first.at) if last.at > first.at else 0.0

    def _eta(self, forecast: Forecast | None) -> tuple[float, float, float]:
        """(expected, low, high) seconds: remaining bytes × measured ratio ÷ forecast, at both ends of both ranges."""
        if not self._last.memory_total or not self._marks:
            return -1.0, -1.0, -1.0
        ratios = self._ratios()
        if not ratios:
            return -1.0, -1.0, -1.0
        if forecast is not None and forecast.samples and forecast.mean > 0:
            rate, slow, fast = forecast.mean, max(forecast.low, 1.0), forecast.high
        elif self._last.rate_bytes_per_s > 0:
            # Nothing is known of the link but what this move got from it: it may have been half or twice of that.
            rate = self._last.rate_bytes_per_s
            slow, fast = rate / 2, rate * 2
        else:
            return -1.0, -1.0, -1.0
        low_s = self._remaining(min(ratios)) / fast
        high_s = self._remaining(max(ratios)) / slow
        return min(max(self._remaining(ratios[-1]) / rate, low_s), high_s), low_s, high_s

    def _ratios(self) -> list[float]:
        """Wire bytes per byte of guest memory: over the whole move and, last, lately (the better guess of the two)."""
        first, last = self._marks[0], self._marks[-1]
        if not last.guest_bytes:
            return []
        ratios = [last.wire_bytes / last.guest_bytes]
        lately = last.guest_bytes - first.guest_bytes
        if lately > 0:
            ratios.append((last.wire_bytes - first.wire_bytes) / lately)
        return ratios

    def _remaining(self, ratio: float) -> float:
        last = self._last
        copied_bytes = last.disk_total - last.disk_remaining
        # Disks that have no codec cross as they are.
        disk_ratio = last.disk_wire_bytes / copied_bytes if copied_bytes > 0 and last.disk_wire_bytes else 1.0
        return last.memory_remaining * ratio + last.disk_remaining * disk_ratio
