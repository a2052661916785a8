"""Pure: which zstd level and how many channels serve QEMU's multifd+zstd best, found in a few moves."""

from collections.abc import Sequence
from typing import Final

from benchmarks.moving.rivals import Tuning
from benchmarks.moving.rows import Measured

CHANNELS: Final = (2, 4, 8)
LEVELS: Final = (1, 3, 6)
# The pause grows for some seconds before it is long enough, and then the pause itself takes a while.
_FIRST_START: Final = 0.6
_START_MIN_S: Final = 0.1
_NEAR: Final = 0.1

Tried = Sequence[tuple[Tuning, Measured]]


def next_tuning(tried: Tried, channels: int = 0, zstd_level: int = 0) -> Tuning | None:
    """What to try next: every number of channels at the cheapest level, then the other levels with the best number.

    Args:
        channels, zstd_level: given by the user; 0: to be found.
    """
    numbers, levels = (channels,) if channels else CHANNELS, (zstd_level,) if zstd_level else LEVELS
    done = {tuning for tuning, _ in tried}
    wanted = [Tuning(channels=number, zstd_level=levels[0]) for number in numbers]
    if done.issuperset(wanted):
        chosen = best(tried)
        number = chosen.channels if chosen else numbers[0]
        wanted = [Tuning(channels=number, zstd_level=level) for level in levels]
    return next((tuning for tuning in wanted if tuning not in done), None)


def best(tried: Tried) -> Tuning | None:
    """The tuning with the shortest total time of those that finished; the first of equals."""
    finished = [(measured.total_s, tuning) for tuning, measured in tried if measured.total_s is not None]
    return min(finished, key=lambda one: one[0])[1] if finished else None


def next_start_s(tried: Sequence[tuple[float, float | None]], aim_s: float) -> float:
    """When to begin raising the pause so that the move ends at `aim_s`.

    Args:
        tried: (when it was begun, when the move ended or None) of the moves so far.
    """
    if not tried:
        return aim_s * _FIRST_START
    start_s, total_s = tried[-1]
    if total_s is None:
        return max(_START_MIN_S, start_s / 2)
    return max(_START_MIN_S, start_s + aim_s - total_s)


def near_enough(total_s: float | None, aim_s: float) -> bool:
    """Whether a move took about as long as it was to."""
    return total_s is not None and abs(total_s - aim_s) <= _NEAR * aim_s


def tell(tried: Tried) -> str:
    """`level 1 × 2: 16.1 s; …`, in the order in which they were tried."""
    return "; ".join(
        f"level {tuning.zstd_level} × {tuning.channels}: "
        + ("not finished" if measured.total_s is None else f"{measured.total_s:.1f} s")
        for tuning, measured in tried
    )
