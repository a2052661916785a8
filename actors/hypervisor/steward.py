"""The guests of this node as the control state has them: epochs before they start, and none runs that is another's."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import structlog

from actors.control.commands import DefineGuest, FailOver, RemoveGuest, StartGuest, StopGuest
from actors.control.model import ControlState, Guest, Run
from actors.control.ownership import Right, Standing, standing
from actors.errors import Conflict, GuestUnknown, NovaCronError, StateRefused
from actors.hypervisor.engine.tenure import DEFINITION_BYTES_MAX, Deed, Here, deed, governed, reason
from actors.hypervisor.epochs import Epochs
from actors.hypervisor.messages import GuestInfo
from actors.hypervisor.tenure import States
from actors.keeper.engine import Note
from actors.keeper.files import read_note

log = structlog.get_logger()
# A guest's start makes three or four such calls, and who asked for it waits.
_ASK_S = 4.0
_LEASE_LOOKS, _LOOK_S = 40, 0.1


class Host(Protocol):
    """What the steward needs of the agent."""

    async def all(self) -> list[GuestInfo]:
        """The guests of this host."""
        ...

    async def definition(self, guest: str) -> str:
        """A guest's XML."""
        ...

    async def pause(self, guest: str) -> None:
        """Pause it."""
        ...

    async def resume(self, guest: str) -> None:
        """Let it run on."""
        ...


class Lease(Protocol):
    """The lease under which the steward acts; `Tenure` is one."""

    @property
    def number(self) -> int:
        """Of the lease, 0 for none."""
        ...

    def may_run(self) -> bool:
        """May guests execute here now?"""
        ...


