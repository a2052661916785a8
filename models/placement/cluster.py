"""A cluster as a placement policy sees it, and what is asked of it."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest where it is. `groups`: those of its affinity and anti-affinity; `tenant` is '' when it is not known.

    `remaining_s`: for how much longer it is thought to stay, None when nothing is known.
    """

    name: str
    tenant: str = ""
    groups: frozenset[str] = frozenset()
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `vcpus_in_use` are those of its running guests, `free_mib` is what the host has left.

    `memory_mib` is all of its memory, 0 when it is not known.
    """

    name: str
    site: str
    state: str
    cpus: int
    free_mib: int
    vcpus_in_use: int = 0
    machines: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    guests: tuple[Guest, ...] = ()
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a guest needs; '' and empty sets ask for nothing.

    `exclude` are nodes that it must not go to (its present one). `sites` are the only ones it may be in (sovereignty).
    `labels` are those that a node must have. `together` are groups whose guests it must share a node with where there
    are any, `apart` groups whose guests it must not share one with; all members of a group ask for the same.
    `remaining_s`: for how long the guest is thought to stay, None when nothing is known.
    """

    guest: str
    memory_mib: int
    vcpus: int
    machine: str = ""
    site: str = ""
    exclude: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    tenant: str = ""
    together: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    remaining_s: float | None = None


class Cluster:
    """Nodes with different names, and what holds for all: `headroom_mib` stays free on the chosen one, and
    `max_vcpus_per_cpu` limits overcommit. In which order they are given makes no difference.

    Its columns are made once, so that many requests can be asked of one cluster.
    """

    def __init__(self, nodes: Iterable[Node], *, headroom_mib: int = 0, max_vcpus_per_cpu: float = 1.0) -> None:
        self.nodes = tuple(sorted(nodes, key=attrgetter("name")))
        self.headroom_mib = headroom_mib
        self.max_vcpus_per_cpu = max_vcpus_per_cpu
        self._found: tuple[tuple[str, str | None, frozenset[str]], list[tuple[int, Guest]]] | None = None

    @cached_property
    def names(self) -> list[str]:
        """In their order."""
        return [node.name for node in self.nodes]

    @cached_property
    def free_mib(self) -> Floats:
        """(n,) MiB."""
        return np.array([node.free_mib for node in self.nodes], np.float64)

    @cached_property
    def memory_mib(self) -> Floats:
        """(n,) MiB in all."""
        return np.array([node.memory_mib for node in self.nodes], np.float64)

    @cached_property
    def allowed(self) -> Floats:
        """(n,) virtual CPUs that a node may give."""
        return np.floor(np.array([node.cpus for node in self.nodes], np.float64) * self.max_vcpus_per_cpu)

    @cached_property
    def vcpus_in_use(self) -> Floats:
        """(n,)"""
        return np.array([node.vcpus_in_use for node in self.nodes], np.float64)

    @cached_property
    def up(self) -> Bools:
        """(n,)"""
        return np.array([node.state == "up" for node in self.nodes], np.bool_)

    @cached_property
    def of_site(self) -> dict[str, Bools]:
        """The nodes of each site, (n,), by the sites' names in their order."""
        number = {site: index for index, site in enumerate(sorted({node.site for node in self.nodes}))}
        rows = np.array([number[node.site] for node in self.nodes], np.int64)
        return {site: np.asarray(rows == index, np.bool_) for site, index in number.items()}

    def row_of(self, name: str) -> int:
        """The row of the node of that name, -1 where there is none."""
        row = bisect_left(self.names, name)
        return row if row < len(self.names) and self.names[row] == name else -1

    def of_group(self, group: str, request: Request) -> Bools:
        """(n,) the nodes that hold a guest of `group`, one of those of `request`, other than its own guest."""
        holders = np.zeros(len(self.nodes), np.bool_)
        holders[[row for row, guest in self._around(request) if group in guest.groups]] = True
        return holders

    def of_tenant(self, request: Request) -> Floats:
        """(n,) how many guests of the request's tenant other than its own guest each node holds."""
        rows = [row for row, guest in self._around(request) if guest.tenant == request.tenant]
        return np.bincount(np.array(rows, np.int64), minlength=len(self.nodes)).astype(np.float64)

    def _around(self, request: Request) -> list[tuple[int, Guest]]:
        """The guests of the request's tenant and groups, but for its own guest, with their nodes' rows.

        One pass over all guests for all questions of a request: an index over 100,000 of them costs more than many
        passes do.
        """
        sought = (request.guest, request.tenant or None, request.together | request.apart)
        if self._found is None or self._found[0] != sought:
            own, tenant, lone = sought[0], sought[1], sought[2].isdisjoint
            found = [
                (row, guest)
                for row, node in enumerate(self.nodes)
                for guest in node.guests
                if (guest.tenant == tenant or not lone(guest.groups)) and guest.name != own
            ]
            self._found = (sought, found)
        return self._found[1]
