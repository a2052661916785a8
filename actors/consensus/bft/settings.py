"""What a BFT core is told once. Times are in ticks."""

import msgspec


class BftSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All members of one log have the same, except for the times."""

    chain: bytes
    """Names this stretch of this log; no other has the same (a signature from elsewhere must mean nothing here)."""
    beat: int = 5
    """What got no answer is sent again after so many ticks, and everybody says where it stands."""
    timeout: int = 20
    """A view in which nothing moves for so long is given up; must be longer than a round trip and a beat."""
    doublings: int = 6
    """How often in a row that time doubles, at most."""
    batch: int = 256
    """Entries in a block, at most."""
    batch_bytes: int = 1 << 20
    """Payloads of a block together, at most."""
    payload_bytes: int = 1 << 18
    """One entry's payload, at most."""
    pending: int = 512
    """Requests of one member that wait, at most."""
    checkpoint: int = 256
    """The state is digested whenever an index passes a multiple of this."""
    window: int = 1024
    """Nobody votes for what lies further behind the last certified checkpoint than so many entries."""

    def __post_init__(self) -> None:
        """Relations between the values.

        Raises:
            ValueError: one doesn't hold.
        """
        if self.timeout <= self.beat:
            raise ValueError(f"timeout ({self.timeout} ticks) must be more than beat ({self.beat})")
        if self.window < self.checkpoint + 2 * self.batch:
            raise ValueError(
                f"window ({self.window}) must be at least checkpoint + 2 · batch: else it can block itself"
            )
        if self.payload_bytes > self.batch_bytes:
            raise ValueError("payload_bytes must be at most batch_bytes: else a request may fit into no block")
