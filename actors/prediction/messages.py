"""Requests and answers of the bandwidth predictor (PBA). Rates in bytes per second."""

import msgspec

from actors.transport.messages import LinkSample


class Observe(msgspec.Struct, frozen=True, kw_only=True):
    """New samples of the link `node` → `peer`."""

    node: str
    peer: str
    samples: list[LinkSample]


class ForecastQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What will the link `node` → `peer` carry over the next `horizon_s`?"""

    node: str
    peer: str
    horizon_s: float = 30.0


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Expected goodput with an 80 % interval. `samples` 0 and `method` 'none': nothing is known, the rates are 0.

    `streams`: how many connections to use; `calibration`: share of past truths inside their interval (-1: no
    truth yet). `quantiles`: the rates at `models.bandwidth.forecast.QUANTILES`, rising.
    """

    mean: float
    low: float
    high: float
    horizon_s: float
    method: str
    samples: int
    streams: int
    calibration: float = -1.0
    quantiles: list[float] = []
