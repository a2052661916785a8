"""One move of one guest over one recorded link, in steps of 50 ms: QEMU, encoder, link and far end as fluids.

What decides is the product's own: the switchover's controller, the plan of a batch, the aim made of forecasts, the ETA.
QEMU as in its ``migration/migration.c``: it takes up a limit every 100 ms, counts what is dirty once its estimate is
below the threshold, and stops the guest when the count is below it too. Pages of a region are written to at random, so
of those that are clean ever fewer.
"""

from collections import deque

import msgspec

from actors.encoding.messages import CodecStats, LayerCount
from actors.encoding.plan import Planner, Seen
from actors.hypervisor.engine.switchover import PASSES_MIN, Arrived, Controller, Sample
from actors.hypervisor.messages import Aim, MoveStatus
from actors.migration.decisions import SOON_S, Outlook, aim_of, expected_rate, horizon_s
from actors.migration.progress import Meter
from benchmarks.replaying.guests import (
    FIXED_MS,
    MIB,
    ON_ITS_WAY_BYTES,
    PAGE_BYTES,
    REFERENCE_BYTES,
    WORK_BYTES_PER_S,
    Guest,
)
from benchmarks.replaying.link import Link
from benchmarks.replaying.systems import System

STEP_S = 0.05
QEMU_LOOKS_S = 0.1
FAR_LOOK_S = 0.4
ASK_S = 1.0
"""Every second the manager asks for forecasts."""
NEWS_S = 0.5
"""A sample is known so long after it ended."""
RTT_S = 0.05
DEADLINE_S = 600.0
"""A move that has not ended by then is given up."""
BUSY_SHARE = 0.8
"""As the predictor has it: samples of emptier seconds measure the sender."""


