"""Which node a guest should run on: pure, deterministic.

``load_policy(version).place(cluster, request)`` is the door; the simulator and its rules are beside it.
"""

from models.placement.policy import load_policy

__all__ = ["load_policy"]
