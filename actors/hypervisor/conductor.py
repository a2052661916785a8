"""Conducts the ends of this node's moves: looks at QEMU, the encoder and the far decoder, and sets QEMU's limit."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from actors.errors import GuestUnknown, NotFound, NovaCronError
from actors.hypervisor import qmp
from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.engine.switchover import FLOOR, Arrived, Controller, Limit, Sample
from actors.hypervisor.libvirt_driver import Connection
from actors.hypervisor.messages import Aim, Switchover
from actors.hypervisor.raised import Raised
from actors.hypervisor.senders import Senders
from actors.hypervisor.threads import Threads

log = structlog.get_logger()
# QEMU takes up a new limit ten times a second.
LOOK_S = 0.05
FAR_LOOK_S = 0.4
RETRY_S = 0.5
LOOK_DEADLINE_S = 5.0
_COPYING = "active"
_STOPPED = frozenset({"pre-switchover", "device", "completed"})
_OVER = _STOPPED | {"failed", "cancelling", "cancelled"}


class Conductors:
    """One task for each outgoing move.

    Args:
        connection: to this node's libvirtd.
        threads: in which it is asked.
        senders: ask how far a job's memory has come.
    """

    def __init__(self, connection: Connection, threads: Threads, senders: Senders) -> None:
        self._connection = connection
        self._threads = threads
        self._senders = senders
        self._controllers: dict[str, Controller] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def steer(self, move: JobRecord, aim: Aim) -> None:
        """Conduct `move`, which leaves this node, with this aim, or go on with this aim."""
        known = self._controllers.get(move.job)
        if known is not None:
            known.steer(aim)
            return
        self._controllers[move.job] = controller = Controller(aim)
        self._tasks[move.job] = asyncio.create_task(self._both(move, controller), name=f"conduct {move.job}")

    def seen(self, job: str) -> Switchover | None:
        """How the job's end is seen; None when this process does not conduct it."""
        controller = self._controllers.get(job)
        return controller.seen if controller is not None else None

    def end(self, job: str) -> None:
        """Conduct it no more."""
        self._controllers.pop(job, None)
        task = self._tasks.pop(job, None)
        if task is not None:
            task.cancel()

    async def _both(self, move: JobRecord, controller: Controller) -> None:
        follower = asyncio.create_task(self._follow(move, controller), name=f"follow {move.job}")
        try:
            await self._conduct(move, controller, self._told_of(move))
        finally:
            follower.cancel()

    async def _follow(self, move: JobRecord, controller: Controller) -> None:
        """Keep asking how far the stream has come at the target: a word from there is half a round trip old."""
        while True:
            try:
                got = await self._senders.delivered(move)
                controller.arrived(
                    Arrived(at_s=time.monotonic(), stream_bytes=got.stream_bytes, wire_bytes=got.wire_bytes)
                )
                await asyncio.sleep(LOOK_S if controller.near else FAR_LOOK_S)
            except NotFound:
                # A target of an older version, which has no such method; a job that it does not know fails by itself.
                log.info("the target can't say how far the stream has come", job=move.job)
                controller.blind = True
                await asyncio.sleep(FAR_LOOK_S)
            except NovaCronError as error:
                log.debug("no word from the target", job=move.job, error=str(error))
                await asyncio.sleep(RETRY_S)
            except Exception:
                # A fault of ours must not keep the guest from arriving.
                log.exception("no word from the target", job=move.job)
                controller.blind = True
                await asyncio.sleep(RETRY_S)

    def _told_of(self, move: JobRecord) -> tuple[Raised, Raised]:
        """The transports of both ends, to be told when the move's last pages may come."""
        near = Raised(lambda raised: self._senders.raise_here(move, raised=raised))
        return near, Raised(lambda raised: self._senders.raise_there(move, raised=raised))

    async def _conduct(self, move: JobRecord, controller: Controller, ends: tuple[Raised, Raised]) -> None:
        begun = False
        # A predecessor of this process may have left it raised.
        told: Limit | None = None
        while True:
            try:
                migration = await self._ask(move.guest, qmp.query_migration)
                # Before it begins QEMU still tells of the guest's last migration, if it had one.
                begun = begun or migration.status == _COPYING
                if begun and migration.status in _STOPPED:
                    # Also when it stopped at the floor, with nothing left: device state must not wait either.
                    _want(ends, raised=True)
                if begun and migration.status in _OVER:
                    log.info("the guest's switchover has begun", job=move.job, guest=move.guest, seen=controller.seen)
                    return
                if migration.status == _COPYING:
                    sample = await self._sample(move, migration)
                    limit = controller.take(sample) or (FLOOR if told is None else None)
                    if limit is not None:
                        _want(ends, raised=limit.raised)
                        await self._ask(move.guest, partial(qmp.set_limit, limit=limit))
                        told = limit
                        log.debug("limit", job=move.job, limit=limit, sample=sample, seen=controller.seen)
                await asyncio.sleep(LOOK_S if controller.near else FAR_LOOK_S)
            except GuestUnknown:
                return
            except NovaCronError as error:
                log.debug("no look at the move", job=move.job, error=str(error))
                # What QEMU was told is not known to have arrived: tell it anew.
                told = None
                await asyncio.sleep(RETRY_S)
            except Exception:
                # As above: looked at again, a move goes on.
                log.exception("no look at the move", job=move.job)
                told = None
                await asyncio.sleep(RETRY_S)

    async def _sample(self, move: JobRecord, migration: qmp.Migration) -> Sample:
        ram = migration.ram
        at_s = time.monotonic()
        sent = await self._senders.sent(move)
        return Sample(
            at_s=at_s,
            remaining_bytes=ram.remaining,
            counts=ram.dirty_sync_count,
            dirty_bytes_per_s=float(ram.dirty_pages_rate * ram.page_size),
            stream_bytes=sent.stream_bytes,
            page_bytes=sent.page_bytes,
            wire_bytes=sent.wire_bytes,
        )

    async def _ask(self, guest: str, what: Callable[[Any], Any]) -> Any:
        return await self._threads.run(
            f"the monitor of {guest}", LOOK_DEADLINE_S, lambda: self._connection.domain(guest, what)
        )


def _want(ends: tuple[Raised, Raised], *, raised: bool) -> None:
    for end in ends:
        end.want(raised=raised)
