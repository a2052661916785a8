"""When QEMU may stop the guest: samples of a move under way in, limits for QEMU out. No clock, no I/O.

QEMU stops the guest when what it has left, counted again at that moment, is less than ``avail-switchover-bandwidth`` ×
``downtime-limit``. Between two counts its figure only falls, so the truth is a saw-tooth: each count adds what the
guest has dirtied meanwhile. Both factors are set here so that their product is exactly what fits the pause budget,
shortly before QEMU counts; at all other times they stand at the floor, less than one page.

What was sent before has to cross first. While that alone takes too long, QEMU is held back near the end of a pass: the
link has enough to do meanwhile.
"""

from collections import deque

import msgspec

from actors.hypervisor.engine.convergence import Rounds
from actors.hypervisor.messages import Aim, Switchover

# Waiting longer makes the pages fewer, never the fixed costs less: so large a share of the budget is always the pages'.
PAGES_SHARE_MIN = 0.2
# QEMU looks at its limit every 100 ms, we look at QEMU as often, and both may be late.
LOOKAHEAD_S = 0.25
NEAR_S = 1.5
# At the floor QEMU still stops a guest of which nothing at all is left, however much is on its way. So that this does
# not happen, it gets a page off in each tenth of a second while the way is too full for a stop.
HELD_BYTES_PER_S = 40_960
# Near the end QEMU must not run ahead of the far end, only find out whether that can do more.
AHEAD = 1.25
PAGE_BYTES = 4096
# The first pass over the memory says little about the pages that come again.
PASSES_MIN = 2
RATIO_MIN_BYTES = 1 << 20
RATIO_WINDOW_S = 3.0
RATE_WINDOW_S = 0.3
# What has crossed in so long shows what the link can carry at least; in less it may be what had gathered somewhere.
SHOWN_WINDOW_S = 1.0
SIGNIFICANT = 0.1


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """QEMU's ``downtime-limit`` in ms and ``avail-switchover-bandwidth`` in bytes of guest memory per second.

    `rate_bytes_per_s`: its ``max-bandwidth``, 0 for none.
    """

    downtime_ms: int
    bandwidth_bytes_per_s: int
    rate_bytes_per_s: int = 0

    @property
    def threshold_bytes(self) -> float:
        """With less than this left QEMU stops the guest."""
        return self.downtime_ms * self.bandwidth_bytes_per_s / 1000

    @property
    def raised(self) -> bool:
        """Whether it lets QEMU stop a guest of which a page is left."""
        return self.threshold_bytes > PAGE_BYTES


