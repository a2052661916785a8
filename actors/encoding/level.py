"""Which zstd level: as high as the CPU beside the guests allows while the wire is slow, lower when it is not."""

LEVEL_MIN = 1
LEVEL_MAX = 9
START_UNKNOWN = 2
# (link in bytes/s at least, level to begin with): about 200 MB/s of payload per core at level 3, 300 at level 1.
START = ((25e6, 1), (5e6, 2), (0.0, 3))
WINDOW_S = 0.5
WIRE_IS_SLOW = 0.5
WIRE_IS_FAST = 0.1
ENCODER_IS_BUSY = 0.5
# Share of its own time that the encoder spends on a core. Below it other processes, the guest among them, want the
# cores more: then a higher level slows them, and the transport with them, and the wire runs dry.
CORE_IS_FREE = 0.85


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
        self._encode_s = self._cpu_s = self._wire_s = self._qemu_s = 0.0

    def observe(self, *, encode_s: float, cpu_s: float, wire_s: float, qemu_s: float) -> None:
        """Note how long a batch took to encode, on the clock and on a core, and its waits for the wire and for QEMU."""
        self._encode_s += encode_s
        self._cpu_s += cpu_s
        self._wire_s += wire_s
        self._qemu_s += qemu_s
        total_s = self._encode_s + self._wire_s + self._qemu_s
        if not self._adapts or total_s < WINDOW_S:
            return
        if self._cpu_s < CORE_IS_FREE * self._encode_s:
            self.level = max(self.level - 1, LEVEL_MIN)
        elif self._wire_s > WIRE_IS_SLOW * total_s:
            self.level = min(self.level + 1, LEVEL_MAX)
        elif self._wire_s < WIRE_IS_FAST * total_s and self._encode_s > ENCODER_IS_BUSY * total_s:
            self.level = max(self.level - 1, LEVEL_MIN)
        self._encode_s = self._cpu_s = self._wire_s = self._qemu_s = 0.0
