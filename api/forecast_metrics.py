"""Metrics of the forecasts beside the later truth."""

from prometheus_client import CollectorRegistry, Gauge

from actors.errors import NovaCronError
from api.backend import Backend


class ForecastMetrics:
    """Gauges for each link, horizon and role (`spoke` is whatever answered, `shadow` a model that only listens).

    Args:
        registry: gets them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            labels = ("node", "peer", "horizon_s", "role")
            return Gauge(f"novacron_forecast_{name}", what, labels, registry=registry)

        self._truths = gauge("truths", "Forecasts of the last hour whose truth is known")
        self._coverage = gauge("coverage", "Share of truths inside the interval that promises 0.8 of them")
        self._error = gauge("error", "Mean error over the mean truth")
        self._width = gauge("width", "Mean width of the interval over the mean truth")
        self._skill_ewma = gauge("skill_over_ewma", "How much smaller the error is than the EWMA's")
        self._skill_last = gauge("skill_over_last_value", "How much smaller the error is than the last value's")

    async def refresh(self, backend: Backend) -> None:
        """Ask; while the predictor is away the gauges stay as they are, and its component says so."""
        try:
            found = await backend.accuracies()
        except NovaCronError:
            return
        gauges = (self._truths, self._coverage, self._error, self._width, self._skill_ewma, self._skill_last)
        for gauge in gauges:
            gauge.clear()
        for one in found.accuracies:
            told = (one.truths, one.coverage, one.wape, one.width, one.skill_ewma, one.skill_last)
            for gauge, value in zip(gauges, told, strict=True):
                gauge.labels(one.node, one.peer, f"{one.horizon_s:g}", one.role).set(value)
