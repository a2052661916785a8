"""An inventory as arrays that moves are tried on, with the hard rules of each."""

from collections import defaultdict

import numpy as np

from models.placement.cluster import Bools, Floats
from models.placement.hard_rules import HardRule
from models.placement.rebalance_inventory import BOTH, Inventory, Resident

EPS = 1e-9


class Picture:
    """Where everything is, changed by `move`. Rows are those of `inventory.hosts` (n) and `inventory.guests` (g).

    `vcpus`, `mib` (n, 2): free in each cell; `node` (g,): each guest's host; `cell` (g,): its cell, or `BOTH`.
    """

    def __init__(self, inventory: Inventory) -> None:
        hosts, guests = inventory.hosts, inventory.guests
        n = len(hosts)
        self.hosts, self.guests = hosts, guests
        self.row_of = {host.name: row for row, host in enumerate(hosts)}
        self.sites = tuple(sorted({host.site for host in hosts}))
        number = {site: index for index, site in enumerate(self.sites)}
        self.site = np.array([number[host.site] for host in hosts], np.int64)
        self.cells = np.array([len(host.free) for host in hosts], np.int64)
        self.takes = np.array([host.takes for host in hosts], np.bool_)
        self.size_vcpus = np.array([host.vcpus for host in hosts], np.float64) * self.cells
        self.size_mib = np.array([host.mib for host in hosts], np.float64) * self.cells
        self.vcpus, self.mib = np.zeros((n, 2)), np.zeros((n, 2))
        for row, host in enumerate(hosts):
            for cell, (vcpus, mib) in enumerate(host.free):
                self.vcpus[row, cell], self.mib[row, cell] = vcpus, mib
        self.node = np.array([self.row_of[guest.node] for guest in guests], np.int64)
        self.cell = np.array([guest.cell for guest in guests], np.int64)
        self.together: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(n))
        self.apart: defaultdict[str, Floats] = defaultdict(lambda: np.zeros(n))
        for row, guest in enumerate(guests):
            for group in guest.together:
                self.together[group][self.node[row]] += 1
            for group in guest.apart:
                self.apart[group][self.node[row]] += 1
        self._static: dict[tuple[str, frozenset[str], frozenset[str]], Bools] = {}

    def allowed(self, g: int, parted: frozenset[str] = frozenset()) -> Bools:
        """(n, 2) the cells that no hard rule keeps guest `g` from; column 0 means both where it is spread. The affinity
        of the groups `parted` is none."""
        guest, here = self.guests[g], self.node[g]
        ok = self._suits(guest) & self.takes
        for group in guest.together - parted:
            mates = self.together[group]
            if mates.sum() > 1:
                ok &= mates > 0
        for group in guest.apart:
            ok &= self.apart[group] == 0
        ok[here] = False
        fits = self._fits(guest)
        fits &= ok[:, None]
        return fits

    def binding(self, g: int) -> tuple[HardRule, str]:
        """The rule that keeps guest `g` from every other host: some host passes all rules before it, none passes it."""
        guest = self.guests[g]
        mated = np.ones(len(self.hosts), np.bool_)
        for group in guest.together:
            if self.together[group].sum() > 1:
                mated &= self.together[group] > 0
        lone = np.ones(len(self.hosts), np.bool_)
        for group in guest.apart:
            lone &= self.apart[group] == 0
        left = np.arange(len(self.hosts)) != self.node[g]
        need = guest.mib / 2 if guest.spread else guest.mib
        steps = (
            (HardRule.SOVEREIGNTY, self._in_sites(guest), f"allowed sites are {', '.join(sorted(guest.sites))}"),
            (HardRule.STATE, self.takes, "the other hosts take no guests"),
            (HardRule.MACHINE, self._with_machine(guest), f"no other host has machine type {guest.machine}"),
            (HardRule.LABELS, self._labelled(guest), f"no other host has {', '.join(sorted(guest.labels))}"),
            (HardRule.AFFINITY, mated, f"alone it would leave {', '.join(sorted(guest.together))}"),
            (HardRule.ANTI_AFFINITY, lone, f"each holds another of {', '.join(sorted(guest.apart))}"),
            (HardRule.MEMORY, (self.mib >= need - EPS).any(axis=1), f"none has {guest.mib:g} MiB left"),
            (HardRule.VCPUS, self._fits(guest).any(axis=1), f"none has {guest.vcpus:g} virtual CPUs left"),
        )
        for rule, passes, words in steps:
            if not (left & passes).any():
                return rule, words
            left &= passes
        raise ValueError(f"nothing keeps guest {guest.name} where it is")

    def move(self, g: int, to: int, cell: int) -> None:
        """Take guest `g` to `cell` of row `to`; whoever calls has asked `allowed`."""
        guest = self.guests[g]
        self._give(self.node[g], self.cell[g], guest, 1.0)
        for group in guest.together:
            self.together[group][self.node[g]] -= 1
            self.together[group][to] += 1
        for group in guest.apart:
            self.apart[group][self.node[g]] -= 1
            self.apart[group][to] += 1
        self.node[g], self.cell[g] = to, cell
        self._give(to, cell, guest, -1.0)

    def slot(self, g: int, to: int, column: int) -> int:
        """The cell that column `column` of `allowed` means on row `to`."""
        return BOTH if self.guests[g].spread and self.cells[to] == BOTH else column

    def _give(self, row: int, cell: int, guest: Resident, sign: float) -> None:
        cells = (0, 1) if cell == BOTH else (cell,)
        for each in cells:
            self.vcpus[row, each] += sign * guest.vcpus / len(cells)
            self.mib[row, each] += sign * guest.mib / len(cells)

    def _fits(self, guest: Resident) -> Bools:
        fits = (self.vcpus >= guest.vcpus - EPS) & (self.mib >= guest.mib - EPS)
        fits[:, 1] &= self.cells == BOTH
        if guest.spread:
            half = ((self.vcpus >= guest.vcpus / 2 - EPS) & (self.mib >= guest.mib / 2 - EPS)).all(axis=1)
            fits[:, 0] = np.where(self.cells == BOTH, half, fits[:, 0])
            fits[:, 1] = False
        return fits

    def _suits(self, guest: Resident) -> Bools:
        """(n,) what no move changes: site, machine, labels."""
        key = (guest.machine, guest.labels, guest.sites)
        found = self._static.get(key)
        if found is None:
            found = self._in_sites(guest) & self._with_machine(guest) & self._labelled(guest)
            self._static[key] = found
        return found

    def _in_sites(self, guest: Resident) -> Bools:
        return np.array([not guest.sites or host.site in guest.sites for host in self.hosts], np.bool_)

    def _with_machine(self, guest: Resident) -> Bools:
        return np.array([not guest.machine or guest.machine in host.machines for host in self.hosts], np.bool_)

    def _labelled(self, guest: Resident) -> Bools:
        return np.array([guest.labels <= host.labels for host in self.hosts], np.bool_)