class Steward:
    """One node's guests.

    Args:
        states: the control state.
        lease: this node's.
        host: this host.
        epochs: what is written down of them.
        node: the node's name.
        state_dir: where the keeper's note lies.
        alone: held while a guest's state on this host must not change under the steward.
    """

    def __init__(
        self,
        states: States,
        lease: Lease,
        host: Host,
        epochs: Epochs,
        *,
        node: str,
        state_dir: Path,
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._states = states
        self._lease = lease
        self._host = host
        self._epochs = epochs
        self._node = node
        self._by = f"node:{node}"
        self._state_dir = state_dir
        self._alone = alone
        self._cleared: dict[str, int] = {}
        self.withheld: dict[str, str] = {}
        """Guests that must not run here, and why."""

    # -- before a guest starts, and after it has stopped -------------------------------------------------------------

    async def grant(self, guest: str, definition: str) -> None:
        """Have an epoch for `guest`, written down, before it is started here.

        Raises:
            Conflict: another node owns it, or a move has it, or this node holds no lease.
            NoMajority, StateRefused: the control state does not grant it.
        """
        if not governed(guest):
            return
        await self.lease_held()
        record = await self._defined(guest, definition)
        if record.run is Run.RUNNING and (record.node != self._node or record.job):
            holder = f"move {record.job} has it" if record.job else f"{record.node} owns it"
            raise Conflict(detail=f"guest {guest} can't start on {self._node}: {holder}")
        epoch = record.epoch
        if record.run is Run.STOPPED:
            start = StartGuest(guest=guest, node=self._node, epoch=record.epoch)
            epoch = (await self._states.submit(start, by=self._by, deadline_s=_ASK_S)).number
        await asyncio.to_thread(self._epochs.put, guest, epoch)

    async def record_of(self, guest: str) -> Guest:
        """The guest as it was agreed on; raises `GuestUnknown`."""
        return await self._states.guest(guest, deadline_s=_ASK_S)

    async def take_over(self, record: Guest, by: str, reason: str) -> str:
        """Own the guest `record`, of another node or of nobody, before it is booted here; what is lost, in words.

        Raises:
            StateRefused: nothing proves or decrees that nobody else runs it, or it is not as in `record` any more.
        """
        await self.lease_held()
        if record.run is Run.STOPPED:
            start = StartGuest(guest=record.name, node=self._node, epoch=record.epoch)
            done = await self._states.submit(start, by=by, deadline_s=_ASK_S)
            detail = f"{record.name} was stopped, and boots from its disks"
        else:
            order = FailOver(guest=record.name, to=self._node, epoch=record.epoch, reason=reason)
            done = await self._states.submit(order, by=by, deadline_s=_ASK_S)
            detail = done.detail
        await asyncio.to_thread(self._epochs.put, record.name, done.number)
        return detail

    async def may_resume(self, guest: str) -> None:
        """Raises `Conflict` with the reason when a paused guest of this host may not run on now."""
        if not governed(guest):
            return
        if not self._lease.may_run():
            raise Conflict(detail=f"{self._node} holds no lease now, so its guests stay paused: see `novacron cluster`")
        if self._cleared.get(guest) == self._lease.number:
            # Read under this lease, which nobody takes over before it has ended.
            return
        right, epoch = await self._states.standing(guest, self._node, deadline_s=_ASK_S)
        if right is not Right.RUN or self._epochs.of(guest) not in (0, epoch):
            record = await self._states.guest(guest, deadline_s=_ASK_S)
            here = Here(guest, "paused", "", self._epochs.of(guest), kept=False)
            raise Conflict(detail=f"guest {guest} may not run on {self._node}: {reason(record, here, self._node)}")

    async def stopped(self, guest: str) -> None:
        """Tell that `guest` does not execute here any more; what does not arrive is told by the next `settle`."""
        try:
            record = await self._states.guest(guest, deadline_s=_ASK_S)
            if record.run is Run.RUNNING and record.node == self._node and not record.job:
                await self._say_stopped(record)
        except NovaCronError as error:
            log.debug("not told yet that a guest has stopped", guest=guest, error=str(error))

    async def removed(self, guest: str) -> None:
        """Tell that `guest` is deleted; what does not arrive leaves a stopped guest in the control state."""
        await self.stopped(guest)
        try:
            record = await self._states.guest(guest, deadline_s=_ASK_S)
            if record.run is Run.STOPPED and record.node in ("", self._node):
                remove = RemoveGuest(guest=guest, epoch=record.epoch)
                await self._states.submit(remove, by=self._by, deadline_s=_ASK_S)
        except NovaCronError as error:
            log.debug("a deleted guest is still known", guest=guest, error=str(error))

    async def lease_held(self) -> None:
        """Wait for the lease, which a node that has just come up does not have for a moment; raises `Conflict`."""
        for _ in range(_LEASE_LOOKS):
            if self._lease.may_run():
                return
            await asyncio.sleep(_LOOK_S)
        raise Conflict(
            detail=f"{self._node} holds no lease, so it may start no guest: see `novacron cluster` and `novacron nodes`"
        )

    # -- what is found -----------------------------------------------------------------------------------------------

    async def settle(self, *, resume: bool) -> int:
        """Bring this host's guests and the control state together; without `resume` none begins to execute.

        Returns up to which number the keeper's note is dealt with.
        """
        lease = self._lease.number
        records = {record.name: record for record in await self._states.guests()}
        note = await asyncio.to_thread(read_note, self._state_dir)
        found = {info.name: info for info in await self._host.all()}
        kept = {paused.guest for paused in note.paused}
        open_: set[str] = set()
        for name, info in sorted(found.items()):
            record = records.get(name)
            here = Here(name, info.state, info.job, self._epochs.of(name), name in kept)
            stands = await self._standing(name, record)
            what = deed(here, record, stands, self._node) if governed(name) else _libvirts(here)
            if what is not Deed.WITHHOLD:
                self.withheld.pop(name, None)
            self._cleared.pop(name, None)
            if stands.right is Right.RUN and here.epoch in (0, stands.epoch):
                self._cleared[name] = lease
            if what is Deed.NOTHING and here.kept and (here.job or stands.right is Right.LEAVE):
                open_.add(name)
            if what is Deed.NOTHING:
                continue
            if what is Deed.RESUME and not resume:
                open_.add(name)
                continue
            if not await self._do(what, here, record, stands, lease):
                open_.add(name)
        for name in [name for name in self.withheld if name not in found]:
            del self.withheld[name]
        await self._gone(records, set(found))
        return _answered(note, open_)

    async def _do(self, what: Deed, seen: Here, record: Guest | None, stands: Standing, lease: int) -> bool:
        """Do it, if nothing has changed; true when nothing about the guest is left open."""
        async with self._alone():
            now = next((info for info in await self._host.all() if info.name == seen.name), None)
            if now is None or (now.state, now.job) != (seen.state, seen.job) or self._lease.number != lease:
                return False
            match what:
                case Deed.CLAIM:
                    return await self._claim(seen.name) and not seen.kept
                case Deed.WRITE_DOWN:
                    await asyncio.to_thread(self._epochs.put, seen.name, stands.epoch)
                    return not seen.kept
                case Deed.RESUME:
                    if not self._lease.may_run():
                        return False
                    log.info("resuming what was paused when the lease ran out", guest=seen.name, epoch=stands.epoch)
                    await self._host.resume(seen.name)
                case Deed.WITHHOLD:
                    assert record is not None, "who owns it is known"
                    why = reason(record, seen, self._node)
                    if self.withheld.get(seen.name) != why:
                        log.error("a guest here must not run", guest=seen.name, reason=why)
                    self.withheld[seen.name] = why
                    if seen.state == "running" and seen.epoch:
                        await self._host.pause(seen.name)
                case Deed.SAY_STOPPED:
                    assert record is not None, "who owns it is known"
                    await self._say_stopped(record)
                case Deed.NOTHING:
                    pass
        return True

    async def _claim(self, guest: str) -> bool:
        definition = await self._host.definition(guest)
        if len(definition) > DEFINITION_BYTES_MAX:
            log.warning("too long a definition: the guest stays libvirt's alone", guest=guest)
            return True
        try:
            await self.grant(guest, definition)
        except (StateRefused, Conflict) as error:
            log.warning("a guest that runs here was not granted", guest=guest, error=str(error))
            return False
        return True

    async def _standing(self, guest: str, record: Guest | None) -> Standing:
        if record is not None and record.job:
            return await self._states.standing(guest, self._node)
        known = {guest: record} if record is not None else {}
        return standing(ControlState(guests=known), guest, self._node)

    async def _defined(self, guest: str, definition: str) -> Guest:
        try:
            record = await self._states.guest(guest, deadline_s=_ASK_S)
        except GuestUnknown:
            new = DefineGuest(guest=guest, definition=definition)
            await self._states.submit(new, by=self._by, deadline_s=_ASK_S)
            return await self._states.guest(guest, deadline_s=_ASK_S)
        if record.run is Run.STOPPED and record.definition != definition:
            newer = DefineGuest(guest=guest, definition=definition, after=record.definition_number)
            await self._states.submit(newer, by=self._by, deadline_s=_ASK_S)
        return record

    async def _gone(self, records: dict[str, Guest], found: set[str]) -> None:
        """Guests of ours that this host does not even know any more."""
        for name, record in sorted(records.items()):
            if name in found or record.job or record.node != self._node:
                continue
            if record.run is Run.RUNNING:
                async with self._alone():
                    if all(info.name != name for info in await self._host.all()):
                        await self._say_stopped(record)

    async def _say_stopped(self, record: Guest) -> None:
        log.info("a guest has stopped", guest=record.name, epoch=record.epoch)
        stop = StopGuest(guest=record.name, epoch=record.epoch)
        await self._states.submit(stop, by=self._by, deadline_s=_ASK_S)
        await asyncio.to_thread(self._epochs.put, record.name, 0)


def _libvirts(here: Here) -> Deed:
    """What is done about a guest that the control state can't know."""
    return Deed.RESUME if here.kept and here.state == "paused" and not here.job else Deed.NOTHING


def _answered(note: Note, open_guests: set[str]) -> int:
    """Up to which number nothing of the note is open."""
    for paused in note.paused:
        if paused.guest in open_guests:
            return paused.number - 1
    return note.last
