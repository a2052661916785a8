"""The agent's side of the control state: holds the node's lease and keeps its guests as the state has them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from actors.config.schema import Config
from actors.errors import NovaCronError
from actors.hypervisor.engine.terms import wanted_terms
from actors.hypervisor.epochs import EPOCHS_FILE, Epochs
from actors.hypervisor.steward import Host, Steward
from actors.hypervisor.tenure import States, Tenure
from actors.keeper import start as keeper
from actors.keeper.files import read_note

log = structlog.get_logger()
_LOOK_S = 1.0
# However still it is here: what the control state says may have changed.
_AT_LEAST_EVERY_S = 60.0
_Seen = tuple[object, ...]


class Custody:
    """One node's.

    Args:
        config: the node's.
        states: the control state.
        host: this host's guests.
        alone: held while a guest's state here must not change.
    """

    def __init__(
        self, config: Config, states: States, host: Host, alone: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        node = config.node
        self._host = host
        self._state_dir = node.state_dir
        self.epochs = Epochs(node.state_dir / EPOCHS_FILE)
        self.tenure = Tenure(
            states,
            node.name,
            node.state_dir,
            keeper_lives=lambda: keeper.alive(config),
            check=self._check,
            wanted=wanted_terms(config),
        )
        self.steward = Steward(
            states, self.tenure, host, self.epochs, node=node.name, state_dir=node.state_dir, alone=alone
        )
        self._seen: _Seen | None = None
        self._settled_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Hold the lease and keep the guests from now on, on this loop."""
        self._tasks = [
            asyncio.create_task(self.tenure.run(), name="the node's lease"),
            asyncio.create_task(self._keep(), name="the node's guests"),
        ]

    async def _check(self) -> None:
        await self.steward.settle(resume=False)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except (NovaCronError, OSError) as error:
                log.debug("guests and control state were not compared", error=str(error))
            except Exception:
                # Whatever it is, guests must not be left alone for it.
                log.exception("guests and control state were not compared")

    async def _look(self) -> None:
        """Settle when something has changed here since it was last settled, and now and then."""
        if not self.tenure.may_run():
            return
        guests = await self._host.all()
        note = await asyncio.to_thread(read_note, self._state_dir)
        here = tuple((guest.name, guest.state, guest.job) for guest in guests)
        seen: _Seen = (self.tenure.number, note, here)
        now_s = asyncio.get_running_loop().time()
        if seen == self._seen and now_s - self._settled_s < _AT_LEAST_EVERY_S:
            return
        answered = await self.steward.settle(resume=True)
        await self.tenure.answer(answered)
        self._settled_s = now_s
        self._seen = None if note.paused and answered < note.last else seen
