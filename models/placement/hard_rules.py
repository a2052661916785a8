"""The hard rules: which nodes may not take a guest, and why. No score can overrule them."""

from collections.abc import Callable, Iterable
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


Words = Callable[[Node], str]


@dataclass(frozen=True, slots=True)
class _Check:
    """`forbids` gives the nodes (n,) that a rule keeps a request from, `says` the words for why it does so for one."""

    rule: HardRule
    forbids: Callable[[Cluster, Request], Bools]
    says: Callable[[Cluster, Request], Words]


def first_broken(cluster: Cluster, request: Request) -> npt.NDArray[np.int64]:
    """(n,) for each of `cluster.nodes` the index in `HardRule` of the first that forbids it, -1 where none does."""
    broken = np.full(len(cluster.nodes), -1, np.int64)
    for index, check in enumerate(_CHECKS):
        broken[(broken < 0) & check.forbids(cluster, request)] = index
    return broken


def rule_of(index: int) -> HardRule:
    """The rule that `first_broken` means."""
    return _CHECKS[index].rule


def wording(index: int, cluster: Cluster, request: Request) -> Words:
    """Why the rule that `first_broken` means forbids a node."""
    return _CHECKS[index].says(cluster, request)


def _none(cluster: Cluster) -> Bools:
    return np.zeros(len(cluster.nodes), np.bool_)


def _excluded(cluster: Cluster, request: Request) -> Bools:
    forbidden = _none(cluster)
    forbidden[[row for row in map(cluster.row_of, request.exclude) if row >= 0]] = True
    return forbidden


def _outside(cluster: Cluster, sites: Iterable[str]) -> Bools:
    """The nodes in none of `sites`."""
    forbidden = ~_none(cluster)
    for site in sites:
        if site in cluster.of_site:
            forbidden &= ~cluster.of_site[site]
    return forbidden


def _without_machine(cluster: Cluster, request: Request) -> Bools:
    if not request.machine:
        return _none(cluster)
    return np.array([request.machine not in node.machines for node in cluster.nodes], np.bool_)


def _unlabelled(cluster: Cluster, request: Request) -> Bools:
    if not request.labels:
        return _none(cluster)
    return np.array([not request.labels <= node.labels for node in cluster.nodes], np.bool_)


def _not_with(cluster: Cluster, request: Request) -> Bools:
    forbidden = _none(cluster)
    for group in request.together:
        holders = cluster.of_group(group, request)
        if holders.any():
            forbidden |= ~holders
    return forbidden


def _too_near(cluster: Cluster, request: Request) -> Bools:
    forbidden = _none(cluster)
    for group in request.apart:
        forbidden |= cluster.of_group(group, request)
    return forbidden


def _same(words: str) -> Words:
    return lambda _node: words


def _no_labels(_cluster: Cluster, request: Request) -> Words:
    return lambda node: f"lacks the labels {', '.join(sorted(request.labels - node.labels))}"


def _elsewhere(words: str) -> Words:
    return lambda node: f"in site {node.site}, {words}"


def _no_mate(_cluster: Cluster, request: Request) -> Words:
    def says(node: Node) -> str:
        here = {group for guest in node.guests if guest.name != request.guest for group in guest.groups}
        return f"lacks guests of {', '.join(sorted(request.together - here))}"

    return says


def _rival(_cluster: Cluster, request: Request) -> Words:
    def says(node: Node) -> str:
        guest = next(one for one in node.guests if one.name != request.guest and one.groups & request.apart)
        return f"holds {guest.name} of {', '.join(sorted(guest.groups & request.apart))}"

    return says


def _no_memory(cluster: Cluster, request: Request) -> Words:
    needs = f"needs {request.memory_mib} MiB and {cluster.headroom_mib} MiB of headroom"
    return lambda node: f"{needs}, has {node.free_mib} MiB free"


def _no_vcpus(cluster: Cluster, request: Request) -> Words:
    per, needs = cluster.max_vcpus_per_cpu, f"virtual CPUs are in use, {request.vcpus} more are needed"
    return lambda node: f"{node.vcpus_in_use} of at most {int(node.cpus * per)} {needs}"


_CHECKS = (
    _Check(
        HardRule.EXCLUDED,
        _excluded,
        lambda _c, _r: _same("excluded (the guest's present node, or one that refused it)"),
    ),
    _Check(
        HardRule.SITE,
        lambda c, r: _outside(c, (r.site,)) if r.site else _none(c),
        lambda _c, r: _elsewhere(f"not {r.site}"),
    ),
    _Check(
        HardRule.SOVEREIGNTY,
        lambda c, r: _outside(c, r.sites) if r.sites else _none(c),
        lambda _c, r: _elsewhere(f"allowed are {', '.join(sorted(r.sites))}"),
    ),
    _Check(HardRule.STATE, lambda c, _r: ~c.up, lambda _c, _r: lambda node: f"is {node.state}"),
    _Check(HardRule.MACHINE, _without_machine, lambda _c, r: _same(f"has no machine type {r.machine}")),
    _Check(HardRule.LABELS, _unlabelled, _no_labels),
    _Check(HardRule.AFFINITY, _not_with, _no_mate),
    _Check(HardRule.ANTI_AFFINITY, _too_near, _rival),
    _Check(HardRule.MEMORY, lambda c, r: c.free_mib - c.headroom_mib < r.memory_mib, _no_memory),
    _Check(HardRule.VCPUS, lambda c, r: c.vcpus_in_use + r.vcpus > c.allowed, _no_vcpus),
)
