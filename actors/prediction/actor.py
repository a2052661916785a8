"""The bandwidth predictor: one per site, on its lead node."""

import time

from actors.calls.messages import Caller, Empty
from actors.calls.service import Service, exposed
from actors.config.schema import Config
from actors.errors import BadRequest, LinkUnknown
from actors.prediction.engine import Links
from actors.prediction.messages import Forecast, ForecastQuery, Observe


class BandwidthPredictor(Service):
    """Learns from the samples of the site's transports and forecasts each link (PBA)."""

    def __init__(self, config: Config) -> None:
        self._topology = config.topology
        self._links = Links(config.prediction, config.transport.streams)

    @exposed()
    async def observe(self, caller: Caller, request: Observe) -> Empty:  # noqa: ARG002
        """Take new samples of one link."""
        self._known(request.node, request.peer)
        self._links.of(request.node, request.peer).observe(request.samples)
        return Empty()

    @exposed()
    async def forecast(self, caller: Caller, request: ForecastQuery) -> Forecast:  # noqa: ARG002
        """What one link will carry; an unmeasured one is answered with method 'none'."""
        self._known(request.node, request.peer)
        if not 0 < request.horizon_s <= 86400:
            raise BadRequest(detail=f"horizon_s must be above 0 and at most 86400, not {request.horizon_s}")
        return self._links.of(request.node, request.peer).forecast(time.time(), request.horizon_s)

    def _known(self, node: str, peer: str) -> None:
        # Links are kept for ever: only those of the topology may be made.
        if self._topology.member(node) is None or self._topology.member(peer) is None:
            raise LinkUnknown(link=f"{node}-{peer}")
