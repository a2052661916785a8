"""Forecasts per link (node, peer): which samples count, what is answered, how right it was."""

from collections import deque

from actors.config.schema import Prediction
from actors.prediction.messages import Forecast
from actors.transport.messages import LinkSample
from models.bandwidth.calibration import Ledger
from models.bandwidth.ewma import Ewma
from models.bandwidth.streams import MSS_BYTES, streams_for

# Acknowledged bytes are a measure of capacity only while data waited for the link; a second in which the sender
# had nothing to send for a fifth of the time says how busy the sender was.
BUSY_SHARE = 0.8
# Round trip times and losses are looked at over this many samples, busy or not.
RECENT_SAMPLES = 30


class Link:
    """One link's samples and forecasts.

    Args:
        settings: half-life and history.
        default_streams: the answer while nothing is known.
    """

    def __init__(self, settings: Prediction, default_streams: int) -> None:
        self._ewma = Ewma(settings.half_life_s, settings.history_s)
        self._ledger = Ledger()
        self._recent: deque[LinkSample] = deque(maxlen=RECENT_SAMPLES)
        self._default_streams = default_streams
        self._newest_s = 0.0

    def observe(self, samples: list[LinkSample]) -> None:
        """Take new samples; those not newer than the newest one seen are repeats and ignored."""
        for sample in sorted(samples, key=lambda each: each.at):
            if sample.at <= self._newest_s:
                continue
            self._newest_s = sample.at
            self._recent.append(sample)
            if sample.busy_share >= BUSY_SHARE and sample.acked_bytes >= 0:
                # Over the busy part only: the idle rest of the second carried nothing.
                self._ewma.observe(sample.at, sample.acked_bytes / min(1.0, sample.busy_share))
            elif self._ewma.level is not None and sample.acked_bytes > self._ewma.level:
                # It can carry that at least: a link that was cut is not busy again as long as senders believe a
                # forecast from when it carried nothing.
                self._ewma.observe(sample.at, float(sample.acked_bytes))
        self._ledger.settle(self._newest_s, self._ewma.truth)

    def forecast(self, now_s: float, horizon_s: float) -> Forecast:
        """What the link will carry over the next `horizon_s` seconds."""
        now_s = max(now_s, self._newest_s)
        point = self._ewma.forecast(now_s, horizon_s)
        calibration = self._ledger.calibration
        if point is None:
            return Forecast(
                mean=0.0,
                low=0.0,
                high=0.0,
                horizon_s=horizon_s,
                method="none",
                samples=0,
                streams=self._default_streams,
                calibration=calibration,
            )
        self._ledger.made(now_s, horizon_s, point)
        return Forecast(
            mean=point.mean,
            low=point.low,
            high=point.high,
            horizon_s=horizon_s,
            method=self._ewma.method,
            samples=point.samples,
            streams=self._streams(point.mean),
            calibration=calibration,
            quantiles=list(point.quantiles),
        )

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
