"""Two ways to move a guest: through libvirt, as QEMU's own rivals do, and through NovaCron's API. Both block."""

import threading
import time
import uuid
from contextlib import suppress
from typing import Any, Final, Protocol

import libvirt
import msgspec

from actors.encoding.messages import LayerCount
from actors.errors import NovaCronError
from actors.migration.messages import MoveRequest
from actors.migration.states import ENDED, State
from api.cli.client import Client
from benchmarks.moving import rivals
from benchmarks.moving.rivals import Rival, Tuning

_ABORT_S: Final = 60.0
_POLL_S: Final = 0.2


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a move ended: `at`, Unix seconds, is when it was called done; `failure` is '' if the guest moved.

    `layers`: NovaCron's account of what its encoder did.
    """

    at: float
    failure: str = ""
    layers: dict[str, LayerCount] = {}


class Mover(Protocol):
    """Moves one guest."""

    def __call__(self, guest: str, target: str, deadline_s: float) -> Ended:
        """Move `guest` to the node `target`; give up after `deadline_s` and leave it where it is."""


class LibvirtMover:
    """Asks the source's libvirtd for a peer-to-peer migration.

    Args:
        connection: to the source's libvirtd.
        addresses: of the nodes, by name.
    """

    def __init__(self, connection: Any, addresses: dict[str, str], rival: Rival, tuning: Tuning) -> None:
        self._connection = connection
        self._addresses = addresses
        self._rival = rival
        self._tuning = tuning

    def __call__(self, guest: str, target: str, deadline_s: float) -> Ended:
        """See `Mover`."""
        address = self._addresses[target]
        domain = self._connection.lookupByName(guest)
        domain.migrateSetMaxDowntime(rivals.PAUSE_MS)
        overdue = threading.Timer(deadline_s, _abort, [domain])
        overdue.start()
        ended = threading.Event()
        if self._tuning.raise_after_s:
            threading.Thread(target=_raise, args=(domain, self._tuning.raise_after_s, ended), daemon=True).start()
        began = time.monotonic()
        try:
            domain.migrateToURI3(
                rivals.target_uri(address),
                rivals.params(self._rival, self._tuning, address),
                rivals.flags(self._rival),
            )
            return Ended(at=time.time())
        except libvirt.libvirtError as error:
            late = time.monotonic() - began >= deadline_s
            reason = f"not finished within {deadline_s:g} s, aborted" if late else error.get_error_message()
            return Ended(at=time.time(), failure=reason)
        finally:
            ended.set()
            overdue.cancel()


def _raise(domain: Any, after_s: float, ended: threading.Event) -> None:
    """Allow a longer pause again and again, from `after_s` on until the move has `ended`."""
    began = time.monotonic()
    wait_s = after_s
    while not ended.wait(wait_s):
        with suppress(libvirt.libvirtError):  # it has ended at the same moment
            domain.migrateSetMaxDowntime(rivals.allowed_pause_ms(time.monotonic() - began - after_s))
        wait_s = rivals.RAISE_EVERY_S


def _abort(domain: Any) -> None:
    try:
        domain.abortJob()
    except libvirt.libvirtError as error:
        # The move ended at the same moment: then its own answer counts.
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
            raise


class NovaCronMover:
    """Asks NovaCron's API, as `novacron migrate` does, and waits for the job's end.

    Args:
        api: of the source's site.
    """

    def __init__(self, api: Client) -> None:
        self._api = api

    def __call__(self, guest: str, target: str, deadline_s: float) -> Ended:
        """See `Mover`. The moment of the end is the job's own: node and client share this machine's clock."""
        until = time.monotonic() + deadline_s
        try:
            job = self._api.submit(MoveRequest(guest=guest, to=target, pause_ms=rivals.PAUSE_MS, key=str(uuid.uuid4())))
            while job.state not in ENDED:
                if time.monotonic() > until + _ABORT_S:
                    return Ended(at=time.time(), failure=f"still {job.state} {_ABORT_S:g} s after it was cancelled")
                if time.monotonic() > until:
                    self._api.cancel(job.id)
                time.sleep(_POLL_S)
                job = self._api.job(job.id)
        except NovaCronError as error:
            return Ended(at=time.time(), failure=str(error))
        if job.state == State.COMPLETED:
            return Ended(at=job.ended_at, layers=job.progress.layers)
        return Ended(at=time.time(), failure=job.message or f"the job is {job.state}")
