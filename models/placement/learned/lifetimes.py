"""How much longer a guest will stay, from those that have left: survival by hierarchy, with its uncertainty.

Discrete hazards after Kaplan and Meier, so guests that are still there count as far as they came. A kind of guest with
few departures leans on the one above it: tenant and shape together on the shape, a shape on all guests. A guest is
asked about again as it ages (as NILAS and LAVA do), which is worth more than a good guess on its arrival.
"""

from dataclasses import dataclass

import numpy as np

from models.placement.kernel import Floats, Ints
from models.placement.tables import Guests

EDGES_S: Floats = np.concatenate([[0.0], np.geomspace(60.0, 40 * 86_400.0, 60)])
"""Ages at which the bins begin; the last one is open."""
BINS = len(EDGES_S) - 1
_LEAN = 20.0
"""So many guests of its own weigh as much as the kind above."""
_OWN = 20
"""A tenant's shape is a kind of its own from so many guests on."""
_LEAST = 1e-4
_HORIZON_S = np.maximum(EDGES_S[1:], 60.0)
_MIDDLE_S = np.sqrt(np.maximum(EDGES_S[:-1], 30.0) * _HORIZON_S)


@dataclass(frozen=True, slots=True)
class Remaining:
    """Seconds, each (k,): the geometric mean, and the bounds between which four of five stay."""

    typical: Floats
    low: Floats
    high: Floats


class Lifetimes:
    """Remaining lifetimes by kind of guest and age.

    Args:
        kinds: (vcpus, memory in GiB, tenant) of each row of `hazards` but the last, which is of all guests; tenant -1
            stands for any.
        hazards: (kinds + 1, BINS) the chance to leave within a bin for who reached it.
    """

    def __init__(self, kinds: dict[tuple[float, float, int], int], hazards: Floats) -> None:
        self._kinds = kinds
        chance = np.clip(hazards, _LEAST, 1.0)
        chance[:, -1] = 1.0
        self._typical, self._low, self._high = _tables(chance)

    @classmethod
    def fit(cls, guests: Guests, until_s: float) -> "Lifetimes":
        """What is known at `until_s` from the guests that arrived before.

        Raises:
            ValueError: none has left by then.
        """
        seen = guests.arrive < until_s
        gone = guests.leave[seen] <= until_s
        if not gone.any():
            raise ValueError("no guest has left yet: there is nothing to learn lifetimes from")
        life = np.minimum(guests.leave[seen], until_s) - guests.arrive[seen]
        bins = _bin(life)
        whole = _hazards(bins, gone, np.full(BINS, 1.0 / BINS))
        rows: list[Floats] = []
        kinds: dict[tuple[float, float, int], int] = {}
        vcpus, memory, tenant = guests.vcpus[seen], guests.memory[seen], guests.tenant[seen]
        for cores, gib in sorted(set(zip(vcpus.tolist(), memory.tolist(), strict=True))):
            of_shape = np.flatnonzero((vcpus == cores) & (memory == gib))
            shape = _hazards(bins[of_shape], gone[of_shape], whole)
            kinds[cores, gib, -1] = len(rows)
            rows.append(shape)
            names, counts = np.unique(tenant[of_shape], return_counts=True)
            for name in names[counts >= _OWN].tolist():
                own = of_shape[tenant[of_shape] == name]
                kinds[cores, gib, name] = len(rows)
                rows.append(_hazards(bins[own], gone[own], shape))
        return cls(kinds, np.array([*rows, whole]))

    def kinds(self, guests: Guests) -> Ints:
        """(g,) the row of each guest: its tenant's and shape's, else its shape's, else all guests'."""
        kinds, last = self._kinds, len(self._typical) - 1
        columns = zip(guests.vcpus.tolist(), guests.memory.tolist(), guests.tenant.tolist(), strict=True)
        rows = (kinds.get((c, m, t), kinds.get((c, m, -1), last)) for c, m, t in columns)
        return np.fromiter(rows, np.int64, len(guests.vcpus))

    def remaining(self, kinds: Ints, age_s: Floats) -> Remaining:
        """For guests of these `kinds` that have run for `age_s`, (k,) each."""
        bins = _bin(age_s)
        return Remaining(self._typical[kinds, bins], self._low[kinds, bins], self._high[kinds, bins])


def _bin(seconds: Floats) -> Ints:
    return np.clip(np.searchsorted(EDGES_S, seconds, side="right") - 1, 0, BINS - 1).astype(np.int64)


def _hazards(bins: Ints, gone: np.ndarray, above: Floats) -> Floats:
    """(BINS,) of those who reached each bin, the share that left in it, leaning on the kind `above`."""
    left = np.bincount(bins[gone], minlength=BINS)
    reached = np.bincount(bins, minlength=BINS)[::-1].cumsum()[::-1]
    return np.asarray((left + _LEAN * above) / (reached + _LEAN), np.float64)


def _tables(hazards: Floats) -> tuple[Floats, Floats, Floats]:
    """(kinds, BINS) each: typical, low and high seconds that are left to who is at the beginning of a bin."""
    typical, low, high = np.empty_like(hazards), np.empty_like(hazards), np.empty_like(hazards)
    for begin in range(BINS):
        later = hazards[:, begin:]
        stays = np.cumprod(1.0 - later, axis=1)
        leaves = np.concatenate([np.ones((len(later), 1)), stays[:, :-1]], axis=1) - stays
        left_s = np.maximum(_MIDDLE_S[begin:] - EDGES_S[begin], 30.0)
        typical[:, begin] = np.exp(leaves @ np.log(left_s))
        until = np.cumsum(leaves, axis=1)
        low[:, begin] = left_s[np.argmax(until >= 0.1, axis=1)]
        high[:, begin] = left_s[np.argmax(until >= 0.9, axis=1)]
    return typical, low, high
