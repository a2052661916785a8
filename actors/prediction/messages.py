"""Requests and answers of the bandwidth predictor (PBA). Rates in bytes per second."""

from typing import Literal

import msgspec

from actors.transport.messages import LinkSample

Role = Literal["spoke", "model", "shadow", "ewma", "last-value"]


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

    `method` names what answered, `version` the model's version ('' when none answered; a model may let a simple method
    speak, which `method` names then), `reason` why the EWMA answered in its place. `quantiles`: the rates at
    `models.bandwidth.forecast.QUANTILES`, rising. `streams`: how many connections to use.

    What the answers about this link were worth so far, at the horizon nearest to this one: `calibration` is the share
    of truths inside the interval (-1: no truth yet), `wape` the mean error over the mean truth (-1 likewise), of
    `truths` forecasts; `skill_ewma` and `skill_last` say how much smaller the error was than the EWMA's and the last
    value's (0.1: by a tenth).
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
    version: str = ""
    reason: str = ""
    truths: int = 0
    wape: float = -1.0
    skill_ewma: float = 0.0
    skill_last: float = 0.0


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """What forecasts of one link by one method were worth lately, at one horizon, beside the later truth.

    `role`: `spoke` is whatever answered, `model` the version in use, `shadow` the one that only listens; `ewma` and
    `last-value` are the simple methods. `coverage`: share of truths inside the 80 % interval; `width`: of the interval
    over the mean truth; `wape`: mean error over the mean truth; `skill_ewma`, `skill_last`: how much smaller its error
    was than that one's for the same truths.
    """

    node: str
    peer: str
    horizon_s: float
    role: Role
    method: str
    version: str
    truths: int
    wape: float
    coverage: float
    width: float
    skill_ewma: float
    skill_last: float


class Accuracies(msgspec.Struct, frozen=True, kw_only=True):
    """Of every link of the site, and how the models stand: `model` and `shadow` are their versions ('': none)."""

    accuracies: list[Accuracy]
    model: str = ""
    shadow: str = ""
    reason: str = ""


class RecordedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for recorded samples after the one numbered `after`, measured after Unix time `since`; '' is every link."""

    node: str = ""
    peer: str = ""
    since: float = 0.0
    after: int = 0
    most: int = 5000


class Recorded(msgspec.Struct, frozen=True):
    """One second of one link that says what it can carry. `bytes_per_s` is its capacity, `at` Unix time."""

    number: int
    node: str
    peer: str
    at: float
    bytes_per_s: float
    rtt_ms: float
    jitter_ms: float
    loss: float
    retransmits: int


class RecordedSamples(msgspec.Struct, frozen=True, kw_only=True):
    """By link, in the order in which they were recorded; `more`: ask again after the last one's number."""

    samples: list[Recorded]
    more: bool
