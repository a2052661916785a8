"""What a rebalancing looks at: hosts with what they have left, and the guests on them."""

from dataclasses import dataclass

BOTH = 2
"""A guest's `cell` when it lies half and half in both cells of its host."""


@dataclass(frozen=True, slots=True)
class Host:
    """One node, of one or two NUMA cells.

    `vcpus`, `mib`: what each cell may give in all; `free`: (vCPUs, MiB) that each still has, which may be below 0.
    `takes`: whether it takes guests. `usd_h`: its price for a vCPU and hour.
    """

    name: str
    site: str
    vcpus: float
    mib: float
    free: tuple[tuple[float, float], ...]
    takes: bool = True
    machines: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    usd_h: float = 0.0


@dataclass(frozen=True, slots=True)
class Resident:
    """One guest where it is.

    `spread`: it wants both cells of a host with two. `sites` are the only ones it may be in, empty: any.
    `together`: groups that share a node; `apart`: groups of which no two do; `near`: groups that talk a lot and gain by
    one site. `fixed` says why it is not to be moved, '' when it may be.
    """

    name: str
    node: str
    vcpus: float
    mib: float
    cell: int = 0
    spread: bool = False
    machine: str = ""
    tenant: str = ""
    sites: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    together: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()
    fixed: str = ""


class Inventory:
    """Hosts and guests by name; in which order they are given makes no difference.

    Raises:
        ValueError: a name is there twice, or a guest is on a host that is not there or in a cell it lacks.
    """

    def __init__(self, hosts: list[Host], guests: list[Resident]) -> None:
        self.hosts = tuple(sorted(hosts, key=lambda host: host.name))
        self.guests = tuple(sorted(guests, key=lambda guest: guest.name))
        cells = {host.name: len(host.free) for host in self.hosts}
        if len(cells) < len(self.hosts) or len({guest.name for guest in self.guests}) < len(self.guests):
            raise ValueError("a host's or a guest's name is there twice")
        if any(count not in (1, 2) for count in cells.values()):
            raise ValueError("a host has one cell or two")
        for guest in self.guests:
            if guest.cell not in range(3 if cells.get(guest.node) == 2 else cells.get(guest.node, 0)):
                raise ValueError(f"guest {guest.name} is on {guest.node}, which is not there or has no such cell")
