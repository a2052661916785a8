"""One of the forecasters that are averaged: a net and trees that saw the same groups, each with a share of the say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.data import Array
from models.bandwidth.forest import Forest
from models.bandwidth.inference import EDGES, Floats, Lstm
from models.bandwidth.reckoning import quantiles_of
from models.bandwidth.seeing import LEVEL

_SAY = 0.5  # of the trees; of a link's first cell they have all of it: a net has nothing to remember there


@dataclass(frozen=True)
class Member:
    """A net and trees."""

    net: Lstm
    trees: Forest

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> "Member":
        """From what `arrays` gave.

        Raises:
            ValueError: something is missing or has another shape.
        """
        parts: dict[str, dict[str, NDArray[Any]]] = {"net": {}, "trees": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = array
        return Member(Lstm(parts["net"]), Forest(parts["trees"]))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that is stored."""
        parts = {"net": self.net.arrays, "trees": self.trees.arrays}
        return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def __call__(
        self, steps: Floats, link: np.ndarray, at: np.ndarray, features: Floats, simple: Floats
    ) -> tuple[Array, Array]:
        """As `Lstm` answers the same: the net's distribution, its middle moved towards what the trees say."""
        centre, cdf = self.net(steps, link, at, features, simple)
        seen = features.copy()
        seen[self.net.elsewhere(features), LEVEL] = np.nan
        middle = np.empty((len(cdf), 1))
        quantiles_of(cdf, np.full(middle.shape, 0.5), EDGES, middle)
        say = np.where(at == 0, 1.0, _SAY)
        return centre + say * (self.trees(seen) - centre - middle[:, 0]), cdf
