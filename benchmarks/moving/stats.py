"""Pure: percentiles of few samples."""

import math
from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float | None:
    """The smallest sample that at least `share` (0 to 1) of all are not above (nearest rank); None of none.

    Of 20 samples the 99th percentile is the largest one, so nothing is made to look better by interpolation.
    """
    ordered = sorted(samples)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
