"""libvirt's peer-to-peer migration, run in a thread of its own: the call returns when the move is over."""

import threading
from collections.abc import Callable

import libvirt
import structlog

from actors.hypervisor import qmp
from actors.hypervisor.engine.switchover import FLOOR
from actors.hypervisor.libvirt_driver import is_lost, start_event_loop
from actors.hypervisor.messages import JobPaths, StartMove

log = structlog.get_logger()
# libvirtd itself talks to its peer (P2P): it finishes or rolls back also when this process dies.
_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
)
CONNECTIONS = 4
"""QEMU's parallel streams of a native move; each is one of its threads at both ends, and one channel between."""
OnEnd = Callable[[str, str, int], None]


def peer_uri(paths: JobPaths) -> str:
    """The target's libvirtd as the source's libvirtd reaches it: through the job's own socket."""
    return f"qemu+unix:///system?socket={paths.libvirt}"


def parameters(request: StartMove, paths: JobPaths) -> tuple[dict[str, object], int]:
    """The typed parameters and flags of ``virDomainMigrateToURI3``. libvirt wants UNIX sockets as unix:///path."""
    assert paths.ram.startswith("/")
    found: dict[str, object] = {libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{paths.ram}"}
    flags = _FLAGS
    if request.path == "native":
        flags |= libvirt.VIR_MIGRATE_PARALLEL
        found[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = CONNECTIONS
    if request.copy_disks:
        flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
        found[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(request.copy_disks)
        found[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] = f"unix://{paths.nbd}"
    return found, flags


class Moves:
    """The moves that this process has asked libvirt for and whose calls have not returned.

    Args:
        uri: of the node's own libvirtd.
        on_end: called in the move's thread with job, libvirt's message ('' when it succeeded) and its code.
    """

    def __init__(self, uri: str, on_end: OnEnd) -> None:
        self._uri = uri
        self._on_end = on_end
        self._lock = threading.Lock()
        self._calling: set[str] = set()

    def calling(self, job: str) -> bool:
        """True while the call for `job` has not returned."""
        with self._lock:
            return job in self._calling

    def start(self, request: StartMove, paths: JobPaths) -> None:
        """Begin in a thread; returns at once."""
        with self._lock:
            self._calling.add(request.job)
        threading.Thread(target=self._move, args=(request, paths), name=f"move {request.job}", daemon=True).start()

    def _move(self, request: StartMove, paths: JobPaths) -> None:
        message, code = "", 0
        try:
            self._call(request, paths)
            log.info("libvirt's move is done", job=request.job, guest=request.guest)
        except libvirt.libvirtError as error:
            message, code = str(error), error.get_error_code() or 0
            log.warning(
                "libvirt's move failed", job=request.job, guest=request.guest, error=message, lost=is_lost(error)
            )
        finally:
            self._on_end(request.job, message, code)
            with self._lock:
                self._calling.discard(request.job)

    def _call(self, request: StartMove, paths: JobPaths) -> None:
        start_event_loop()
        # A connection of its own: one that others drop after an error must not take the move's call with it.
        connection = libvirt.open(self._uri)
        try:
            domain = connection.lookupByName(request.guest)
            # It must not stop before the conductor says so.
            qmp.set_limit(domain, FLOOR)
            found, flags = parameters(request, paths)
            domain.migrateToURI3(peer_uri(paths), found, flags)
        finally:
            connection.close()
