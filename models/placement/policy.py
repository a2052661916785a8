"""Chooses the node a guest runs on: the hard rules first, then the score, and a reason for every node."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.placement.cluster import Cluster, Request
from models.placement.hard_rules import HardRule, first_broken, rule_of, wording
from models.placement.learned import SCORER
from models.placement.learned.scorer import SCORED, Scorer, scorer_of
from models.placement.learned.view import features, outside
from models.registry import Registry, VersionInvalid

RULE = "rule"
"""What `Choice.by` says when no version chose."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen node, why, and what spoke against each other one. `by`: the version that chose, or ``rule``."""

    node: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)
    by: str = RULE


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

    version = RULE

    def place(self, cluster: Cluster, request: Request) -> Choice | Refusal:
        """Choose among the nodes of `cluster`; the same for any order of them."""
        broken = first_broken(cluster, request)
        rejected = _forbidden(cluster, request, broken)
        if not (broken < 0).any():
            return _refuse(broken, rejected)
        return _best_fit(cluster, request, broken, rejected)


class LearnedPolicy(Policy):
    """Hard rules as ever, then the node that a trained scorer likes best; the rule where it was not trained for that.

    Args:
        scorer: weights and limits.
        version: its name in the registry.
    """

    def __init__(self, scorer: Scorer, version: str) -> None:
        self._scorer = scorer
        self.version = version

    def place(self, cluster: Cluster, request: Request) -> Choice | Refusal:
        """Choose among the nodes of `cluster`; the same for any order of them."""
        broken = first_broken(cluster, request)
        rejected = _forbidden(cluster, request, broken)
        if not (broken < 0).any():
            return _refuse(broken, rejected)
        strange = outside(self._scorer, cluster, request)
        if strange:
            choice = _best_fit(cluster, request, broken, rejected)
            return replace(choice, reason=f"{choice.reason}; the rule, since {strange}")
        return self._score(cluster, request, np.flatnonzero(broken < 0), rejected)

    def _score(
        self, cluster: Cluster, request: Request, fitting: npt.NDArray[np.int64], rejected: dict[str, str]
    ) -> Choice:
        parts = features(cluster, request)[fitting] * self._scorer.weights
        scores = parts.sum(axis=1)
        first = int(np.argmax(scores))
        best = cluster.nodes[fitting[first]]
        against = parts[first] - parts
        most = np.argmax(against, axis=1).tolist()
        chosen = f"{best.name} {scores[first]:.3f}; most by "
        told = [chosen + name for name in SCORED]
        reasons, names = {**rejected}, cluster.names
        for row, score, by in zip(fitting.tolist(), scores.tolist(), most, strict=True):
            reasons[names[row]] = f"scores {score:.3f}, {told[by]}"
        del reasons[best.name]
        share = ", ".join(f"{SCORED[i]} {parts[first, i]:+.3f}" for i in np.argsort(-np.abs(parts[first]))[:3])
        reason = f"best score of {fitting.size} by {self.version}: {scores[first]:.3f} ({share})"
        return Choice(best.name, reason, reasons, self.version)


def load_policy(version: str | None = None, registry: Path | None = None) -> Policy:
    """The policy of that version; None: what is in use in `registry`, or came with the package, else the rule.

    Raises:
        VersionUnknown: there is no such version.
        VersionInvalid: it is damaged, not trusted, or no placement scorer.
    """
    known = Registry(registry, "placement")
    scorer = load_scorer(known, version)
    return Policy() if scorer is None else LearnedPolicy(scorer, version or str(known.state().in_use))


def load_scorer(registry: Registry, version: str | None = None) -> Scorer | None:
    """The scorer of that version, or of the one in use; None where none is. Raises as `load_policy` does."""
    if version is None and registry.state().in_use is None:
        return None
    loaded = registry.load(version)
    try:
        return scorer_of(loaded.tensors(SCORER))
    except ValueError as error:
        raise VersionInvalid(f"placement {loaded.version}: {error}") from error


def _forbidden(cluster: Cluster, request: Request, broken: npt.NDArray[np.int64]) -> dict[str, str]:
    """Why each forbidden node is."""
    words = {code: wording(code, cluster, request) for code in np.unique(broken).tolist() if code >= 0}
    nodes = zip(cluster.names, cluster.nodes, broken.tolist(), strict=True)
    return {name: words[code](node) for name, node, code in nodes if code >= 0}


def _best_fit(cluster: Cluster, request: Request, broken: npt.NDArray[np.int64], rejected: dict[str, str]) -> Choice:
    nodes, fitting = cluster.nodes, np.flatnonzero(broken < 0)
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


def _refuse(broken: npt.NDArray[np.int64], rejected: dict[str, str]) -> Refusal:
    if not broken.size:
        return Refusal(None, "there is no node")
    rule = rule_of(int(broken.max()))
    return Refusal(rule, f"no node passes the hard rules; the last ones fail at {rule}", rejected)


def _site(cluster: Cluster, request: Request, broken: npt.NDArray[np.int64]) -> str:
    """The site that the guest goes to: its tenant's if a node fits there, else the freest with one that does."""
    count = cluster.of_tenant(request)
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
