"""A recorded link: capacity over time, each sample holding until the next."""

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.history import Array


class Link:
    """Bytes per second from `begins_s` on; times in seconds of the trace.

    Args:
        at_s: rising times of the samples, shape (n,), n > 1; each holds until the next, the last as long as the one
            before.
        bytes_per_s: capacities, shape (n,), at least 0.
    """

    def __init__(self, at_s: Array, bytes_per_s: Array) -> None:
        assert len(at_s) == len(bytes_per_s) >= 2
        assert np.all(np.diff(at_s) > 0)
        edges: NDArray[np.float64] = np.append(at_s, 2 * at_s[-1] - at_s[-2])
        self._edges: list[float] = [float(edge) for edge in edges]
        self._rates: list[float] = [float(rate) for rate in bytes_per_s]
        self._sums: list[float] = [0.0, *map(float, np.cumsum(bytes_per_s * np.diff(edges)))]

    @property
    def begins_s(self) -> float:
        """Time of the first sample."""
        return self._edges[0]

    @property
    def ends_s(self) -> float:
        """Nothing is known from here on."""
        return self._edges[-1]

    def rate(self, at_s: float) -> float:
        """Capacity at that time; after the end the last one."""
        return self._rates[self._index(at_s)]

    def carried(self, from_s: float, until_s: float) -> float:
        """Bytes that the link can carry between the two."""
        return self._sum(until_s) - self._sum(from_s)

    def mean(self, from_s: float, until_s: float) -> float:
        """Mean capacity between the two."""
        return self.carried(from_s, until_s) / (until_s - from_s)

    def lowest(self, from_s: float, until_s: float) -> float:
        """The least capacity between the two."""
        return min(self._rates[self._index(from_s) : self._index(until_s) + 1])

    def takes_s(self, from_s: float, count_bytes: float) -> float:
        """Seconds from `from_s` until so many bytes have crossed; infinite when the recording ends before."""
        target = self._sum(from_s) + count_bytes
        if count_bytes <= 0:
            return 0.0
        if target > self._sums[-1]:
            return float("inf")
        index = bisect_left(self._sums, target) - 1  # the capacity of this sample is above 0
        return self._edges[index] + (target - self._sums[index]) / self._rates[index] - from_s

    def _index(self, at_s: float) -> int:
        return min(max(bisect_right(self._edges, at_s) - 1, 0), len(self._rates) - 1)

    def _sum(self, at_s: float) -> float:
        index = self._index(at_s)
        return self._sums[index] + self._rates[index] * (at_s - self._edges[index])
