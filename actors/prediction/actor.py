"""The bandwidth predictor: one per site, on its lead node."""

import asyncio
import time

import structlog

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import BadRequest, LinkUnknown
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

log = structlog.get_logger()
NO_MODEL = "no model is in use"
RECORDED_MOST = 20_000
RESTORE_S = 5.0


class BandwidthPredictor(Service):
    """Learns from the samples of the site's transports and forecasts each link (PBA)."""

    def __init__(self, config: Config) -> None:
        self._topology = config.topology
        self._links = Links(config.prediction, config.transport.streams)
        self._keeper = Keeper(config.node.state_dir)
        self._restored = asyncio.Event()
        # Ray runs __init__ of an asynchronous actor inside its loop: a restarted one goes on by itself.
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._restore()), loop.create_task(self._keeper.run())]

    async def close(self) -> None:
        """Stop the background work where it is; what waits is written."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keeper.close()

    @exposed()
    async def observe(self, caller: Caller, request: Observe) -> Empty:  # noqa: ARG002
        """Take new samples of one link."""
        self._known(request.node, request.peer)
        await self._restored.wait()
        link = self._links.of(request.node, request.peer)
        counted = link.observe(request.samples)
        self._keeper.add((request.node, request.peer), counted, link.settle())
        link.note(time.time(), NO_MODEL)
        return Empty()

    @exposed()
    async def forecast(self, caller: Caller, request: ForecastQuery) -> Forecast:  # noqa: ARG002
        """What one link will carry; an unmeasured one is answered with method 'none'."""
        self._known(request.node, request.peer)
        if not 0 < request.horizon_s <= 86400:
            raise BadRequest(detail=f"horizon_s must be above 0 and at most 86400, not {request.horizon_s}")
        return self._links.of(request.node, request.peer).forecast(time.time(), request.horizon_s, NO_MODEL)

    @exposed()
    async def accuracies(self, caller: Caller, request: Empty) -> Accuracies:  # noqa: ARG002
        """What forecasts of every link were worth lately, by method."""
        found = [one for (node, peer), link in self._links.all().items() for one in link.accuracies(node, peer)]
        return Accuracies(accuracies=found, reason=NO_MODEL)

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

    def _known(self, node: str, peer: str) -> None:
        # Links are kept for ever: only those of the topology may be made.
        if self._topology.member(node) is None or self._topology.member(peer) is None:
            raise LinkUnknown(link=f"{node}-{peer}")
