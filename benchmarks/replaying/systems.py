"""Who forecasts in a replay: the product's predictor, the simple ones, and one that knows what comes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from actors.config.schema import Prediction
from actors.prediction import engine
from actors.prediction.asking import ask
from actors.prediction.messages import Forecast
from actors.transport.messages import LinkSample
from benchmarks.replaying.link import Link
from models.bandwidth.baselines import LastValue
from models.bandwidth.ewma import Ewma
from models.bandwidth.forecast import QUANTILES, Forecaster

if TYPE_CHECKING:
    from models.bandwidth import predict

HALF_LIFE_S, HISTORY_S = 10.0, 600.0
SHORT_S = 1.0


class System(Protocol):
    """Learns a link's capacity and tells what comes. Bytes per second."""

    def observe(self, at_s: float, bytes_per_s: float) -> None:
        """The link carried so much in the sample that ended then."""

    def ahead(self, now_s: float, horizon_s: float) -> Forecast | None:
        """What it will carry over ``(now_s, now_s + horizon_s]``; None: nothing is known."""


Make = Callable[[Link], System]


class Simple:
    """One of the simple forecasters, with the quantiles of its own errors."""

    def __init__(self, forecaster: Forecaster, method: str) -> None:
        self._forecaster = forecaster
        self._method = method

    def observe(self, at_s: float, bytes_per_s: float) -> None:
        """As `System`."""
        self._forecaster.observe(at_s, bytes_per_s)

    def ahead(self, now_s: float, horizon_s: float) -> Forecast | None:
        """As `System`."""
        point = self._forecaster.forecast(now_s, horizon_s)
        if point is None:
            return None
        return Forecast(
            mean=point.mean, low=point.low, high=point.high, horizon_s=horizon_s, method=self._method,
            samples=point.samples, streams=4, quantiles=list(point.quantiles),
        )  # fmt: skip


class Pba:
    """The product's predictor of one link, with a forecaster that is asked after every sample, as in a cluster."""

    def __init__(self, forecaster: "predict.Forecaster") -> None:
        self._forecaster = forecaster
        self._link = engine.Link(Prediction(), default_streams=4)

    def observe(self, at_s: float, bytes_per_s: float) -> None:
        """As `System`."""
        carried = int(bytes_per_s)
        sample = LinkSample(
            at=at_s, rtt_ms=0, jitter_ms=0, sent_bytes=carried, acked_bytes=carried, busy_share=1.0, retransmits=0
        )
        self._link.observe([sample])
        key = ("here", "there")
        self._link.fan = ask(self._forecaster, {key: tuple(self._link.series)}).get(key)
        self._link.settle()
        self._link.note(at_s)

    def ahead(self, now_s: float, horizon_s: float) -> Forecast | None:
        """As `System`."""
        told = self._link.forecast(now_s, horizon_s)
        return told if told.samples else None


class Oracle:
    """Knows the recording. What is sure of the next second is the least that comes until it is asked again."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def observe(self, at_s: float, bytes_per_s: float) -> None:
        """It needs no telling."""

    def ahead(self, now_s: float, horizon_s: float) -> Forecast | None:
        """As `System`."""
        mean = self._link.mean(now_s, min(now_s + horizon_s, max(self._link.ends_s, now_s + SHORT_S)))
        low = self._link.lowest(now_s, now_s + 2 * SHORT_S) if horizon_s <= SHORT_S else mean
        quantiles = [low if share < 0.5 else mean for share in QUANTILES]
        return Forecast(
            mean=mean, low=low, high=mean, horizon_s=horizon_s, method="oracle", samples=1, streams=4,
            quantiles=quantiles,
        )  # fmt: skip


class Blunt:
    """A system of which only the expected rate is taken, as if that were sure: what quantiles are worth."""

    def __init__(self, system: System) -> None:
        self._system = system

    def observe(self, at_s: float, bytes_per_s: float) -> None:
        """As `System`."""
        self._system.observe(at_s, bytes_per_s)

    def ahead(self, now_s: float, horizon_s: float) -> Forecast | None:
        """As `System`."""
        told = self._system.ahead(now_s, horizon_s)
        return msgspec.structs.replace(told, quantiles=[told.mean] * len(QUANTILES)) if told is not None else None


def ewma(link: Link) -> System:  # noqa: ARG001  only the oracle looks at it
    """The EWMA, with the configuration's defaults."""
    return Simple(Ewma(HALF_LIFE_S, HISTORY_S), "ewma")


def ewma_mean(link: Link) -> System:
    """The EWMA, its mean alone."""
    return Blunt(ewma(link))


def last_value(link: Link) -> System:  # noqa: ARG001
    """The last value."""
    return Simple(LastValue(HISTORY_S), "last-value")


def systems(forecaster: "predict.Forecaster") -> dict[str, Make]:
    """Every system by its name; `forecaster` is what the product's predictor asks."""
    return {
        "ewma": ewma,
        "ewma-mean": ewma_mean,
        "last-value": last_value,
        "pba": lambda _: Pba(forecaster),
        "oracle": Oracle,
    }
