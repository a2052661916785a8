"""The plan of a batch: how hard to compress, from what it costs and gains here and from what the wire takes.

Encoding and writing overlap, so a byte takes as long as the slower of the two: the cheapest level at which that time
is shortest is the best one. Where other processes want the cores (the guest and the transport among them), CPU spent
here is time lost there: then the two times add up, and what the transport spends on each byte counts too.
"""

import msgspec

# zstd's levels worth choosing between, and their measured cost (CPU seconds a byte) and share of bytes left, on a Linux
# guest of 1 GiB (docs/benchmarks.md). Only the relations between them count: they are scaled by what is measured.
LEVELS = (0, 1, 3, 6, 9)
COST_S = {0: 0.0, 1: 5.7e-9, 3: 10.9e-9, 6: 18.7e-9, 9: 41e-9}
LEFT = {0: 1.0, 1: 0.319, 3: 0.300, 6: 0.288, 9: 0.278}
OTHER_COST_S = 3.5e-9
# CPU seconds that the transport spent on each byte of the wire, on either side: 2 s for 54 MB at 100 Mbit/s.
CARRY_COST_S = 37e-9
LEVEL_UNKNOWN = 1
# The clock runs this much faster than our CPU time: others want the cores.
CONTENDED = 1.0 / 0.85
# Another level begins a new frame: a dearer one must shorten the time by this share.
WORTH = 0.05
WINDOW_S = 0.5
DWELL_S = 2.0
# The writer was waited for so long of the time: the wire was busy. How much of the rest as well is not known, unless it
# was nearly all of the time. Few bytes say nothing: waiting for a thread to be woken takes as long.
WIRE_IS_FULL = 0.1
WIRE_IS_ALL = 0.5
WIRE_IS_IDLE = 0.01
TELLING_BYTES = 1 << 20
# The encoder never waited and came this near to what the wire was thought to take: it may take more, so much.
ENCODER_IS_BUSY = 0.5
AT_ITS_MOST = 1.1
# Only after so many bytes without a wait: fewer may all lie in the buffers between here and the line.
ABSORBED_BYTES = 32 << 20
FASTER = 0.8
NEW_WEIGHT = 0.5
# Less than this share of what zstd takes from an ordinary guest is nothing.
SAVES_NOTHING = 0.03
# A window of less payload, mere references perhaps, tells nothing; what it shows of the content counts in full from
# so many bytes on.
LEAST_BYTES = 1 << 16
ENOUGH_BYTES = 1 << 20
# While nothing is compressed, what was known of the content fades by this share every window.
FADE = 0.005


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """What zstd costs and leaves here, as factors on the table; `other_s`: CPU seconds that everything else takes for
    each byte of QEMU's stream, be it sent or referred to.

    `saves` scales the share of bytes that a level takes away: 0 for what can't be compressed.
    """

    slower: float = 1.0
    saves: float = 1.0
    other_s: float = OTHER_COST_S

    def cost_s(self, level: int) -> float:
        """CPU seconds for each byte of payload."""
        return self.other_s + COST_S[level] * self.slower

    def left(self, level: int) -> float:
        """Bytes on the wire for each byte of payload."""
        return max(0.001, 1.0 - (1.0 - LEFT[level]) * self.saves)


def time_s(layers: Layers, level: int, wire_s: float, contention: float) -> float:
    """Seconds that a byte of payload takes at `level`, with a wire of `wire_s` seconds a byte."""
    encoding_s, writing_s = layers.cost_s(level) * contention, layers.left(level) * wire_s
    if contention <= CONTENDED:
        return max(encoding_s, writing_s)
    return encoding_s + writing_s + layers.left(level) * CARRY_COST_S * contention


