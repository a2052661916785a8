"""The connection to this node's libvirtd: opened when needed, again after libvirtd went away; with events."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import libvirt
import libvirt_qemu
import structlog

from actors.errors import HypervisorDown, NovaCronError
from actors.hypervisor.engine.states import connection_lost, error_of

log = structlog.get_logger()
_Result = TypeVar("_Result")
# A hung libvirtd frees the threads that wait for it after (count + 1) * interval.
_ALIVE_INTERVAL_S, _ALIVE_COUNT = 5, 3
_LOOP_TICK_MS = 1000
_loop_lock = threading.Lock()
_loop_running = False


class OnEvent(Protocol):
    """Called in libvirt's event thread for QEMU's STOP and RESUME, and COMPLETED when a migration has.

    `at` is Unix time by QEMU's own clock.
    """

    def __call__(self, guest: str, event: str, at: float) -> None: ...


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread of this process; it must be there before the first connection."""
    global _loop_running
    with _loop_lock:
        if _loop_running:
            return
        # libvirt-python prints every error on stderr unless it is told not to; ours are raised.
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()
        libvirt.virEventAddTimeout(_LOOP_TICK_MS, lambda *_: None, None)
        threading.Thread(target=_run_events, name="libvirt events", daemon=True).start()
        _loop_running = True


def _run_events() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("libvirt event loop", error=str(error))


class Connection:
    """Blocking; use it from threads. Several threads may use it at once.

    Args:
        uri: of the node's own libvirtd.
        node: named in errors.
        on_event: see `OnEvent`.
    """

    def __init__(self, uri: str, node: str, on_event: OnEvent) -> None:
        self.uri = uri
        self.node = node
        self._on_event = on_event
        self._lock = threading.Lock()
        self._connection: Any = None

    def use(self, action: Callable[[Any], _Result], guest: str = "") -> _Result:
        """Run `action` on a live virConnect; `guest` is whom it is about.

        Raises:
            HypervisorDown: libvirtd can't be reached.
            NovaCronError: what libvirt's error stands for, with its code.
        """
        connection = self._live()
        try:
            return action(connection)
        except libvirt.libvirtError as error:
            translated = translate(error, self.node, guest)
            if isinstance(translated, HypervisorDown):
                self._forget(connection)
            raise translated from error

    def domain(self, name: str, action: Callable[[Any], _Result]) -> _Result:
        """Run `action` on the virDomain called `name`; errors as `use`, GuestUnknown when it is not there."""
        return self.use(lambda connection: action(connection.lookupByName(name)), name)

    def _live(self) -> Any:
        with self._lock:
            if self._connection is not None and self._connection.isAlive():
                return self._connection
            start_event_loop()
            self._connection = None
            try:
                self._connection = self._open()
            except libvirt.libvirtError as error:
                raise HypervisorDown(node=self.node, reason=str(error)) from error
            return self._connection

    def _open(self) -> Any:
        connection = libvirt.open(self.uri)
        with contextlib.suppress(libvirt.libvirtError):  # the test driver has none
            connection.setKeepAlive(_ALIVE_INTERVAL_S, _ALIVE_COUNT)
        libvirt_qemu.qemuMonitorEventRegister(
            connection,
            None,
            "^(STOP|RESUME|MIGRATION)$",
            self._event,
            None,
            libvirt_qemu.VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX,
        )
        log.info("connected to libvirt", uri=self.uri)
        return connection

    def _event(
        self, _connection: Any, domain: Any, event: str, seconds: int, micros: int, details: Any, _opaque: Any
    ) -> None:
        if event == "MIGRATION":
            if not details or '"completed"' not in details:
                return
            event = "COMPLETED"
        try:
            self._on_event(domain.name(), event, seconds + micros / 1e6)
        except (OSError, NovaCronError) as error:
            log.warning("QEMU event lost", event_name=event, error=str(error))

    def _forget(self, connection: Any) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None


def translate(error: Any, node: str, guest: str = "") -> NovaCronError:
    """The error of our tree for a libvirtError."""
    return error_of(node, guest, str(error), error.get_error_code() or 0, error.get_error_domain() or 0)


def is_lost(error: Any) -> bool:
    """True when libvirtd could not be reached, so that nothing is known about what was asked."""
    return connection_lost(error.get_error_code() or 0, error.get_error_domain() or 0)