FLOOR = Limit(downtime_ms=1, bandwidth_bytes_per_s=1_000_000)
# QEMU's own defaults: given back to a guest that stays.
UNSET = Limit(downtime_ms=300, bandwidth_bytes_per_s=0)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a move. `at_s` by any steady clock.

    `remaining_bytes` of guest memory that QEMU has left, by its last count; `counts`: how often it has counted;
    `dirty_bytes_per_s`: what the guest dirtied between the last two counts. `stream_bytes`: QEMU's, as far as the
    encoder has coded them, among them `page_bytes` of guest pages, zero pages left out; `wire_bytes`: what it made of
    all.
    """

    at_s: float
    remaining_bytes: int
    counts: int
    dirty_bytes_per_s: float
    stream_bytes: int
    page_bytes: int
    wire_bytes: int


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """What the target's QEMU has got of the stream, and of the wire's bytes, by the word that was heard at `at_s`."""

    at_s: float
    stream_bytes: int
    wire_bytes: int


class _Mark(msgspec.Struct, frozen=True):
    at_s: float
    stream_bytes: int
    page_bytes: int
    wire_bytes: int


class Pace(msgspec.Struct, frozen=True):
    """How fast guest memory can cross: `bytes_per_s`, and whether the link sets that, or the work on the pages.

    `link_bytes_per_s`: of the link, that it was taken for.
    """

    bytes_per_s: float
    link_bytes_per_s: float
    link_limited: bool


class Controller:
    """The controller of one move; `aim` may change at any time."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._limit = FLOOR
        self._seen = Switchover()
        self._marks: deque[_Mark] = deque()
        self._arrived: deque[Arrived] = deque()
        self._peak_arriving = 0.0
        self._again_from: int | None = None
        self._by_those_again = False
        self._peak_coding = 0.0
        self._peak_wire = 0.0
        self._shown = 0.0
        self._peak_shown = 0.0
        self._rounds = Rounds()
        self._was_raised = False
        self.blind = False
        """Whether nobody can say how far the target has come: then what is on its way counts for nothing."""
        self.near = False
        """Whether the end of QEMU's pass is so near that it must be looked at often."""

    @property
    def limit(self) -> Limit:
        """What QEMU was last told."""
        return self._limit

    @property
    def seen(self) -> Switchover:
        """How the move stands, for people."""
        return self._seen

    def steer(self, aim: Aim) -> None:
        """Aim at this from now on."""
        if aim.pause_ms != self._aim.pause_ms:
            self._rounds = Rounds()
        self._aim = aim

    def arrived(self, word: Arrived) -> None:
        """The target has come so far."""
        self.blind = False
        self._arrived.append(word)
        while self._arrived[0].at_s < word.at_s - RATIO_WINDOW_S:
            self._arrived.popleft()
        early = next((one for one in reversed(self._arrived) if one.at_s <= word.at_s - RATE_WINDOW_S), None)
        if early is not None:
            self._arriving(early, (word.stream_bytes - early.stream_bytes) / (word.at_s - early.at_s))
        early = next((one for one in reversed(self._arrived) if one.at_s <= word.at_s - SHOWN_WINDOW_S), None)
        self._shown = (word.wire_bytes - early.wire_bytes) / (word.at_s - early.at_s) if early is not None else 0.0
        self._peak_shown = max(self._peak_shown, self._shown)

    def take(self, sample: Sample) -> Limit | None:
        """The limit that QEMU is to have from now on; None: the one it has."""
        self._mark(sample)
        # Two rates of one link: QEMU is held to what is expected, the pause rests on what is sure.
        pace, sure = self._pace(sample, self._link()), self._pace(sample, self._sure_link())
        wait_ms, sure_wait_ms = self._wait_ms(sample, pace), self._wait_ms(sample, sure)
        quick = max(pace.bytes_per_s, self._peak_coding)
        self.near = sample.counts >= PASSES_MIN or sample.remaining_bytes <= quick * NEAR_S
        allowed = self._allowed(sample, pace, sure, sure_wait_ms)
        pages_ms = _ms(min(sample.remaining_bytes, allowed.threshold_bytes), pace.bytes_per_s)
        needed_ms = self._aim.fixed_ms + sure_wait_ms + _ms(sample.remaining_bytes, sure.bytes_per_s)
        if sample.counts >= PASSES_MIN:
            self._rounds.take(sample.at_s, sample.counts, needed_ms, sample.remaining_bytes)
        changed = self._differs(allowed)
        if changed:
            self._limit = allowed
        self._was_raised = self._was_raised or allowed.raised
        # At the floor QEMU stops a guest of which nothing is left; once raised, the last time that it was counts.
        tells = self.near and (allowed.raised or not self._was_raised)
        self._seen = Switchover(
            raised=allowed.raised,
            predicted_ms=self._aim.fixed_ms + wait_ms + pages_ms if tells else self._seen.predicted_ms,
            predicted_pages_ms=wait_ms + pages_ms if tells else self._seen.predicted_pages_ms,
            budget_ms=self._aim.pause_ms,
            fixed_ms=self._aim.fixed_ms,
            needed_ms=self._rounds.best_ms,
            needed_bytes=self._rounds.best_bytes,
            fitting_bytes=int(self._fitting_ms(0.0) * sure.bytes_per_s / 1000),
            stalled=self._rounds.stalled,
            link_limited=pace.link_limited,
            link_bytes_per_s=self._link(),
            dirty_bytes_per_s=sample.dirty_bytes_per_s,
        )
        return allowed if changed else None

    # -- the decision ---------------------------------------------------------------------------------------------

    def _allowed(self, sample: Sample, pace: Pace, sure: Pace, wait_ms: float) -> Limit:
        if not self.near or sure.bytes_per_s <= 0:
            return FLOOR
        fitting_ms = self._fitting_ms(wait_ms)
        # Let go only when there is room again for pages.
        held = self._limit.rate_bytes_per_s == HELD_BYTES_PER_S
        too_full = fitting_ms < (self._fitting_ms(0.0) / 2 if held else FLOOR.downtime_ms)
        soon_bytes = max(pace.bytes_per_s, self._peak_coding) * LOOKAHEAD_S
        if too_full and sample.remaining_bytes <= soon_bytes:
            return msgspec.structs.replace(FLOOR, rate_bytes_per_s=HELD_BYTES_PER_S)
        rate = 0
        if sample.remaining_bytes <= 2 * soon_bytes:
            rate = max(HELD_BYTES_PER_S + 1, int(pace.bytes_per_s * AHEAD))
        limit = Limit(
            downtime_ms=max(FLOOR.downtime_ms, int(fitting_ms)),
            bandwidth_bytes_per_s=int(sure.bytes_per_s),
            rate_bytes_per_s=rate,
        )
        fits_soon = sample.remaining_bytes <= limit.threshold_bytes + soon_bytes
        if sample.counts < PASSES_MIN or fitting_ms < FLOOR.downtime_ms or not (fits_soon and limit.raised):
            return msgspec.structs.replace(FLOOR, rate_bytes_per_s=rate)
        return limit

    def _fitting_ms(self, wait_ms: float) -> float:
        """Milliseconds of the budget that the last pages may take."""
        budget_ms = self._aim.pause_ms
        return max(budget_ms - self._aim.fixed_ms, budget_ms * PAGES_SHARE_MIN) - wait_ms

    def _differs(self, limit: Limit) -> bool:
        told = self._limit
        if limit.raised != told.raised or limit.threshold_bytes < told.threshold_bytes:
            return True
        return _much(limit.threshold_bytes, told.threshold_bytes) or _much(
            limit.rate_bytes_per_s, told.rate_bytes_per_s
        )

    # -- what was measured ----------------------------------------------------------------------------------------

    def _arriving(self, since: Arrived, rate: float) -> None:
        """Pages of the first pass, zero or known to the target, arrive faster than those that come again ever will."""
        again = self._again_from is not None and since.stream_bytes >= self._again_from
        if again and not self._by_those_again:
            self._by_those_again, self._peak_arriving = True, rate
        elif again or self._again_from is None:
            self._peak_arriving = max(self._peak_arriving, rate)

    def _mark(self, sample: Sample) -> None:
        if sample.counts >= PASSES_MIN and self._rounds.counts < PASSES_MIN:
            self._marks.clear()
            self._again_from = sample.stream_bytes
        self._marks.append(_Mark(sample.at_s, sample.stream_bytes, sample.page_bytes, sample.wire_bytes))
        while self._marks[0].at_s < sample.at_s - RATIO_WINDOW_S:
            self._marks.popleft()
        early = next((mark for mark in reversed(self._marks) if mark.at_s <= sample.at_s - RATE_WINDOW_S), None)
        if early is not None:
            lasted_s = sample.at_s - early.at_s
            self._peak_coding = max(self._peak_coding, (sample.stream_bytes - early.stream_bytes) / lasted_s)
            self._peak_wire = max(self._peak_wire, (sample.wire_bytes - early.wire_bytes) / lasted_s)

    def _pace(self, sample: Sample, link_bytes_per_s: float) -> Pace:
        by_link = link_bytes_per_s / self._ratio(sample)
        if 0 < self._peak_arriving < by_link:
            return Pace(self._peak_arriving, link_bytes_per_s, link_limited=False)
        return Pace(by_link, link_bytes_per_s, link_limited=True)

    def _ratio(self, sample: Sample) -> float:
        """Wire bytes per byte of guest memory: the worst of the last MiB and the last seconds, once there are such."""
        first, last = self._marks[0], self._marks[-1]
        lately_bytes = last.page_bytes - first.page_bytes
        if lately_bytes < RATIO_MIN_BYTES:
            return sample.wire_bytes / sample.page_bytes if sample.page_bytes else 1.0
        ratio = (last.wire_bytes - first.wire_bytes) / lately_bytes
        for mark in reversed(self._marks):
            newest_bytes = last.page_bytes - mark.page_bytes
            if newest_bytes >= RATIO_MIN_BYTES:
                ratio = max(ratio, (last.wire_bytes - mark.wire_bytes) / newest_bytes)
                break
        return max(ratio, 1e-6)

    def _link(self) -> float:
        """Bytes per second expected of the link; as long as nobody knows, the most that it has carried in this move.

        No less than what it carries now: QEMU is held back by this, so too low a forecast would never be proved wrong.
        And never only that: a second of few bytes says how little there was to send.
        """
        if self._aim.link_bytes_per_s > 0:
            return max(self._aim.link_bytes_per_s, self._shown)
        return self._peak_shown or self._peak_wire

    def _sure_link(self) -> float:
        """Bytes per second that the link carries through the pause; what crosses now says nothing of that."""
        sure = self._aim.sure_bytes_per_s
        return min(sure, self._link()) if sure > 0 else self._link()

    def _wait_ms(self, sample: Sample, pace: Pace) -> float:
        """How long the last pages wait behind what is on its way; one round trip of it is only the news' own delay."""
        if self.blind:
            return 0.0
        word = self._arrived[-1] if self._arrived else Arrived(at_s=0.0, stream_bytes=0, wire_bytes=0)
        work_ms = _ms(sample.stream_bytes - word.stream_bytes, self._peak_arriving or pace.bytes_per_s)
        link_ms = _ms(sample.wire_bytes - word.wire_bytes, pace.link_bytes_per_s)
        return max(0.0, max(work_ms, link_ms) - self._aim.rtt_ms)


def _ms(size_bytes: float, bytes_per_s: float) -> float:
    return size_bytes / bytes_per_s * 1000 if bytes_per_s > 0 else 0.0


def _much(one: float, other: float) -> bool:
    """Whether the two differ by more than a look's noise."""
    return abs(one - other) > SIGNIFICANT * max(one, other)
