"""Whether a move gets anywhere: rounds without progress are counted. No clock, no I/O."""

# A round shorter than this is one with its neighbours: QEMU counts often when little is left.
ROUND_MIN_S = 1.0
PROGRESS = 0.05
ROUNDS_WITHOUT_PROGRESS = 2


class Rounds:
    """What a stop at the best moment of each round would have cost."""

    def __init__(self) -> None:
        self.counts = 0
        """QEMU's counts, as last seen."""
        self.best_ms = -1.0
        """The shortest pause that any round would have allowed, -1 before the first."""
        self.best_bytes = 0
        """Guest memory that was left then."""
        self._idle = 0
        self._began_s = 0.0
        self._here_ms = -1.0
        self._here_bytes = 0

    @property
    def stalled(self) -> bool:
        """True when so many rounds in a row got no nearer to a stop that waiting alone will not help."""
        return self._idle >= ROUNDS_WITHOUT_PROGRESS

    def take(self, at_s: float, counts: int, needed_ms: float, left_bytes: int) -> None:
        """Note a look at `at_s`: a stop then would take `needed_ms`, with `left_bytes` still to send.

        Only the first look after a count is true; later ones don't know what has been dirtied since.
        """
        if counts <= self.counts:
            return
        self.counts = counts
        if self._here_ms >= 0 and at_s - self._began_s >= ROUND_MIN_S:
            self._close()
        if self._here_ms < 0:
            self._began_s = at_s
        if self._here_ms < 0 or needed_ms < self._here_ms:
            self._here_ms, self._here_bytes = needed_ms, left_bytes

    def _close(self) -> None:
        if self.best_ms < 0 or self._here_ms < self.best_ms * (1 - PROGRESS):
            self._idle = 0
        else:
            self._idle += 1
        if self.best_ms < 0 or self._here_ms < self.best_ms:
            self.best_ms, self.best_bytes = self._here_ms, self._here_bytes
        self._here_ms = -1.0
