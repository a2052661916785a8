"""Carries what the site's transports measured to the predictor, and puts both together for whoever asks."""

import asyncio

import structlog

from actors.errors import NovaCronError
from actors.migration.messages import ForecastView, LinkView
from actors.migration.remotes import Remotes
from actors.migration.survey import SURVEY_S, Survey
from actors.prediction.messages import Observe
from actors.transport.messages import LinkState

log = structlog.get_logger()
PERIOD_S = 2.0
HORIZON_S = 30.0


class Sampler:
    """Polls every node of the site."""

    def __init__(self, remotes: Remotes, survey: Survey) -> None:
        self._remotes = remotes
        self._survey = survey
        self._newest: dict[str, float] = {}

    async def run(self) -> None:
        """Carry samples for ever; a node or predictor that is away is tried again the next time."""
        while True:
            nodes = [member.name for member in self._survey.here.nodes]
            results = await asyncio.gather(*(self.carry(node) for node in nodes), return_exceptions=True)
            for node, result in zip(nodes, results, strict=True):
                if isinstance(result, Exception):
                    log.debug("no samples", node=node, error=str(result))
            await asyncio.sleep(PERIOD_S)

    async def carry(self, node: str) -> None:
        """Carry one node's new samples."""
        after = self._newest.get(node, 0.0)
        states = await self._remotes.transport(node, SURVEY_S).links(after)
        for link in states.links:
            if link.samples:
                await self._remotes.observe(Observe(node=node, peer=link.peer, samples=link.samples))
        # Only what the predictor has taken is not asked for again.
        self._newest[node] = max([after, *(sample.at for link in states.links for sample in link.samples)])

    async def links(self) -> list[LinkView]:
        """Every link of the site with its forecast."""
        return list(await asyncio.gather(*(self._with_forecast(link) for link in await self._survey.links())))

    async def _with_forecast(self, link: LinkState) -> LinkView:
        try:
            forecast = await self._remotes.forecast(link.node, link.peer, HORIZON_S)
        except NovaCronError:
            return LinkView(link=link)
        if not forecast.samples:
            return LinkView(link=link)
        shown = ForecastView(
            mean=forecast.mean,
            low=forecast.low,
            high=forecast.high,
            horizon_s=forecast.horizon_s,
            method=forecast.method,
            samples=forecast.samples,
            version=forecast.version,
            reason=forecast.reason,
            truths=forecast.truths,
            calibration=forecast.calibration,
            wape=forecast.wape,
            skill_ewma=forecast.skill_ewma,
            skill_last=forecast.skill_last,
        )
        return LinkView(link=link, forecast=shown)
