"""The learned models in the predictor's process: what the registry says is in use or in the shadow, asked every second.

One thread does all of it. Without a version in use or in the shadow neither numba nor any weights are loaded.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

from actors.prediction.asking import ModelUnfit, ask, load
from actors.prediction.engine import Link, Links
from actors.prediction.fan import Fan
from actors.prediction.record import Key
from models.registry import Registry, RegistryError

if TYPE_CHECKING:
    from models.bandwidth.predict import Forecaster

log = structlog.get_logger()
START_S = 20.0
"""A node's start has the processors for itself."""
EVERY_S = 1.0
LOOK_S = 60.0
LOAD_S = 60.0
DEADLINE_S = 1.0
"""A batch that takes longer is dropped, and the version rests until the next look."""
NO_MODEL = "no model is in use"
OFF = "the flag pba is off for this link"

_Found = TypeVar("_Found")
Role = Literal["model", "shadow"]


@dataclass(slots=True)
class Served:
    """One version; `reason` says why it does not answer, '' when it does. It rests until monotonic `rests_until`."""

    version: str = ""
    forecaster: "Forecaster | None" = None
    reason: str = NO_MODEL
    rests_until: float = 0.0


class Serving:
    """Fills `Link.fan` and `Link.shadow` of every link that was measured since the model spoke of it last.

    Args:
        registry: directory of the registry.
        links: the site's.
        on: says whether the flag is on for a link.
    """

    def __init__(self, registry: Path, links: Links, on: Callable[[Key], bool]) -> None:
        self._registry = registry
        self._links = links
        self._on = on
        self._thread = ThreadPoolExecutor(1, "model")
        self._work: asyncio.Future[Any] | None = None
        self._looked_s = float("-inf")
        self._served: dict[Role, Served] = {"model": Served(), "shadow": Served()}

    @property
    def model(self) -> Served:
        """What is in use."""
        return self._served["model"]

    @property
    def shadow(self) -> Served:
        """What only listens."""
        return self._served["shadow"]

    def without(self, key: Key) -> str:
        """Why no model may answer for the link `key`; '' when it may."""
        return self.model.reason or ("" if self._on(key) else OFF)

    async def run(self) -> None:
        """Serve for ever."""
        await asyncio.sleep(START_S)
        while True:
            try:
                await self.step(time.monotonic())
            except Exception:  # the EWMA answers on; a loop that ended would leave old reasons standing
                log.exception("the model was not asked")
            await asyncio.sleep(EVERY_S)

    def close(self) -> None:
        """Begin nothing more; a batch that runs ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def step(self, now_s: float) -> None:
        """One round at monotonic `now_s`: look at the registry once a minute, ask what is in use, then the shadow."""
        if not self._busy() and now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            await self._look()
        for role in self._served:
            if not self._busy():
                await self._serve(role, now_s)

    def _busy(self) -> bool:
        """True while the thread is at something that took too long."""
        return self._work is not None and not self._work.done()

    async def _look(self) -> None:
        """Take over what the registry says; one that can't be read changes nothing about a version that answers."""
        try:
            state = await self._within(LOAD_S, Registry(self._registry, "bandwidth").state)
        except (RegistryError, OSError) as error:  # TimeoutError is one
            log.error("the registry of models can't be read", registry=str(self._registry), reason=str(error))
            if not self.model.version:
                self.model.reason = f"the registry of models can't be read: {error}"
            return
        self._take("model", state.in_use or "")
        self._take("shadow", state.shadow or "")

    def _take(self, role: Role, version: str) -> None:
        served = self._served[role]
        if version and version == served.version:
            return
        if version or served.version:
            log.info("another model", role=role, version=version or "none", before=served.version or "none")
        self._served[role] = Served(version, None, f"the model {version} is loading" if version else NO_MODEL)
        for link in self._links.all().values():
            _tell(link, role, None)

    async def _serve(self, role: Role, now_s: float) -> None:
        served = self._served[role]
        waiting = {key: link for key, link in self._links.all().items() if self._waits(key, link, role)}
        if not served.version or not waiting or now_s < served.rests_until:
            return
        try:
            if served.forecaster is None:
                version, registry = served.version, self._registry
                served.forecaster = await self._within(LOAD_S, lambda: load(version, registry))
            forecaster, samples = served.forecaster, {key: tuple(link.series) for key, link in waiting.items()}
            said = await self._within(DEADLINE_S, lambda: ask(forecaster, samples))
        except TimeoutError:
            self._rest(served, now_s, f"the model {served.version} is too slow")
            return
        except ModelUnfit as error:
            self._rest(served, now_s, f"the model {served.version} is refused: {error}")
            return
        served.reason = ""
        for key, link in waiting.items():
            _tell(link, role, said.get(key))

    def _waits(self, key: Key, link: Link, role: Role) -> bool:
        if not link.series or not self._on(key):
            return False
        told = link.fan if role == "model" else link.shadow
        return told is None or link.series[-1].at > told.upto_s

    def _rest(self, served: Served, now_s: float, reason: str) -> None:
        if reason != served.reason:
            log.error("a model does not answer", reason=reason)
        served.reason = reason
        served.rests_until = now_s + LOOK_S

    async def _within(self, deadline_s: float, work: Callable[[], _Found]) -> _Found:
        """Do `work` in the thread. Raises TimeoutError, its result is dropped then: nothing is begun before it ends."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._work = future
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also of one that is dropped
        finished, _ = await asyncio.wait({future}, timeout=deadline_s)
        if not finished:
            raise TimeoutError(f"it takes longer than {deadline_s:.0f} s")
        return future.result()


def _tell(link: Link, role: Role, fan: Fan | None) -> None:
    if role == "model":
        link.fan = fan
    else:
        link.shadow = fan
