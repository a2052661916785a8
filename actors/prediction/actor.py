"""The bandwidth predictor: one per site, on its lead node."""

import asyncio
import time

import structlog

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import BadRequest, LinkUnknown
from actors.flags.file import Switches
from actors.prediction.engine import Links
from actors.prediction.keeping import Keeper
from actors.prediction.messages import (
    Accuracies,
    Forecast,
    ForecastQuery,
    Observe,
    RecordedQuery,
    RecordedSamples,
)
from actors.prediction.record import Key
from actors.prediction.serving import Serving

log = structlog.get_logger()
RECORDED_MOST = 20_000
RESTORE_S = 5.0


class BandwidthPredictor(Service):
    """Learns from the samples of the site's transports and forecasts each link (PBA)."""

    def __init__(self, config: Config) -> None:
        self._topology = config.topology
        self._links = Links(config.prediction, config.transport.streams)
        self._keeper = Keeper(config.node.state_dir)
        self._switches = Switches(config.node.name, config.node.state_dir)
        self._serving = Serving(config.node.models_dir or config.node.state_dir / "models", self._links, self._on)
        self._restored = asyncio.Event()
        # Ray runs __init__ of an asynchronous actor inside its loop: a restarted one goes on by itself.
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work) for work in (self._restore(), self._keeper.run(), self._serving.run())]

    async def close(self) -> None:
        """Stop the background work where it is; what waits is written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._serving.close()
        await self._keeper.close()

    @exposed()
    async def observe(self, caller: Caller, request: Observe) -> Empty:  # noqa: ARG002
        """Take new samples of one link."""
        self._known(request.node, request.peer)
        await self._restored.wait()
        key = (request.node, request.peer)
        link = self._links.of(*key)
        counted = link.observe(request.samples)
        self._keeper.add(key, counted, link.settle())
        link.note(time.time(), self._serving.without(key))
        return Empty()

    @exposed()
    async def forecast(self, caller: Caller, request: ForecastQuery) -> Forecast:  # noqa: ARG002
        """What one link will carry; an unmeasured one is answered with method 'none'."""
        self._known(request.node, request.peer)
        if not 0 < request.horizon_s <= 86400:
            raise BadRequest(detail=f"horizon_s must be above 0 and at most 86400, not {request.horizon_s}")
        key = (request.node, request.peer)
        return self._links.of(*key).forecast(time.time(), request.horizon_s, self._serving.without(key))

    @exposed()
    async def accuracies(self, caller: Caller, request: Empty) -> Accuracies:  # noqa: ARG002
        """What forecasts of every link were worth lately, by method."""
        found = [one for (node, peer), link in self._links.all().items() for one in link.accuracies(node, peer)]
        model, shadow = self._serving.model, self._serving.shadow
        return Accuracies(accuracies=found, model=model.version, shadow=shadow.version, reason=model.reason)

    @exposed()
    async def recorded(self, caller: Caller, request: RecordedQuery) -> RecordedSamples:  # noqa: ARG002
        """What links carried, second by second, while they were busy.

        Raises:
            BadRequest: too many at once.
            Failed: the record can't be read.
        """
        if not 0 < request.most <= RECORDED_MOST:
            raise BadRequest(detail=f"most must be 1 to {RECORDED_MOST}, not {request.most}")
        return await self._keeper.samples(request)

    async def _restore(self) -> None:
        try:
            async with asyncio.timeout(RESTORE_S):
                found = await self._keeper.recent()
            for (node, peer), (samples, settled) in found.items():
                if self._topology.member(node) is not None and self._topology.member(peer) is not None:
                    self._links.of(node, peer).restore(samples, settled)
        except TimeoutError:
            log.error("what links measured before is left out: it takes too long to read")
        finally:
            self._restored.set()

    def _on(self, key: Key) -> bool:
        node, peer = key
        return self._switches.on("pba", f"{node}-{peer}", node)

    def _known(self, node: str, peer: str) -> None:
        # Links are kept for ever: only those of the topology may be made.
        if self._topology.member(node) is None or self._topology.member(peer) is None:
            raise LinkUnknown(link=f"{node}-{peer}")
