"""When a move will be done, with an interval that holds four times out of five. Pure."""

import math

import msgspec

GROWTH_MAX = 0.8
"""Of what is sent the guest dirties at most so much meanwhile: what never ends is told by the stall, not by an ETA."""


class Band(msgspec.Struct, frozen=True):
    """How a move's time compares with what its bytes and its link would make of it: natural logarithms.

    `centre` of the ratio; `low` and `high`: how far from there eight of ten lie, with a link that is known.
    """

    centre: float
    low: float
    high: float


# Of ``novacron bench replay --tune`` with links that are known (docs/decisions.md).
FIRST_PASS = Band(centre=0.23, low=0.35, high=0.92)
AGAIN = Band(centre=0.78, low=0.62, high=2.25)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What a move has before it.

    `wire_bytes` still to cross, by the ratio of late; `dirty_bytes_per_s` of them come again while they do, known once
    `again`, when pages do come again; `work_s`: how long the hosts take for them, 0 where the link is slower.
    """

    wire_bytes: float
    dirty_bytes_per_s: float
    work_s: float
    again: bool


def time_left(left: Left, rates: tuple[float, float, float]) -> tuple[float, float, float]:
    """(expected, low, high) seconds, with `rates` of the link (expected, low, high) in bytes per second, all above 0.

    Low and high are those of the link and those of the guest put together as independent ones are: by their squares.
    """
    rate, slow, fast = rates
    band = AGAIN if left.again else FIRST_PASS
    expected_s = _seconds(left, rate)
    link_low, link_high = math.log(max(fast / rate, 1.0)), math.log(max(rate / slow, 1.0))
    centre_s = expected_s * math.exp(band.centre)
    return (
        centre_s,
        centre_s * math.exp(-math.hypot(band.low, link_low)),
        centre_s * math.exp(math.hypot(band.high, link_high)),
    )


def _seconds(left: Left, rate: float) -> float:
    growth = min(left.dirty_bytes_per_s / rate, GROWTH_MAX)
    return max(left.wire_bytes / rate, left.work_s) / (1.0 - growth)
