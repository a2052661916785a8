"""Forecasts per link (node, peer): which samples count, who answers, how right it was."""

from collections import deque
from dataclasses import asdict, dataclass

import msgspec

from actors.config.schema import Prediction
from actors.prediction.fan import FARTHEST_S, Fan, Stretch
from actors.prediction.messages import Accuracy, Forecast, Recorded, Role
from actors.prediction.scores import SCORED_S, Band, Scores, Settled, near
from actors.transport.messages import LinkSample
from models.bandwidth.baselines import LastValue
from models.bandwidth.ewma import Ewma
from models.bandwidth.forecast import Point
from models.bandwidth.streams import MSS_BYTES, streams_for

# Acknowledged bytes are a measure of capacity only while data waited for the link; a second in which the sender
# had nothing to send for a fifth of the time says how busy the sender was.
BUSY_SHARE = 0.8
# Round trip times and losses are looked at over this many samples, busy or not.
RECENT_SAMPLES = 30
SERIES_SAMPLES = 128
"""Samples that count, kept for the model."""
LATE_S = 5.0
"""A model's forecast that misses samples of so long is not told."""
IDLE_S = 60.0
"""After so long without a sample that counts, nobody knows better than the EWMA and its widening interval."""
_MEASURED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Counted:
    """One second that says what a link can carry, bytes per second; the rest as in `LinkSample`."""

    at: float
    bytes_per_s: float
    rtt_ms: float
    jitter_ms: float
    loss: float
    retransmits: int


