"""How many TCP connections a link needs.

One connection carries at most ``MSS / RTT · 1.22 / √p`` (Mathis and others, 1997) at loss rate p, and at most one
window per round trip. So a link of rate R needs

* for loss:    ``R · RTT · √p / (1.22 · MSS)`` connections,
* for windows: ``R · RTT / WINDOW`` connections,

rounded up, whichever is more. Below 10 ms round trip time two are enough to keep both ends' cores busy; above, at
least four, because after a loss only one of them slows down.
"""

from math import ceil, sqrt

MSS_BYTES = 1448
# Linux' default tcp_wmem and tcp_rmem let a connection grow to 4 and 6 MiB; half of the smaller is usable payload.
WINDOW_BYTES = 2 << 20
MATHIS = 1.22
NEAR_RTT_S = 0.010
NEAR_FLOOR, FAR_FLOOR = 2, 4
MOST = 64


def streams_for(rate_bytes_per_s: float, rtt_s: float, loss: float) -> int:
    """Connections for a link of that rate, round trip time and loss rate (0 to 1)."""
    assert rate_bytes_per_s >= 0
    assert rtt_s >= 0
    assert 0 <= loss <= 1
    bdp_bytes = rate_bytes_per_s * rtt_s
    for_loss = bdp_bytes * sqrt(loss) / (MATHIS * MSS_BYTES)
    for_window = bdp_bytes / WINDOW_BYTES
    floor = NEAR_FLOOR if rtt_s < NEAR_RTT_S else FAR_FLOOR
    return min(MOST, max(floor, ceil(for_loss), ceil(for_window)))
