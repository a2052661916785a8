"""Numbers that look random and follow from a seed: a core's only source of jitter.

SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) over a counter.
"""

_MASK = (1 << 64) - 1


class Chance:
    """A sequence of numbers that `seed` fixes."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, bound: int) -> int:
        """The next number, from 0 to `bound` − 1; not for cryptography."""
        assert bound > 0, "no number is below 0"
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) % bound
