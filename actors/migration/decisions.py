"""What a move makes of forecasts of its link: each decision wants another part of what is known. Pure.

The level of compression and the pace to which QEMU is held go by what is expected over the time to come. The pause goes
by what it carries over the next second, as surely as ``novacron bench replay`` found to pay (docs/decisions.md).
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from actors.hypervisor.messages import Aim
from actors.prediction.messages import Forecast
from models.bandwidth.forecast import QUANTILES

SOON_S = 1.0
"""The pause lies within so much: the horizon of the forecast that it goes by."""
SURE = 0.5
"""The link carries less than that in one of two seconds to come; waiting for more costs more moves than it saves."""
SURE_SHARE_MIN = 0.1
"""Of what is expected: where outages are the rule, certainty is to be had of nothing at all."""
LATER_S = (5.0, 120.0)
"""A move asks as far ahead as it expects to last, within these bounds."""
UNKNOWN_S = -1.0
AHEAD_S = 30.0
"""As long as nothing is known of how long it lasts."""


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The forecasts that a move goes by: of the next `SOON_S`, and of the time that it has left. None: not known."""

    soon: Forecast | None = None
    later: Forecast | None = None


def known(forecast: Forecast | None) -> Forecast | None:
    """The forecast, None when it says nothing."""
    return forecast if forecast is not None and forecast.samples and forecast.mean > 0 else None


def quantile(forecast: Forecast, share: float) -> float:
    """The rate that the link stays below with probability `share`; between the quantiles told, on a straight line."""
    told: tuple[Sequence[float], Sequence[float]] = (QUANTILES, forecast.quantiles)
    if len(forecast.quantiles) != len(QUANTILES):  # of a predictor of an older version
        told = ((0.1, 0.5, 0.9), (forecast.low, forecast.mean, forecast.high))
    return float(np.interp(share, *told))


def expected_rate(outlook: Outlook) -> float:
    """Bytes per second that the link is expected to carry, 0 when that is unknown."""
    forecast = known(outlook.later)
    return forecast.mean if forecast is not None else 0.0


def sure_rate(outlook: Outlook) -> float:
    """Bytes per second that a pause may count on, 0 when that is unknown."""
    forecast = known(outlook.soon)
    if forecast is None:
        return 0.0
    return max(quantile(forecast, SURE), SURE_SHARE_MIN * forecast.mean)


def streams_of(outlook: Outlook) -> int:
    """Connections to use, 0 when nobody knows: what is expected decides, for a few too many cost next to nothing."""
    return outlook.later.streams if outlook.later is not None else 0


def horizon_s(eta_s: float) -> float:
    """How far a move with `eta_s` left (negative: not known) asks ahead."""
    shortest, longest = LATER_S
    return min(max(eta_s, shortest), longest) if eta_s >= 0 else AHEAD_S


def aim_of(outlook: Outlook, *, pause_ms: int, fixed_ms: float, rtt_ms: float, cap: float) -> Aim:
    """What the source's agent is to aim at; `cap`: bytes per second that the move may take at most, 0: no cap."""
    rates = [expected_rate(outlook), sure_rate(outlook)]
    if cap > 0:
        rates = [min(rate, cap) for rate in rates]
    return Aim(
        pause_ms=pause_ms, fixed_ms=fixed_ms, link_bytes_per_s=rates[0], sure_bytes_per_s=rates[1], rtt_ms=rtt_ms
    )
