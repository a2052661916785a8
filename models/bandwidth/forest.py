"""Gradient-boosted trees as they are served: plain arrays, evaluated without scikit-learn.

One ensemble answers every link and horizon, beside a net (``member.py``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.data import Array
from models.bandwidth.descending import descend
from models.bandwidth.seeing import FEATURES

DEEPEST = 8
_TYPES = {
    "roots": np.uint32,
    "depth": np.uint32,
    "seen": np.uint32,
    "cut": np.float32,
    "below": np.uint32,
    "value": np.float32,
    "start": np.float64,
}


class Forest:
    """Trees whose leaves add up (Friedman, 2001).

    Args:
        arrays: of T trees ``roots [T]``, which of the M nodes each begins with, and ``depth [T]``, steps to the lowest
            leaf; of all nodes ``seen [M]``, ``cut [M]``, ``below [M]`` and ``value [M]`` as `descend` takes them; and
            ``start [1]``, what all leaves add to.

    Raises:
        ValueError: one is missing, or they are not trees over the features.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        missing = ", ".join(name for name in _TYPES if name not in arrays)
        if missing:
            raise ValueError(f"these are no trees: {missing} is not there")
        self.arrays = {name: np.ascontiguousarray(arrays[name], kind) for name, kind in _TYPES.items()}
        one, trees, nodes = self.arrays, len(self.arrays["roots"]), len(self.arrays["seen"])
        shapes = {
            "roots": trees,
            "depth": trees,
            "seen": nodes,
            "cut": nodes,
            "below": nodes,
            "value": nodes,
            "start": 1,
        }
        wrong = [name for name, size in shapes.items() if one[name].shape != (size,)]
        if wrong:
            raise ValueError(f"these are no trees: {', '.join(wrong)} has another shape")
        inner = np.isfinite(one["cut"])
        ends = {"roots": nodes, "depth": DEEPEST + 1, "seen": 2 * FEATURES}
        wrong = [name for name, end in ends.items() if (one[name] >= end).any()]
        wrong += ["below"] * bool((one["below"] + inner.astype(np.uint32) >= nodes).any())
        if wrong:
            raise ValueError(f"these are no trees over the features of a link: {', '.join(wrong)} is out of range")

    def __call__(self, features: NDArray[np.float32]) -> Array:
        """The logarithm of the ratio to the recent level ``[N]`` for ``features [N, FEATURES]``."""
        one = self.arrays
        out = np.full(len(features), one["start"][0])
        descend(
            np.ascontiguousarray(features, np.float32), one["roots"], one["depth"], one["seen"], one["cut"],
            one["below"], one["value"], out,
        )  # fmt: skip
        return out
