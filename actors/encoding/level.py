"""Which zstd level: as high as the CPU beside the guests allows while the wire is slow, lower when it is not."""

LEVEL_MIN = 1
LEVEL_MAX = 9
START_UNKNOWN = 3
# (link in bytes/s at least, level to begin with): about 200 MB/s of payload per core at level 3, 300 at level 1.
START = ((60e6, 1), (25e6, 2), (5e6, 3), (0.0, 4))
WINDOW_S = 0.5
WIRE_IS_SLOW = 0.5
WIRE_IS_FAST = 0.1
ENCODER_IS_BUSY = 0.5


class LevelChooser:
    """Chooses the level of the next batch.

    Args:
        fixed: the level that the configuration names; 0: adapt.
        link_bytes_per_s: forecast of the link, 0: unknown. Only where to begin: the writer's waiting tells the truth.
    """

    def __init__(self, fixed: int, link_bytes_per_s: float) -> None:
        self._adapts = fixed == 0
        self.level = fixed or (
            next(level for at_least, level in START if link_bytes_per_s >= at_least)
            if link_bytes_per_s > 0
            else START_UNKNOWN
        )
        self._encode_s = self._wire_s = self._qemu_s = 0.0

    def observe(self, *, encode_s: float, wire_s: float, qemu_s: float) -> None:
        """Note how long one batch took to encode, and how long the encoder waited for the wire and for QEMU."""
        self._encode_s += encode_s
        self._wire_s += wire_s
        self._qemu_s += qemu_s
        total_s = self._encode_s + self._wire_s + self._qemu_s
        if not self._adapts or total_s < WINDOW_S:
            return
        if self._wire_s > WIRE_IS_SLOW * total_s:
            self.level = min(self.level + 1, LEVEL_MAX)
        elif self._wire_s < WIRE_IS_FAST * total_s and self._encode_s > ENCODER_IS_BUSY * total_s:
            self.level = max(self.level - 1, LEVEL_MIN)
        self._encode_s = self._wire_s = self._qemu_s = 0.0
