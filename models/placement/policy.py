"""Chooses the node a guest runs on: the hard rules first, then the score, and a reason for every node."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.placement.cluster import Cluster, Request
from models.placement.hard_rules import HardRule, first_broken, reason, rule_of
from models.registry import VersionUnknown


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen node, why, and what spoke against each other one."""

    node: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No node may take the guest. `rule` binds: some node passed all rules before it, none passed it too.

    `rule` is None for a cluster without nodes. `rejected` says what forbids each node.
    """

    rule: HardRule | None
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)


class Policy:
    """Best fit by memory, ties to the first name; where the guest's tenant is known, in the tenant's site first.

    The tenant's site is the one with most of its guests, of those that the request allows (a new tenant's: the
    freest, by the share of virtual CPUs). When no node fits there, the freest site with one that does.
    """

    def place(self, cluster: Cluster, request: Request) -> Choice | Refusal:
        """Choose among the nodes of `cluster`; the same for any order of them."""
        broken = first_broken(cluster, request)
        fitting = np.flatnonzero(broken < 0)
        nodes, codes = cluster.nodes, broken.tolist()
        rejected = {
            node.name: reason(code, cluster, request, node)
            for node, code in zip(nodes, codes, strict=True)
            if code >= 0
        }
        if not fitting.size:
            return _refuse(broken, rejected)
        site = _site(cluster, request, broken) if request.tenant else ""
        near = fitting[cluster.of_site[site][fitting]] if site else fitting
        best = nodes[near[np.argmin(cluster.free_mib[near])]]
        left_mib = best.free_mib - request.memory_mib
        reasons = {**rejected}
        for row in fitting.tolist():
            other = nodes[row]
            if site and other.site != site:
                reasons[other.name] = f"in site {other.site}, the tenant's guests go to {site}"
            elif other is not best:
                reasons[other.name] = (
                    f"would leave {other.free_mib - request.memory_mib} MiB free, {best.name} {left_mib} MiB"
                )
        where = f" in {site}, where the tenant's guests go" if site else ""
        return Choice(best.name, f"best fit of {near.size}{where}: {left_mib} MiB stay free there", reasons)


def load_policy(version: str | None = None) -> Policy:
    """The policy of that version; None: what answers now, which is the rule.

    Raises:
        VersionUnknown: there is no such version.
    """
    if version is not None:
        raise VersionUnknown(f"there is no placement policy {version}: none was trained yet; leave the version out")
    return Policy()


def _refuse(broken: npt.NDArray[np.int64], rejected: dict[str, str]) -> Refusal:
    if not broken.size:
        return Refusal(None, "there is no node")
    rule = rule_of(int(broken.max()))
    return Refusal(rule, f"no node passes the hard rules; the last ones fail at {rule}", rejected)


def _site(cluster: Cluster, request: Request, broken: npt.NDArray[np.int64]) -> str:
    """The site that the guest goes to: its tenant's if a node fits there, else the freest with one that does."""
    count = cluster.of_tenant(request.tenant, request.guest)
    free = np.where(cluster.up, np.maximum(cluster.allowed - cluster.vcpus_in_use, 0.0), 0.0)
    total = np.where(cluster.up, cluster.allowed, 0.0)
    names = [
        name
        for name in cluster.of_site
        if (not request.site or name == request.site) and (not request.sites or name in request.sites)
    ]
    guests = {name: float(count[cluster.of_site[name]].sum()) for name in names}
    share = {
        name: float(free[rows].sum()) / max(float(total[rows].sum()), 1.0)
        for name, rows in ((name, cluster.of_site[name]) for name in names)
    }
    fits = [name for name in names if (broken[cluster.of_site[name]] < 0).any()]
    home = max(names, key=lambda name: guests[name])
    if guests[home] and home in fits:
        return home
    return max(fits, key=lambda name: share[name])
