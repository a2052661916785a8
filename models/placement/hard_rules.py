"""The hard rules: which nodes may not take a guest, and why. No score can overrule them."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from models.placement.cluster import Bools, Cluster, Node, Request


class HardRule(StrEnum):
    """In the order in which they are looked at: a node's reason is the first that forbids it."""

    EXCLUDED = "excluded"
    SITE = "site"
    SOVEREIGNTY = "sovereignty"
    STATE = "state"
    MACHINE = "machine"
    LABELS = "labels"
    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti-affinity"
    MEMORY = "memory"
    VCPUS = "vcpus"


@dataclass(frozen=True, slots=True)
class _Check:
    """`forbids` gives the nodes (n,) that a rule keeps a request from, `says` why it does so for one of them."""

    rule: HardRule
    forbids: Callable[[Cluster, Request], Bools]
    says: Callable[[Cluster, Request, Node], str]


def first_broken(cluster: Cluster, request: Request) -> npt.NDArray[np.int64]:
    """(n,) for each of `cluster.nodes` the index in `HardRule` of the first that forbids it, -1 where none does."""
    broken = np.full(len(cluster.nodes), -1, np.int64)
    for index, check in enumerate(_CHECKS):
        broken[(broken < 0) & check.forbids(cluster, request)] = index
    return broken


def rule_of(index: int) -> HardRule:
    """The rule that `first_broken` means."""
    return _CHECKS[index].rule


def reason(index: int, cluster: Cluster, request: Request, node: Node) -> str:
    """Why the rule that `first_broken` means forbids `node`."""
    return _CHECKS[index].says(cluster, request, node)


def _per_node(cluster: Cluster, wanted: bool, forbids: Callable[[Node], bool]) -> Bools:
    if not wanted:
        return np.zeros(len(cluster.nodes), np.bool_)
    return np.array([forbids(node) for node in cluster.nodes], np.bool_)


def _not_with(cluster: Cluster, request: Request) -> Bools:
    forbidden = np.zeros(len(cluster.nodes), np.bool_)
    for group in request.together:
        holders = cluster.of_group(group, request.guest)
        if holders.any():
            forbidden |= ~holders
    return forbidden


def _too_near(cluster: Cluster, request: Request) -> Bools:
    forbidden = np.zeros(len(cluster.nodes), np.bool_)
    for group in request.apart:
        forbidden |= cluster.of_group(group, request.guest)
    return forbidden


def _no_mate(_cluster: Cluster, request: Request, node: Node) -> str:
    here = {group for guest in node.guests if guest.name != request.guest for group in guest.groups}
    return f"lacks guests of {', '.join(sorted(request.together - here))}"


def _rival(_cluster: Cluster, request: Request, node: Node) -> str:
    guest = next(one for one in node.guests if one.name != request.guest and one.groups & request.apart)
    return f"holds {guest.name} of {', '.join(sorted(guest.groups & request.apart))}"


def _allowed(cluster: Cluster, node: Node) -> int:
    return int(node.cpus * cluster.max_vcpus_per_cpu)


_CHECKS = (
    _Check(
        HardRule.EXCLUDED,
        lambda c, r: _per_node(c, bool(r.exclude), lambda node: node.name in r.exclude),
        lambda _c, _r, _node: "excluded (the guest's present node, or one that refused it)",
    ),
    _Check(
        HardRule.SITE,
        lambda c, r: _per_node(c, bool(r.site), lambda node: node.site != r.site),
        lambda _c, r, node: f"in site {node.site}, not {r.site}",
    ),
    _Check(
        HardRule.SOVEREIGNTY,
        lambda c, r: _per_node(c, bool(r.sites), lambda node: node.site not in r.sites),
        lambda _c, r, node: f"in site {node.site}, allowed are {', '.join(sorted(r.sites))}",
    ),
    _Check(HardRule.STATE, lambda c, _r: ~c.up, lambda _c, _r, node: f"is {node.state}"),
    _Check(
        HardRule.MACHINE,
        lambda c, r: _per_node(c, bool(r.machine), lambda node: r.machine not in node.machines),
        lambda _c, r, _node: f"has no machine type {r.machine}",
    ),
    _Check(
        HardRule.LABELS,
        lambda c, r: _per_node(c, bool(r.labels), lambda node: not r.labels <= node.labels),
        lambda _c, r, node: f"lacks the labels {', '.join(sorted(r.labels - node.labels))}",
    ),
    _Check(HardRule.AFFINITY, _not_with, _no_mate),
    _Check(HardRule.ANTI_AFFINITY, _too_near, _rival),
    _Check(
        HardRule.MEMORY,
        lambda c, r: c.free_mib - c.headroom_mib < r.memory_mib,
        lambda c, r, node: (
            f"needs {r.memory_mib} MiB and {c.headroom_mib} MiB of headroom, has {node.free_mib} MiB free"
        ),
    ),
    _Check(
        HardRule.VCPUS,
        lambda c, r: c.vcpus_in_use + r.vcpus > c.allowed,
        lambda c, r, node: (
            f"{node.vcpus_in_use} of at most {_allowed(c, node)} virtual CPUs are in use, {r.vcpus} more are needed"
        ),
    ),
)
