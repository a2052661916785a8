"""GPU fragments as FGD counts them.

Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent",
USENIX ATC 2023.
"""

import numpy as np

from models.placement.kernel import Floats, kernel
from models.placement.tables import GPUS_MAX, Guests, Nodes, State

_EPS = 1e-9


@kernel
def gpu_fragments(
    nodes: Nodes, state: State, n: int, mix: Floats, vcpus: float, memory: float, cards: int, share: float
) -> float:
    """Expected GPUs of node `n` that a request drawn from `mix` can't use, after `vcpus`, `memory`, `cards` are given.

    `mix` (m, 5): cores, GiB, GPUs, share of each, probability.
    """
    left = np.empty(GPUS_MAX)
    total = 0.0
    for i in range(nodes.gpus[n]):
        left[i] = state.gpu[n, i] - (share if (cards >> i) & 1 else 0.0)
        total += left[i]
    if total <= _EPS:
        return 0.0
    cpu = state.cpu[n, 0] + state.cpu[n, 1] - vcpus
    free = state.memory[n, 0] + state.memory[n, 1] - memory
    fragments = 0.0
    for m in range(len(mix)):
        gpus, each = mix[m, 2], mix[m, 3]
        usable, count = 0.0, 0.0
        for i in range(nodes.gpus[n]):
            if left[i] + _EPS >= each:
                usable += left[i]
                count += 1.0
        fits = gpus > 0 and count >= gpus and cpu + _EPS >= mix[m, 0] and free + _EPS >= mix[m, 1]
        fragments += mix[m, 4] * (total - usable if fits else total)
    return fragments


def request_mix(guests: Guests) -> Floats:
    """The kinds of request among `guests` and how often each comes, (m, 5), as `gpu_fragments` takes it."""
    rows = np.stack([guests.vcpus, guests.memory, guests.gpus, guests.share], axis=1)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    return np.column_stack([kinds, counts / counts.sum()]).astype(np.float64)
