"""Looks at a move from outside, the same for every system: QEMU's events, libvirt's statistics, the line's counters."""

import functools
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import libvirt
import libvirt_qemu
import msgspec

from actors.errors import HypervisorFailed
from actors.lab.line import Line
from benchmarks.moving.switchover import Seen, completed_at

_POLL_S: Final = 0.05
_JOIN_S: Final = 10.0


@functools.cache
def _event_loop() -> None:
    """libvirt's event loop, once per process and before its first connection."""
    libvirt.virEventRegisterDefaultImpl()
    # Its errors come as exceptions, too; by default it also writes them over the progress on standard error.
    libvirt.registerErrorHandler(lambda *_: None, None)

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, name="libvirt events", daemon=True).start()


def connect(node: str, uri: str) -> Any:
    """A connection to the libvirtd of `node`.

    Raises:
        HypervisorFailed: it does not answer.
    """
    _event_loop()
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise failed(node, error) from error


def failed(node: str, error: Any) -> HypervisorFailed:
    """`error` of libvirt on `node` as one of ours."""
    return HypervisorFailed(node=node, message=error.get_error_message(), libvirt_code=error.get_error_code())


class Monitor:
    """Collects the monitor events of every guest on the given nodes while it is entered.

    Args:
        connections: libvirt connections by node.
    """

    def __init__(self, connections: Mapping[str, Any]) -> None:
        self._connections = connections
        self._registered: list[tuple[Any, int]] = []
        self._events: list[tuple[str, Seen]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for node, connection in self._connections.items():
            number = libvirt_qemu.qemuMonitorEventRegister(connection, None, None, self._take, node, 0)
            self._registered.append((connection, number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, number in self._registered:
            libvirt_qemu.qemuMonitorEventDeregister(connection, number)

    def of(self, guest: str, since: float) -> list[Seen]:
        """The events of `guest` with time stamps from `since` on, Unix seconds."""
        with self._lock:
            return [seen for name, seen in self._events if name == guest and seen.at >= since]

    def _take(self, _: Any, domain: Any, event: str, seconds: int, micros: int, details: str | None, node: str) -> None:
        seen = Seen(node=node, event=event, at=seconds + micros / 1e6, details=details or "")
        with self._lock:
            self._events.append((domain.name(), seen))


class SourceStats:
    """Follows the source's own account of a move: its QEMU is gone moments after it has told its downtime.

    Args:
        domain: the guest at the source; `guest`, `node`: its name and where that is.
        begin: Unix time of the request.
    """

    def __init__(self, domain: Any, guest: str, node: str, monitor: Monitor, begin: float) -> None:
        self._domain = domain
        self._guest = guest
        self._node = node
        self._monitor = monitor
        self._begin = begin
        self._done = threading.Event()
        self._downtime_ms: float | None = None
        self._thread = threading.Thread(target=self._follow, name=f"statistics of {guest}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(_JOIN_S)

    @property
    def downtime_ms(self) -> float | None:
        """Downtime as the source's QEMU has it after its migration had completed; None if it was gone too fast."""
        return self._downtime_ms

    def _follow(self) -> None:
        while not self._done.wait(_POLL_S):
            asked_at = time.time()
            try:
                stats = self._domain.jobStats()
            except libvirt.libvirtError:
                continue  # no job yet, or the guest has just left
            completed = completed_at(self._monitor.of(self._guest, self._begin), self._node)
            # Before that moment the same field holds an estimate.
            if completed is not None and completed < asked_at and "downtime" in stats:
                self._downtime_ms = float(stats["downtime"])


class TargetStats(msgspec.Struct, frozen=True, kw_only=True):
    """libvirt's statistics of a move that has ended, as the target has them; None: not told."""

    rounds: int | None = None
    downtime_ms: float | None = None


def target_stats(connection: Any, guest: str) -> TargetStats:
    """What the target's libvirt says of the move that brought `guest`."""
    kept = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    try:
        stats = connection.lookupByName(guest).jobStats(kept)
    except libvirt.libvirtError:
        return TargetStats()
    return TargetStats(rounds=stats.get("memory_iteration"), downtime_ms=stats.get("downtime"))


class LineCount(msgspec.Struct, frozen=True, kw_only=True):
    """IP bytes that left a line at its far ends, towards the target and back, and packets that its queues dropped."""

    forth_bytes: int
    back_bytes: int
    queue_drops: int

    def since(self, before: "LineCount") -> "LineCount":
        """What came after `before`."""
        return LineCount(
            forth_bytes=self.forth_bytes - before.forth_bytes,
            back_bytes=self.back_bytes - before.back_bytes,
            queue_drops=self.queue_drops - before.queue_drops,
        )


def count(line: Line, from_a: bool) -> LineCount:
    """The counters of `line`; `from_a`: the source lies at its first site."""
    state = line.state()
    forth, back = (state.ab, state.ba) if from_a else (state.ba, state.ab)
    return LineCount(
        forth_bytes=forth.out_bytes, back_bytes=back.out_bytes, queue_drops=forth.queue_drops + back.queue_drops
    )