class Promise(msgspec.Struct, frozen=True):
    """An ETA as it was told: until `low_s` to `high_s` from `at_s` on."""

    at_s: float
    eta_s: float
    low_s: float
    high_s: float


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a move went. Seconds from its begin; `total_s` until the guest runs at the target.

    Infinite: it was given up, or the recording ended before. `sent_bytes` on the wire in all, `carried_bytes` of them
    before the stop.
    """

    total_s: float
    stopped_s: float
    pause_ms: float
    sent_bytes: float
    carried_bytes: float
    rounds: int
    promises: list[Promise]


class Move:
    """Steps one move.

    Args:
        memory_bytes: of the guest.
        system: has seen the link until `begins_s`, and sees it on.
        pause_ms: the budget.
        begins_s: in the recording's time.
    """

    def __init__(
        self, guest: Guest, memory_bytes: float, link: Link, system: System, pause_ms: int, begins_s: float
    ) -> None:
        self._guest, self._link, self._system, self._pause_ms = guest, link, system, pause_ms
        self._memory = memory_bytes
        self._region = min(guest.region_mib * MIB, memory_bytes / 2)
        self._begins_s = self._now_s = begins_s
        self._left, self._dirty = memory_bytes, 0.0
        self._counts, self._counted_s, self._dirtied = 1, begins_s, 0.0
        self._pages = self._stream = self._wire = self._guest_bytes = 0.0
        self._queued = self._queued_wire = 0.0
        self._busy: deque[bool] = deque(maxlen=round((ASK_S + NEWS_S) / STEP_S))
        self._meter = Meter()
        self._outlook = Outlook()
        self._promises: list[Promise] = []
        self._ask()
        self._controller = Controller(self._aim())
        self._planner = Planner(0, expected_rate(self._outlook))
        self._limit = self._controller.limit
        self._threshold = self._limit.threshold_bytes
        self._told: deque[Arrived] = deque(
            [Arrived(at_s=0, stream_bytes=0, wire_bytes=0)] * max(1, round(RTT_S / STEP_S))
        )

    def run(self) -> Ended:
        """Step until the guest runs at the target, or the recording ends."""
        steps = 0
        near = 1
        per_look, per_ask, per_far = round(QEMU_LOOKS_S / STEP_S), round(ASK_S / STEP_S), round(FAR_LOOK_S / STEP_S)
        until_s = min(self._link.ends_s, self._begins_s + DEADLINE_S)
        while self._now_s < until_s:
            steps += 1
            if self._step(new_limit=steps % per_look == 0):
                return self._stop()
            if steps % (near if self._controller.near else per_far) == 0:
                self._controller.arrived(msgspec.structs.replace(self._told[0], at_s=self._now_s))
                limit = self._controller.take(self._sample())
                self._limit = limit or self._limit
            if steps % per_ask == 0:
                self._ask()
                self._controller.steer(self._aim())
        return self._ended(float("inf"), float("inf"), float("inf"))

    # -- QEMU, the encoder and the link ---------------------------------------------------------------------------

    def _step(self, *, new_limit: bool) -> bool:
        """One step; True when QEMU stopped the guest."""
        before_s = self._now_s
        self._now_s += STEP_S
        self._drain(self._link.carried(before_s, self._now_s))
        self._told.append(
            Arrived(
                at_s=0, stream_bytes=int(self._stream - self._queued), wire_bytes=int(self._wire - self._queued_wire)
            )
        )
        self._told.popleft()
        clean = self._region - self._dirty
        self._dirty += min(clean, self._guest.pages_per_s * PAGE_BYTES * STEP_S * clean / self._region)
        self._send()
        if new_limit:
            self._threshold = self._limit.threshold_bytes
        if self._left >= self._threshold:
            return False
        self._dirtied = self._dirty / (self._now_s - self._counted_s)
        self._left, self._dirty = min(self._left + self._dirty, max(self._left, self._region)), 0.0
        self._counts, self._counted_s = self._counts + 1, self._now_s
        return self._left < self._threshold

    def _drain(self, capacity_bytes: float) -> None:
        self._busy.append(self._queued_wire >= capacity_bytes)
        if self._queued_wire <= 0 and self._queued <= 0:
            return
        share = min(
            1.0,
            WORK_BYTES_PER_S * STEP_S / max(self._queued, 1e-9),
            capacity_bytes / max(self._queued_wire, 1e-9),
        )
        self._queued, self._queued_wire = self._queued * (1 - share), self._queued_wire * (1 - share)

    def _ratios(self) -> tuple[float, float, float]:
        """(past the compressor, into it, out of it) for each byte of guest memory of this pass."""
        guest, level = self._guest, self._planner.level
        if self._counts >= PASSES_MIN:
            return guest.again_bytes / PAGE_BYTES, 0.0, 0.0
        content = 1.0 - guest.zero - guest.known
        left = msgspec.structs.replace(self._planner.layers, saves=guest.saves).left(level)
        return guest.known * REFERENCE_BYTES / PAGE_BYTES, content, content * left

    def _send(self) -> None:
        past, payload, body = self._ratios()
        ratio = past + body
        layers, level = self._planner.layers, self._planner.level
        cost_s = layers.other_s + payload * (layers.cost_s(level) - layers.other_s)
        room = max(0.0, ON_ITS_WAY_BYTES - self._queued_wire) / ratio
        sent = min(self._left, STEP_S / cost_s)
        if self._limit.rate_bytes_per_s:
            sent = min(sent, self._limit.rate_bytes_per_s * STEP_S)
        blocked = room < sent
        sent = min(sent, room)
        self._left -= sent
        self._guest_bytes += sent
        nonzero = 1.0 if self._counts >= PASSES_MIN else 1.0 - self._guest.zero
        self._pages += sent * nonzero
        self._stream += sent * nonzero
        self._wire += sent * ratio
        self._queued += sent * nonzero
        self._queued_wire += sent * ratio
        encode_s = sent * cost_s
        self._planner.observe(
            Seen(
                level=level, encode_s=encode_s, wire_s=max(0.0, STEP_S - encode_s) if blocked else 0.0,
                others_s=0.0 if blocked else max(0.0, STEP_S - encode_s), cpu_s=encode_s,
                zstd_s=sent * payload * (layers.cost_s(level) - layers.other_s), payload_bytes=int(sent * payload),
                body_bytes=int(sent * body), past_bytes=int(sent * past), stream_bytes=int(sent),
            )
        )  # fmt: skip

    def _stop(self) -> Ended:
        """The guest stands still until the rest has crossed."""
        past, _, body = self._ratios()
        stopped_s = self._now_s
        carried = self._wire - self._queued_wire
        rest_wire, rest = self._queued_wire + self._left * (past + body), self._queued + self._left
        self._wire += self._left * (past + body)
        pages_s = max(self._link.takes_s(stopped_s, rest_wire), rest / WORK_BYTES_PER_S)
        pause_s = pages_s + FIXED_MS / 1000
        self._queued_wire = 0.0
        return self._ended(stopped_s - self._begins_s + pause_s, stopped_s - self._begins_s, pause_s * 1000, carried)

    def _ended(self, total_s: float, stopped_s: float, pause_ms: float, carried: float | None = None) -> Ended:
        return Ended(
            total_s=total_s, stopped_s=stopped_s, pause_ms=pause_ms, sent_bytes=self._wire,
            carried_bytes=self._wire - self._queued_wire if carried is None else carried, rounds=self._counts,
            promises=self._promises,
        )  # fmt: skip

    # -- the manager ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """What the manager does every second: forecasts, the ETA."""
        if self._promises:
            self._observe()
        later = self._system.ahead(self._now_s, horizon_s(self._meter.last.eta_s))
        self._outlook = Outlook(soon=self._system.ahead(self._now_s, SOON_S), later=later)
        at_s = self._now_s - self._begins_s
        status = MoveStatus(
            outcome="running", guest_state="running", memory_total=int(self._memory), memory_remaining=int(self._left),
            iteration=self._counts,
            dirty_pages_per_s=int(self._dirtied / PAGE_BYTES),
        )  # fmt: skip
        layers = {"all": LayerCount(pages=int(self._guest_bytes / PAGE_BYTES))}
        codec = CodecStats(
            job="replay", state="running", stream_bytes=int(self._stream), wire_bytes=int(self._wire), layers=layers,
            round=self._counts,
        )  # fmt: skip
        progress = self._meter.take(at_s, status, codec, later)
        self._promises.append(Promise(at_s, progress.eta_s, progress.eta_low_s, progress.eta_high_s))

    def _observe(self) -> None:
        """The second of which there is news by now, if data waited for the link."""
        until_s = self._now_s - NEWS_S
        seen = list(self._busy)[: round(ASK_S / STEP_S)]
        if sum(seen) >= BUSY_SHARE * ASK_S / STEP_S:
            self._system.observe(until_s, self._link.mean(until_s - ASK_S, until_s))

    def _aim(self) -> Aim:
        return aim_of(
            self._outlook,
            pause_ms=self._pause_ms,
            fixed_ms=FIXED_MS,
            rtt_ms=RTT_S * 1000,
            cap=0.0,
        )

    def _sample(self) -> Sample:
        return Sample(
            at_s=self._now_s, remaining_bytes=int(self._left), counts=self._counts,
            dirty_bytes_per_s=self._guest.pages_per_s * PAGE_BYTES, stream_bytes=int(self._stream),
            page_bytes=int(self._pages), wire_bytes=int(self._wire),
        )  # fmt: skip
