"""The loop behind `models.bandwidth.forest`, compiled: every question's way down every tree.

Indices are unsigned: a signed one costs a look whether it counts from the end.
"""

import numpy as np
from numpy.typing import NDArray

from models.bandwidth.kernel import kernel

Indices = NDArray[np.uint32]
_ABREAST = 32  # ways down at once: none waits for another's next node to come from memory
_ONE = np.uint32(1)


@kernel
def descend(
    features: NDArray[np.float32], roots: Indices, depth: Indices, seen: Indices, cut: NDArray[np.float32],
    below: Indices, value: NDArray[np.float32], out: NDArray[np.float64],
) -> None:  # fmt: skip
    """Add to ``out [N]`` the value of the leaf that each row of ``features [N, F]`` ends in, of every tree.

    Nodes of all trees lie one after the other. What is at most `cut` goes to the node `below`, what is over it to the
    one after that; of ``seen [M]`` all bits but the last say which feature, and the last that what is not known (NaN)
    counts as over. A leaf is below itself and nothing is over its cut, so all ways down a tree are `depth` steps.
    """
    node = np.empty(_ABREAST, np.uint32)
    for tree in range(len(roots)):
        for block in range((len(features) + _ABREAST - 1) // _ABREAST):
            first = np.uint64(block * _ABREAST)
            count = np.uint64(min(_ABREAST, len(features) - block * _ABREAST))
            node[:] = roots[tree]
            for _ in range(depth[tree]):
                for i in range(np.uint64(0), count):
                    here = node[i]
                    what = features[first + i, seen[here] >> _ONE]
                    over = np.uint32(what > cut[here]) | (np.uint32(np.isnan(what)) & seen[here] & _ONE)
                    node[i] = below[here] + over
            for i in range(np.uint64(0), count):
                out[first + i] += value[node[i]]
