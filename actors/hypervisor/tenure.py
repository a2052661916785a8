"""The node's lease: taken, renewed in time, and told to the keeper, who pauses the guests when it runs out."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog
from msgspec.structs import replace

from actors.config.schema import LEASE_RENEWED_AFTER
from actors.control.commands import AcquireLease, RenewLease, YieldLease
from actors.control.decision import Refusal
from actors.control.leases import Hold, Holder
from actors.control.model import Guest, Lease, Terms
from actors.control.ownership import Standing
from actors.errors import NovaCronError, StateRefused
from actors.hypervisor import setting
from actors.hypervisor.engine.terms import Wanted
from actors.keeper.engine import Order
from actors.keeper.files import boot_id, now_ms, read_order, write_order

log = structlog.get_logger()
# Leases that don't end by time are renewed as well: so a change of their terms reaches every holder.
_SLOW_MS = 30_000.0
_TURN_S = 0.5
# Each try may leave an entry in everybody's log.
_AGAIN_MS = 2_000.0
_RENEW_DEADLINE_S = 4.0


class States(setting.States, Protocol):
    """What the agent asks of the control state; `StateClient` has it."""

    async def standing(self, guest: str, node: str, *, deadline_s: float = ...) -> Standing:
        """What a node may do with a guest."""
        ...

    async def guest(self, name: str, *, deadline_s: float = ...) -> Guest:
        """A guest's record."""
        ...

    async def guests(self, *, deadline_s: float = ...) -> list[Guest]:
        """Every guest's record."""
        ...

    async def lease(self, node: str, *, deadline_s: float = ...) -> Lease | None:
        """The node's newest lease."""
        ...

    async def terms(self, *, deadline_s: float = ...) -> Terms:
        """The terms of leases."""
        ...