class Link:
    """One link's samples and forecasts.

    Args:
        settings: half-life and history.
        default_streams: the answer while nothing is known.
    """

    def __init__(self, settings: Prediction, default_streams: int) -> None:
        self._ewma = Ewma(settings.half_life_s, settings.history_s)
        self._last = LastValue(settings.history_s)
        self.scores = Scores()
        self.series: deque[Counted] = deque(maxlen=SERIES_SAMPLES)
        self._recent: deque[LinkSample] = deque(maxlen=RECENT_SAMPLES)
        self._default_streams = default_streams
        self._newest_s = 0.0
        self._stretches = {horizon: Stretch() for horizon in SCORED_S}
        self.fan: Fan | None = None
        self.shadow: Fan | None = None

    def observe(self, samples: list[LinkSample]) -> list[Counted]:
        """Take new samples, and return those that count; such as are not newer than the newest are repeats."""
        counted = []
        for sample in sorted(samples, key=lambda each: each.at):
            if sample.at <= self._newest_s:
                continue
            self._newest_s = sample.at
            self._recent.append(sample)
            rate = self._rate(sample)
            if rate is not None:
                counted.append(
                    Counted(sample.at, rate, sample.rtt_ms, sample.jitter_ms, sample.loss, max(0, sample.retransmits))
                )
                self._count(counted[-1])
        return counted

    def _rate(self, sample: LinkSample) -> float | None:
        """What the link can carry by this sample, if it says so."""
        if sample.busy_share >= BUSY_SHARE and sample.acked_bytes >= 0:
            # Over the busy part only: the idle rest of the second carried nothing.
            return sample.acked_bytes / min(1.0, sample.busy_share)
        if self._ewma.level is not None and sample.acked_bytes > self._ewma.level:
            # It can carry that at least: a link that was cut is not busy again as long as senders believe a
            # forecast from when it carried nothing.
            return float(sample.acked_bytes)
        return None

    def _count(self, one: Counted) -> None:
        self._ewma.observe(one.at, one.bytes_per_s)
        self._last.observe(one.at, one.bytes_per_s)
        self.series.append(one)

    def restore(self, samples: list[Recorded], settled: list[Settled]) -> None:
        """Take up what an earlier life recorded, oldest first; before anything else."""
        for one in samples:
            if one.at > self._newest_s:
                self._newest_s = one.at
                self._count(Counted(one.at, one.bytes_per_s, one.rtt_ms, one.jitter_ms, one.loss, one.retransmits))
        self.scores.restore(settled)

    # -- who answers --------------------------------------------------------------------------------------------

    def forecast(self, now_s: float, horizon_s: float, without: str = "") -> Forecast:
        """What the link will carry over the next `horizon_s` seconds; `without` says why no model may answer."""
        now_s = max(now_s, self._newest_s)
        point = self._ewma.forecast(now_s, horizon_s)
        if point is None:
            return Forecast(
                mean=0.0, low=0.0, high=0.0, horizon_s=horizon_s, method="none", samples=0,
                streams=self._default_streams,
            )  # fmt: skip
        reason = without or self._against_model(now_s, horizon_s)
        band, quantiles = self._answer(point, horizon_s, reason)
        worth = self.scores.worth(horizon_s, "spoke")
        return Forecast(
            mean=band.mean, low=band.low, high=band.high, horizon_s=horizon_s, method=band.method,
            samples=point.samples, streams=self._streams(band.mean), quantiles=list(quantiles), version=band.version,
            reason=reason, calibration=worth.coverage, truths=worth.truths, wape=worth.wape,
            skill_ewma=worth.skill_ewma, skill_last=worth.skill_last,
        )  # fmt: skip

    def _against_model(self, now_s: float, horizon_s: float) -> str:
        """Why the model must not answer; '' when it may."""
        newest_s = self.series[-1].at if self.series else 0.0
        if horizon_s > FARTHEST_S:
            return f"the model looks {FARTHEST_S:.0f} s ahead at most"
        if now_s - newest_s > IDLE_S:
            return f"nothing says what the link carries since {now_s - newest_s:.0f} s"
        if self.fan is None:
            return "the model has not spoken of this link yet"
        if newest_s - self.fan.upto_s > LATE_S:
            return "the model is late"
        if self.scores.passed_over(horizon_s, self.fan.version):
            return "the model was worse than a simple method on this link lately"
        return ""

    def _answer(self, point: Point, horizon_s: float, reason: str) -> tuple[Band, tuple[float, ...]]:
        if reason or self.fan is None:
            return _band(self._ewma.method, point), point.quantiles
        return self.fan.at(horizon_s, self._stretches[near(horizon_s)].factor)

    # -- what it was worth --------------------------------------------------------------------------------------

    def note(self, now_s: float, without: str = "") -> None:
        """Keep what every method says now, to be compared with the truth; only while the link is being measured."""
        if not self.series or now_s - self.series[-1].at > LATE_S or not self.scores.due(now_s):
            return
        for horizon_s in SCORED_S:
            ewma, last = self._ewma.forecast(now_s, horizon_s), self._last.forecast(now_s, horizon_s)
            if ewma is None or last is None:
                return
            said: dict[Role, Band] = {"ewma": _band("ewma", ewma), "last-value": _band("last-value", last)}
            said["spoke"] = self._answer(ewma, horizon_s, without or self._against_model(now_s, horizon_s))[0]
            if self.fan is not None and now_s - self.fan.upto_s <= LATE_S:
                said["model"] = self.fan.at(horizon_s, self._stretches[horizon_s].factor)[0]
            if self.shadow is not None and now_s - self.shadow.upto_s <= LATE_S:
                said["shadow"] = self.shadow.at(horizon_s)[0]
            self.scores.made(now_s, horizon_s, said)

    def settle(self) -> list[Settled]:
        """Close the forecasts whose horizon is over, learn from them, and return them."""
        closed = self.scores.settle(self._newest_s, self._truth)
        for one in closed:
            if "model" in one.said:
                model = one.said["model"]
                self._stretches[one.horizon_s].learn(model.low <= one.truth <= model.high)
        return closed

    def accuracies(self, node: str, peer: str) -> list[Accuracy]:
        """What every method was worth here lately."""
        found = []
        for horizon_s, role, band in self.scores.told():
            worth = self.scores.worth(horizon_s, role)
            ends = {"node": node, "peer": peer, "horizon_s": horizon_s}
            what = {"role": role, "method": band.method, "version": band.version}
            found.append(msgspec.convert({**ends, **what, **asdict(worth)}, Accuracy))
        return found

    def _truth(self, after_s: float, until_s: float) -> float | None:
        """Mean capacity measured in ``(after_s, until_s]``, None when hardly anything was."""
        measured = sum(after_s < one.at <= until_s for one in self.series)
        return self._ewma.truth(after_s, until_s) if measured >= _MEASURED_SHARE * (until_s - after_s) else None

    def _streams(self, rate_bytes_per_s: float) -> int:
        rtts_ms = [sample.rtt_ms for sample in self._recent if sample.rtt_ms > 0]
        if not rtts_ms:
            return self._default_streams
        segments = sum(sample.sent_bytes for sample in self._recent) / MSS_BYTES
        resent = sum(max(0, sample.retransmits) for sample in self._recent)
        loss = min(1.0, resent / segments) if segments >= 1 else 0.0
        if self._recent[-1].congestion == "bbr":  # it does not take loss for congestion
            loss = 0.0
        # The smallest round trip is the path's own; the others include the queue that the streams themselves fill.
        return streams_for(rate_bytes_per_s, min(rtts_ms) / 1000, loss)


class Links:
    """Every link of a site, by (node, peer)."""

    def __init__(self, settings: Prediction, default_streams: int) -> None:
        self._settings = settings
        self._default_streams = default_streams
        self._links: dict[tuple[str, str], Link] = {}

    def of(self, node: str, peer: str) -> Link:
        """The link `node` → `peer`, made when first asked for."""
        key = (node, peer)
        if key not in self._links:
            self._links[key] = Link(self._settings, self._default_streams)
        return self._links[key]

    def all(self) -> dict[tuple[str, str], Link]:
        """Every link that was asked for."""
        return self._links


def _band(method: str, point: Point) -> Band:
    return Band(method, "", point.mean, point.low, point.high)
