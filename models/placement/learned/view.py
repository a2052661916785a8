"""The features of `SCORED` for a live cluster, as the simulator has them: numpy, one pass over the nodes."""

import numpy as np

from models.placement.cluster import Cluster, Floats, Request
from models.placement.learned.scorer import LIMITS, SCORED, Scorer

_MIB = 1024.0
_HOUR_S = 3600.0
_EPS = 1e-9
_SLACK = {"vcpus": 2.0, "memory_gib": 2.0, "cpu": 2.0, "node_memory_gib": 2.0, "nodes": 20.0}
"""How many times less or more than in training a version still answers for; the score doesn't depend on the number
of nodes, so there it is far."""


def features(cluster: Cluster, request: Request) -> Floats:
    """(n, len(SCORED)) for each node of `cluster`, fitting or not.

    A node's cores are the virtual CPUs that it may give. What is known of remaining lifetimes
    (`Guest.remaining_s`, `Request.remaining_s`) counts on nodes whose guests all have one.
    """
    cores, whole = np.maximum(cluster.allowed, 1.0), np.maximum(cluster.memory_mib, 1.0)
    free = np.maximum(cluster.allowed - cluster.vcpus_in_use, 0.0)
    empty = cluster.vcpus_in_use == 0
    for row in np.flatnonzero(empty).tolist():
        empty[row] = not cluster.nodes[row].guests
    doublings, shorter = _outlasting(cluster, request, empty)
    site_free = _per_site(cluster, np.where(cluster.up, free, 0.0), np.where(cluster.up, cluster.allowed, 0.0))
    elsewhere, apart, is_new = _tenant(cluster, request)
    cpu_left, memory_left = (free - request.vcpus) / cores, (cluster.free_mib - request.memory_mib) / whole
    columns = {
        "tight": np.minimum(cpu_left, memory_left),
        "cpu_left": cpu_left,
        "memory_left": memory_left,
        "node_used": 1.0 - free / cores,
        "node_empty": empty.astype(np.float64),
        "order": np.arange(len(cores)) / max(len(cores), 1),
        "doublings": doublings,
        "shorter": shorter,
        "tenant_elsewhere": elsewhere,
        "apart": apart,
        "fresh": site_free if is_new else np.zeros(len(cores)),
        "site_free": site_free,
        "lost8": _lost(free, request.vcpus, 8.0),
        "lost16": _lost(free, request.vcpus, 16.0),
        "lost32": _lost(free, request.vcpus, 32.0),
    }
    return np.stack([columns[name] for name in SCORED], axis=1)


def outside(scorer: Scorer, cluster: Cluster, request: Request) -> str:
    """Why `scorer` must not answer: what it was never trained on, or what is not known; '' where it may."""
    up = cluster.up
    if (cluster.memory_mib[up] <= 0).any():
        return "the memory of a node is not known"
    seen = {
        "vcpus": (request.vcpus, request.vcpus),
        "memory_gib": (request.memory_mib / _MIB, request.memory_mib / _MIB),
        "cpu": _ends(cluster.allowed[up]),
        "node_memory_gib": _ends(cluster.memory_mib[up] / _MIB),
        "nodes": (int(up.sum()), int(up.sum())),
    }
    for name, low, high in zip(LIMITS, scorer.low.tolist(), scorer.high.tolist(), strict=True):
        least, most = seen[name]
        if least < low / _SLACK[name] or most > high * _SLACK[name]:
            value = least if least < low / _SLACK[name] else most
            return f"{name} {value:g} is far from the training's {low:g} to {high:g}"
    return ""


def _ends(values: Floats) -> tuple[float, float]:
    return float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))


def _lost(free: Floats, vcpus: float, block: float) -> Floats:
    blocks = np.floor((free + _EPS) / block) - np.floor((free - vcpus + _EPS) / block)
    return np.asarray(blocks - vcpus / block, np.float64)


def _per_site(cluster: Cluster, free: Floats, total: Floats) -> Floats:
    share = np.zeros(len(cluster.nodes))
    for rows in cluster.of_site.values():
        share[rows] = free[rows].sum() / max(float(total[rows].sum()), _EPS)
    return share


def _tenant(cluster: Cluster, request: Request) -> tuple[Floats, Floats, bool]:
    """The share of the tenant's guests in other sites, how many those are (log), and whether it is a new tenant."""
    if not request.tenant:
        return np.zeros(len(cluster.nodes)), np.zeros(len(cluster.nodes)), False
    count = cluster.of_tenant(request)
    total = float(count.sum())
    others = np.zeros(len(cluster.nodes))
    for rows in cluster.of_site.values():
        others[rows] = total - float(count[rows].sum())
    return others / max(total, 1.0), np.log2(1.0 + others) / 8, total == 0


def _outlasting(cluster: Cluster, request: Request, empty: np.ndarray) -> tuple[Floats, Floats]:
    """Doublings by which the guest is thought to outlast a node's last one; log hours by which it leaves before it."""
    nothing = np.zeros(len(cluster.nodes))
    if request.remaining_s is None:
        return nothing, nothing
    last = np.full(len(cluster.nodes), np.nan)
    for row, node in enumerate(cluster.nodes):
        known = [guest.remaining_s for guest in node.guests if guest.name != request.guest]
        if known and None not in known:
            last[row] = max(one for one in known if one is not None)
    beyond_s = np.where(empty | np.isnan(last), 0.0, request.remaining_s - np.nan_to_num(last))
    doublings = np.floor(np.log2(1.0 + np.maximum(beyond_s, 0.0) / 900.0))
    return doublings, np.log1p(np.maximum(-beyond_s, 0.0) / _HOUR_S) / 8
