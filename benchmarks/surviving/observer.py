"""Sees from outside of NovaCron when which QEMU of a lab executes: by the events that each libvirtd passes on."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import libvirt
import libvirt_qemu

from benchmarks.moving.probe import connect
from benchmarks.surviving.history import Kind, Seen

_MONITOR: Mapping[str, Kind] = {"STOP": "stop", "RESUME": "resume"}


class Observer:
    """Collects events of every guest while it is entered.

    Args:
        uris: of the nodes' libvirtds.
    """

    def __init__(self, uris: Mapping[str, str]) -> None:
        self._uris = uris
        self._connections: list[Any] = []
        self._seen: list[Seen] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        for node, uri in self._uris.items():
            connection = connect(node, uri)
            self._connections.append(connection)
            libvirt_qemu.qemuMonitorEventRegister(connection, None, None, self._monitor, node, 0)
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle, node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()

    @property
    def seen(self) -> list[Seen]:
        """Everything so far."""
        with self._news:
            return list(self._seen)

    def wait(self, guest: str, node: str, kind: Kind, after: int, deadline_s: float) -> bool:
        """Wait for an event among those after the first `after`; false when it did not come in time."""

        def there() -> bool:
            found = self._seen[after:]
            return any((one.guest, one.node, one.kind) == (guest, node, kind) for one in found)

        with self._news:
            return self._news.wait_for(there, deadline_s)

    def _monitor(self, _: Any, domain: Any, event: str, seconds: int, micros: int, __: Any, node: str) -> None:
        if event in _MONITOR:
            self._add(node, domain.name(), _MONITOR[event], seconds * 1e3 + micros / 1e3)

    def _lifecycle(self, _: Any, domain: Any, event: int, detail: int, node: str) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self._add(node, domain.name(), "gone", time.time() * 1e3)
        elif event == libvirt.VIR_DOMAIN_EVENT_STARTED and detail == libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED:
            self._add(node, domain.name(), "booted", time.time() * 1e3)

    def _add(self, node: str, guest: str, kind: Kind, at_ms: float) -> None:
        with self._news:
            self._seen.append(Seen(node=node, guest=guest, kind=kind, at_ms=at_ms))
            self._news.notify_all()
