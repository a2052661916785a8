"""What the keeper does to this host: asks libvirt who executes, pauses guests, ends incoming moves. Blocking."""

import signal
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import libvirt
import msgspec
import structlog

from actors.errors import NovaCronError
from actors.hypervisor.engine.ledger import Ledger
from actors.hypervisor.libvirt_driver import Connection
from actors.hypervisor.store import LEDGER_FILE
from actors.keeper.carriers import CARRIERS
from actors.keeper.engine import Running
from actors.locks import signal_holder

log = structlog.get_logger()
_STILL = frozenset(
    {libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_PMSUSPENDED}
)
_THREADS = 16
_PAUSES_S = 2.0


class Hands:
    """One host.

    Args:
        uri: its libvirtd.
        node: named in errors.
        run_dir, state_dir: the node's.
    """

    def __init__(self, uri: str, node: str, run_dir: Path, state_dir: Path) -> None:
        self._connection = Connection(uri, node, lambda *_: None)
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pause")

    def look(self) -> tuple[list[Running], set[str]]:
        """The guests that execute, and the names of those that are arriving (not for good yet).

        Raises:
            NovaCronError: libvirtd does not answer.
        """

        def read(connection: Any) -> tuple[list[Running], set[str]]:
            running, transient = [], set()
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                try:
                    if domain.state()[0] not in _STILL:
                        running.append(Running(domain.name(), domain.UUIDString()))
                    elif not domain.isPersistent():
                        transient.add(domain.name())
                except libvirt.libvirtError:  # it has ended since the listing
                    continue
            return running, transient

        return self._connection.use(read)

    def pause(self, guests: list[Running]) -> str:
        """Pause them all at once; what is still not paused and why, '' when all are (or are gone)."""

        def pause(guest: Running) -> None:
            self._connection.use(lambda connection: connection.lookupByUUIDString(guest.uuid).suspend(), guest.guest)

        asked = {self._pool.submit(pause, guest): guest.guest for guest in guests}
        done, hanging = wait(asked, timeout=_PAUSES_S)
        failed = [f"{asked[each]}: {error}" for each in done if isinstance(error := each.exception(), NovaCronError)]
        return "; ".join(sorted([*failed, *(f"{asked[each]}: libvirt does not answer" for each in hanging)]))

    def end_incoming(self, transient: set[str]) -> None:
        """End the moves that bring a guest here, by ending what carries them.

        QEMU then fails to load, or libvirtd loses the source's before its last word and takes the guest away: either
        does so only if the guest has not executed, which nobody from outside could check and act on in one step.
        """
        try:
            ledger = msgspec.json.decode((self._state_dir / LEDGER_FILE).read_bytes(), type=Ledger)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("whether a move brings a guest here is not known", error=str(error))
            return
        arriving = [record.guest for record in ledger.expected() if record.guest in transient]
        if arriving:
            ended = [name for name in CARRIERS if signal_holder(self._run_dir / name, signal.SIGKILL)]
            log.warning("ending moves to this node", guests=arriving, ended=ended)