def best(layers: Layers, wire_s: float, contention: float) -> int:
    """The level to use; the cheapest of those that are equally fast.

    A slower wire never gets a lower level, and more contention never a higher one (tests/unit/encoding/test_plan.py).
    """
    chosen = min(LEVELS, key=lambda level: time_s(layers, level, wire_s, min(contention, CONTENDED)))
    if contention > CONTENDED:
        chosen = min(chosen, min(LEVELS, key=lambda level: time_s(layers, level, wire_s, contention)))
    return chosen


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One batch: its time on the clock (encoding, waiting for the wire, for others), on a core, and its bytes.

    `others_s`: for QEMU, or for the far side to take what it was referred to. `zstd_s` is the part of `cpu_s` that
    compression took; `payload_bytes` went into it at `level` and `body_bytes` came out, `past_bytes` went past it.
    `stream_bytes`: QEMU's, most of which may have become references.
    """

    level: int
    encode_s: float
    wire_s: float
    others_s: float
    cpu_s: float
    zstd_s: float
    payload_bytes: int
    body_bytes: int
    past_bytes: int = 0
    stream_bytes: int = 0


class Planner:
    """Chooses the level of the next batch.

    Args:
        fixed: the level that the configuration names; 0: adapt.
        link_bytes_per_s: forecast of the link, 0: unknown. It counts until the wire has shown its own rate.
    """

    def __init__(self, fixed: int, link_bytes_per_s: float) -> None:
        self.layers = Layers()
        self._adapts = fixed == 0
        # Seconds a byte; 0: unknown.
        self._wire_s = 1.0 / link_bytes_per_s if link_bytes_per_s > 0 else 0.0
        self.level = fixed or LEVEL_UNKNOWN
        if self._adapts and self._wire_s:
            self.level = best(self.layers, self._wire_s, 1.0)
        self._since_s = DWELL_S
        self._unhindered_bytes = 0
        self._batches: list[Seen] = []

    def observe(self, seen: Seen) -> None:
        """Take note of one batch."""
        if not self._adapts:
            return
        self._batches.append(seen)
        total_s = sum(one.encode_s + one.wire_s + one.others_s for one in self._batches)
        if total_s < WINDOW_S:
            return
        if self._payload_bytes < LEAST_BYTES:
            self._batches = []
            return
        self._learn()
        self._since_s += total_s
        encode_s, cpu_s = (sum(one.encode_s for one in self._batches), sum(one.cpu_s for one in self._batches))
        contention = max(1.0, encode_s / max(cpu_s, 1e-9))
        self._measure_wire(encode_s, total_s)
        self._batches = []
        if self._wire_s:
            self._decide(self._wire_s, contention)

    @property
    def wire_bytes_per_s(self) -> float:
        """What the wire is thought to take; 0: unknown."""
        return 1.0 / self._wire_s if self._wire_s else 0.0

    @property
    def _payload_bytes(self) -> int:
        return sum(one.payload_bytes + one.past_bytes for one in self._batches)

    def _learn(self) -> None:
        """Scale the table by what this window showed."""
        # Not for each byte of payload: among references that would be much, and pages would go raw to save nothing.
        stream_bytes = max(self._payload_bytes, sum(one.stream_bytes for one in self._batches))
        other_s = sum(one.cpu_s - one.zstd_s for one in self._batches) / stream_bytes
        layers = self.layers
        pressed = [one for one in self._batches if one.level > 0 and one.payload_bytes > 0]
        slower = saves = 1.0
        weight = FADE
        if pressed:
            pressed_bytes = sum(one.payload_bytes for one in pressed)
            weight = NEW_WEIGHT * min(1.0, pressed_bytes / ENOUGH_BYTES)
            slower = sum(one.zstd_s for one in pressed) / sum(_cost_s(one) for one in pressed)
            left = sum(one.body_bytes for one in pressed) / pressed_bytes
            saves = (1.0 - left) * pressed_bytes / sum(_saved_bytes(one) for one in pressed)
        saves = _mixed(layers.saves, saves, weight)
        self.layers = Layers(
            slower=_mixed(layers.slower, slower, weight),
            saves=saves if saves > SAVES_NOTHING or not pressed else 0.0,
            other_s=_mixed(layers.other_s, max(0.0, other_s), NEW_WEIGHT),
        )

    def _measure_wire(self, encode_s: float, total_s: float) -> None:
        """Believe the wire when it was full; take it for faster when it took what was thought its most, and waited.

        A wire that was full for part of the time carries at least what it did in all, and at most as if it had idled
        for the rest.
        """
        wire_bytes = sum(one.body_bytes + one.past_bytes for one in self._batches)
        seen_s = total_s / max(1, wire_bytes)
        waited_s = sum(one.wire_s for one in self._batches)
        self._unhindered_bytes = self._unhindered_bytes + wire_bytes if waited_s < WIRE_IS_IDLE * total_s else 0
        at_its_most = not self._wire_s or seen_s < self._wire_s * AT_ITS_MOST
        if waited_s > WIRE_IS_ALL * total_s or (waited_s > WIRE_IS_FULL * total_s and wire_bytes > TELLING_BYTES):
            least_s = waited_s / max(1, wire_bytes)
            self._wire_s = min(max(self._wire_s, least_s), seen_s) if self._wire_s else seen_s
        elif self._unhindered_bytes > ABSORBED_BYTES and encode_s > ENCODER_IS_BUSY * total_s and at_its_most:
            self._wire_s = seen_s * FASTER

    def _decide(self, wire_s: float, contention: float) -> None:
        if self._since_s < DWELL_S:
            return
        level = best(self.layers, wire_s, contention)
        before_s, after_s = (time_s(self.layers, one, wire_s, contention) for one in (self.level, level))
        if level < self.level or after_s < before_s * (1.0 - WORTH):
            self.level = level
            self._since_s = 0.0


def _cost_s(seen: Seen) -> float:
    return _of_table(COST_S, seen.level) * seen.payload_bytes


def _saved_bytes(seen: Seen) -> float:
    return (1.0 - _of_table(LEFT, seen.level)) * seen.payload_bytes


def _of_table(table: dict[int, float], level: int) -> float:
    return table[max(one for one in LEVELS if one <= level)]


def _mixed(old: float, new: float, weight: float) -> float:
    return old + (new - old) * weight