class Tenure:
    """One node's lease.

    Args:
        states: the control state.
        node: the node's name.
        state_dir: where the order to the keeper lies.
        keeper_lives: without a keeper no lease that ends by time is renewed: nobody would keep its end.
        check: called with each new lease before the guests may run on under it.
        wanted: the terms that leases are to have.
        clock: CLOCK_BOOTTIME in milliseconds.
    """

    def __init__(
        self,
        states: States,
        node: str,
        state_dir: Path,
        *,
        keeper_lives: Callable[[], bool],
        check: Callable[[], Awaitable[None]],
        wanted: Wanted,
        clock: Callable[[], float] = now_ms,
    ) -> None:
        self._states = states
        self._node = node
        self._by = f"node:{node}"
        self._state_dir = state_dir
        self._keeper_lives = keeper_lives
        self._check = check
        self._setting = setting.Setting(states, self._by, wanted)
        self._clock = clock
        self._boot = boot_id()
        self._holder = Holder()
        self._lease: Lease | None = None
        self._terms = Terms()
        self._renew_at_ms = self._acquire_at_ms = 0.0
        self._answered = 0
        self._begun = self._given_back = False
        self.trouble = "no lease was asked for yet"
        """Why the lease was not taken or renewed when it last should have been, '' when it was."""

    @property
    def number(self) -> int:
        """Of the lease that is held, 0 for none."""
        return self._holder.number if self._holder.pause_at_ms() is not None else 0

    @property
    def warnings(self) -> list[str]:
        """What an operator should know of the lease and its terms."""
        lease = "lease" if self.may_run() else "no lease"
        return [*([f"{lease}: {self.trouble}"] if self.trouble else []), *([self.note] if self.note else [])]

    @property
    def note(self) -> str:
        """What an operator should know of the lease's terms, '' for nothing."""
        return self._setting.note

    def may_run(self) -> bool:
        """True while guests may execute here by this node's own clock."""
        return self._holder.hold(self._clock()) is Hold.RUN

    async def run(self) -> None:
        """Hold a lease for as long as this process lives."""
        while True:
            await self.turn()
            await asyncio.sleep(_TURN_S)

    def give_up(self) -> None:
        """Run nothing from now on, and hold no lease again in this process's life."""
        self._given_back = True
        self._holder.lost()

    async def give_back(self) -> None:
        """Tell everybody, after `give_up`, that nothing executes here: nobody has to wait for the lease's end.

        Raises:
            NovaCronError: that was not agreed on; the lease then ends by time, or by an operator's override.
        """
        assert self._given_back, "guests may start"
        if self._lease is None:
            return
        asked = YieldLease(node=self._node, number=self._lease.number)
        await self._states.submit(asked, by=self._by, deadline_s=_RENEW_DEADLINE_S)
        await asyncio.to_thread(write_order, self._state_dir, None)
        log.info("lease given back", lease=self._lease.number)

    async def turn(self) -> None:
        """Do what is due."""
        if self._given_back:
            return
        try:
            if not self._begun:
                order = await asyncio.to_thread(read_order, self._state_dir)
                self._answered = order.answered if order else 0
                self._begun = True
            if not self.number and self._clock() >= self._acquire_at_ms:
                self._acquire_at_ms = self._clock() + _AGAIN_MS
                await self._acquire()
            elif not self.number:
                return
            elif self._clock() >= self._renew_at_ms:
                await self._renew()
            trouble = ""
        except (NovaCronError, OSError) as error:
            trouble = str(error)
        if trouble and not self.trouble:
            log.warning("the lease was not renewed", reason=trouble, may_run=self.may_run())
        self.trouble = trouble

    async def answer(self, number: int) -> None:
        """The keeper's note is dealt with up to `number`."""
        if number > self._answered and not self._given_back:
            self._answered = number
            await self._tell_keeper()

    async def _read_terms(self) -> None:
        """Read the terms, and set them if they are not what they should be and that is this node's to do."""
        self._terms = await self._states.terms()
        if self._setting.due(self._terms):
            await self._setting.ask(self._terms)
            self._terms = await self._states.terms()

    async def _acquire(self) -> None:
        await self._read_terms()
        last = await self._states.lease(self._node)
        after, sent_ms = last.number if last else 0, self._clock()
        self._holder.acquiring(after, sent_ms)
        asked = AcquireLease(node=self._node, after=after, boot=self._boot, terms=self._terms.number)
        outcome = await self._states.submit(asked, by=self._by)
        lease = Lease(node=self._node, number=outcome.number, boot=self._boot, terms=self._terms)
        self._holder.acquired(after, lease)
        log.info("lease taken", lease=lease.number, takeover=self._terms.takeover)
        try:
            # What runs here may be somebody else's by now: looked at before it may run any longer than it might.
            await self._check()
        except NovaCronError:
            self._holder.lost()
            raise
        await self._granted(lease, sent_ms)

    async def _renew(self) -> None:
        assert self._lease is not None, "a lease is held"
        if self._terms.takeover == "lease" and not self._keeper_lives():
            raise NovaCronError(detail="there is no keeper to keep the lease's end")
        if self._setting.due(self._terms):
            await self._read_terms()
        sent_ms = self._clock()
        renewal = self._holder.renewing(sent_ms)
        asked = RenewLease(node=self._node, number=self._lease.number, renewal=renewal, terms=self._terms.number)
        try:
            await self._states.submit(asked, by=self._by, deadline_s=_RENEW_DEADLINE_S)
        except StateRefused as no:
            await self._refused(no, renewal)
            return
        lease = replace(self._lease, renewal=renewal, terms=self._terms)
        self._holder.renewed(lease)
        await self._granted(lease, sent_ms)
        await self._setting.look(self._clock())

    async def _refused(self, no: StateRefused, renewal: int) -> None:
        if no.refusal == Refusal.TERMS_CHANGED:
            self._terms = await self._states.terms()
            return
        lease = await self._states.lease(self._node)
        mine = lease is not None and self._lease is not None and lease.number == self._lease.number
        if no.refusal == Refusal.STALE and mine and lease is not None and lease.renewal == renewal:
            # An earlier try of the same renewal was agreed on, though its answer never came.
            self._terms = lease.terms
            self._holder.renewed(lease)
            await self._granted(lease, self._clock())
            return
        log.error("the lease is over", lease=self.number, reason=str(no))
        self._holder.lost()
        await self._tell_keeper()

    async def _granted(self, lease: Lease, sent_ms: float) -> None:
        self._lease = lease
        if self._given_back:
            self._holder.lost()
            return
        terms = lease.terms
        early_ms = (terms.duration_ms - terms.pause_ms) * LEASE_RENEWED_AFTER
        self._renew_at_ms = sent_ms + (early_ms if terms.takeover == "lease" else _SLOW_MS)
        await self._tell_keeper()

    async def _tell_keeper(self) -> None:
        pause_at_ms = self._holder.pause_at_ms()
        order = Order(
            boot=self._boot,
            lease=self._holder.number,
            # Without a lease: at once.
            pause_at_ms=None if pause_at_ms == float("inf") else (pause_at_ms or 0.0),
            answered=self._answered,
        )
        await asyncio.to_thread(write_order, self._state_dir, order)
