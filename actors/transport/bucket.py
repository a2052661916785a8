"""A cap on bytes per second. Pure: the caller brings the time."""


class TokenBucket:
    """Lets `bytes_per_s` through, with bursts of a twentieth of a second; 0 means no cap.

    What is spent may exceed what is there (a frame is never cut): the debt is waited for afterwards.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = 0
        self._burst_bytes = self._tokens = self._filled_at_s = 0.0
        self.change(bytes_per_s)

    def change(self, bytes_per_s: int) -> None:
        """From now on another rate; the debt of a faster one is forgotten."""
        if bytes_per_s != self.bytes_per_s:
            self.bytes_per_s = bytes_per_s
            self._burst_bytes = self._tokens = bytes_per_s / 20

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be sent; 0 when now."""
        if not self.bytes_per_s:
            return 0.0
        if self._filled_at_s:
            gained = max(0.0, now_s - self._filled_at_s) * self.bytes_per_s
            self._tokens = min(self._burst_bytes, self._tokens + gained)
        self._filled_at_s = now_s
        return 0.0 if self._tokens > 0 else -self._tokens / self.bytes_per_s + 1e-4

    def spend(self, count_bytes: int) -> None:
        """`count_bytes` were sent."""
        if self.bytes_per_s:
            self._tokens -= count_bytes
