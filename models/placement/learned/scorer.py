"""The learned score of a node for a request, its limits, and how it becomes tensors and back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.placement.cluster import Floats

if TYPE_CHECKING:
    import torch

    from models.placement.rules import Knobs

SCORED: tuple[str, ...] = (
    "tight",
    "cpu_left",
    "memory_left",
    "node_used",
    "node_empty",
    "order",
    "doublings",
    "shorter",
    "tenant_elsewhere",
    "apart",
    "fresh",
    "site_free",
    "lost8",
    "lost16",
    "lost32",
)
"""The features that are learned over: they differ between nodes, and a live cluster knows them too. First fit
(``order``), best fit (``tight``), a tenant that keeps its site (``tenant_elsewhere``, ``apart``, ``fresh``) and NILAS
(``doublings``, ``node_empty``) are points of their space."""

LIMITS: tuple[str, ...] = ("vcpus", "memory_gib", "cpu", "node_memory_gib", "nodes")
"""What a version is limited in: a request's size, a cell's or node's size, and how many nodes there are."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """``weights @ features`` (more is better), the same for 10 nodes as for 10,000.

    `weights` (len(SCORED),); `low` and `high` (len(LIMITS),) are the least and the most that the training saw.
    """

    weights: Floats
    low: Floats
    high: Floats

    def knobs(self) -> "Knobs":
        """What the simulator's `SCORED` rule takes."""
        from models.placement.rules import Knobs, linear_weights  # compiled kernels, which serving does without

        named = dict(zip(SCORED, self.weights.tolist(), strict=True))
        return Knobs(linear_weights(**named), np.zeros((0, 5)), 0)

    def tensors(self) -> "dict[str, torch.Tensor]":
        """As `torch.save` writes them."""
        import torch

        return {name: torch.from_numpy(getattr(self, name).copy()) for name in ("weights", "low", "high")}


def scorer_of(tensors: "dict[str, torch.Tensor]") -> Scorer:
    """The scorer that `Scorer.tensors` wrote.

    Raises:
        ValueError: they are another shape, or not finite.
    """
    sizes = {"weights": len(SCORED), "low": len(LIMITS), "high": len(LIMITS)}
    columns = {}
    for name, size in sizes.items():
        if name not in tensors or tuple(tensors[name].shape) != (size,):
            raise ValueError(f"no placement scorer: {name} must have {size} numbers")
        columns[name] = np.asarray(tensors[name].numpy(), np.float64)
    if not all(np.isfinite(column).all() for column in columns.values()):
        raise ValueError("no placement scorer: its numbers must be finite")
    return Scorer(**columns)
