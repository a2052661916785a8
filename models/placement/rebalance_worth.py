"""What moves gain: less stranded cores, tenants' and talking guests' pairs in one site, hosts below the mark, price."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.placement.cluster import Floats
from models.placement.rebalance_cost import Cost, Costs
from models.placement.rebalance_inventory import BOTH, Inventory
from models.placement.rebalance_picture import EPS, Picture

Ints = npt.NDArray[np.int64]
BLOCKS = (8.0, 16.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is worth how much, and how much may be moved.

    A move counts `horizon_h` hours of its gain. Prices are USD an hour: of a free vCPU outside whole blocks (half for
    those of 8, half for those of 16), of a pair of one tenant's guests in two sites, of one that talks a lot, of each
    vCPU and GiB by which a host is used beyond the share `mark`. A move must gain `margin_usd` beyond its cost for
    `rounds` looks; a look moves at most the share `churn` of all guests, but one may always be moved; a guest that was
    moved stays for `dwell_s`.
    """

    horizon_h: float = 24.0
    stranded_usd_h: float = 0.02
    split_usd_h: float = 0.002
    near_usd_h: float = 0.1
    mark: float = 0.9
    hot_vcpu_usd_h: float = 0.02
    hot_gib_usd_h: float = 0.01
    margin_usd: float = 0.25
    churn: float = 0.03
    rounds: int = 3
    dwell_s: float = 3600.0


class Gain(NamedTuple):
    """USD of one move over the horizon, by what brings it; a loss is below 0."""

    stranded: float
    tenant: float
    near: float
    hot: float
    price: float

    @property
    def usd(self) -> float:
        """All of it."""
        return sum(self)


def stranded(free: Floats) -> Floats:
    """Of `free` vCPUs in a cell those outside whole blocks, mean over `BLOCKS`; the same shape."""
    left = np.maximum(free, 0.0) + EPS
    return np.asarray(sum(left % block for block in BLOCKS) / len(BLOCKS), np.float64)


class Worth:
    """The gains of moves on a `Picture`, kept in step with it: move through `move` only."""

    def __init__(self, inventory: Inventory, costs: Costs, terms: Terms) -> None:
        self.picture = picture = Picture(inventory)
        self.costs, self.terms = costs, terms
        self._vcpus = np.array([guest.vcpus for guest in picture.guests], np.float64)
        self._gib = np.array([guest.mib for guest in picture.guests], np.float64) / 1024
        self._price = np.array([host.usd_h for host in picture.hosts], np.float64) * terms.horizon_h
        kinds = {(guest.vcpus, guest.spread): 0 for guest in picture.guests}
        self._kinds = list(kinds)
        number = {kind: index for index, kind in enumerate(self._kinds)}
        self._kind = np.array([number[guest.vcpus, guest.spread] for guest in picture.guests], np.int64)
        self._arriving = np.zeros((len(self._kinds), len(picture.hosts), 2))
        self._over, self._pays = np.zeros((2, len(picture.hosts))), np.zeros((2, len(picture.hosts)))
        self._use(np.arange(len(picture.hosts)))
        self._arrive(np.arange(len(picture.hosts)))
        self._circles()
        self._tied: defaultdict[tuple[bool, str], list[int]] = defaultdict(list)
        for g in range(len(picture.guests)):
            for group in self._groups(g):
                self._tied[group].append(g)
        self._cost = self._all_costs()
        self._leave = np.zeros(len(picture.guests))
        self._leaving(np.arange(len(picture.guests)))
        self._sites = self._site_terms()

    def net(self, g: int, parted: frozenset[str] = frozenset()) -> Floats:
        """(n, 2) gain minus cost, USD, of moving guest `g` to each cell; -inf where a hard rule forbids it (affinity of
        the groups `parted` is none)."""
        allowed = self.picture.allowed(g, parted)
        if not allowed.any():
            return np.full(allowed.shape, -np.inf)
        net = self._arriving[self._kind[g]] * self._usd(self.terms.stranded_usd_h)
        net += self._flat(g)[:, None]
        return np.where(allowed, net, -np.inf)

    def bound(self, rows: Ints) -> Floats:
        """(g,) what each guest's `net` is at most on `rows`, whatever the hard rules say."""
        most = np.full(len(self._vcpus), -np.inf)
        usd = self._usd(self.terms.stranded_usd_h)
        for row in rows:
            best = self._arriving[:, row].max(axis=1)[self._kind] * usd + self._sites[:, self.picture.site[row]]
            best += self._leave + self._hot_arriving(row, self._vcpus, self._gib)
            best += (self._price[self.picture.node] - self._price[row]) * self._vcpus
            most = np.maximum(most, np.where(self.picture.node == row, -np.inf, best))
        return most

    def gain(self, g: int, to: int, column: int) -> tuple[Gain, Cost]:
        """What moving guest `g` there brings, and costs."""
        picture, here = self.picture, int(self.picture.node[g])
        split, near = self.pairs(g)
        site = int(picture.site[to])
        fewer = float(self._arriving[self._kind[g], to, column] + self._freed(g))
        gain = Gain(
            stranded=fewer * self._usd(self.terms.stranded_usd_h),
            tenant=float(split[site]) * self._usd(self.terms.split_usd_h),
            near=float(near[site]) * self._usd(self.terms.near_usd_h),
            hot=float(self._hot_leaving(g) + self._hot_arriving(to, self._vcpus[g], self._gib[g])),
            price=float((self._price[here] - self._price[to]) * self._vcpus[g]),
        )
        mib = picture.guests[g].mib
        return gain, self.costs.of(mib, picture.sites[picture.site[here]], picture.sites[site])

    def move(self, g: int, to: int, column: int) -> None:
        """Make the move."""
        picture, here = self.picture, int(self.picture.node[g])
        far = bool(picture.site[here] != picture.site[to])
        picture.move(g, to, picture.slot(g, to, column))
        if far:
            for circle in self._of[g]:
                self._where[circle, picture.site[here]] -= 1
                self._where[circle, picture.site[to]] += 1
        rows = np.array([here, to])
        self._use(rows)
        self._arrive(rows)
        self._leaving(np.flatnonzero(np.isin(picture.node, rows)))
        if far:
            self._cost[g] = self._costs_of(g)
            self._sites = self._site_terms()

    def touched(self, g: int, *, far: bool) -> list[int]:
        """Guests that may gain more, or less, elsewhere since guest `g` was moved: those that a hard rule ties to it,
        and if it went `far`, to another site, those of its tenant or that talk with it."""
        tied = [one for group in self._groups(g) for one in self._tied[group]]
        if far:
            tied += [one for circle in self._of[g] for one in self._members[circle].tolist()]
        return tied

    def _groups(self, g: int) -> list[tuple[bool, str]]:
        guest = self.picture.guests[g]
        return [*((True, group) for group in guest.together), *((False, group) for group in guest.apart)]

    def split_shares(self) -> tuple[float, float]:
        """Of the pairs of tenants' guests those in two sites, 0..1, and of those that talk a lot."""
        found = []
        for kind in (False, True):
            where = self._where[self._talks == kind]
            count = where.sum(axis=1)
            pairs = float((count * (count - 1) / 2).sum())
            joined = float((where * (where - 1) / 2).sum())
            found.append(1.0 - joined / pairs if pairs else 0.0)
        return found[0], found[1]

    # -- by parts ---------------------------------------------------------------------------------------------------

    def _usd(self, usd_h: float) -> float:
        return usd_h * self.terms.horizon_h

    def _flat(self, g: int) -> Floats:
        """(n,) all of `net` but what the cells make of it."""
        here = self.picture.node[g]
        flat = np.asarray(self._sites[g][self.picture.site] + self._leave[g], np.float64)
        flat += (self._price[here] - self._price) * self._vcpus[g]
        return flat + self._hot_arriving(slice(None), self._vcpus[g], self._gib[g])

    def _arrive(self, rows: Ints) -> None:
        """What each kind of guest strands less (more: below 0) when it comes to `rows`."""
        free = self.picture.vcpus[rows]
        before = stranded(free)
        two = self.picture.cells[rows] == BOTH
        for index, (vcpus, spread) in enumerate(self._kinds):
            less = before - stranded(free - vcpus)
            if spread:
                halves = (before - stranded(free - vcpus / 2)).sum(axis=1)
                less[:, 0] = np.where(two, halves, less[:, 0])
            self._arriving[index, rows] = less

    def _freed(self, g: int) -> float:
        """Stranded vCPUs that are fewer at its host when guest `g` has left."""
        picture, cell = self.picture, self.picture.cell[g]
        free = picture.vcpus[picture.node[g]] if cell == BOTH else picture.vcpus[picture.node[g], cell : cell + 1]
        return float((stranded(free) - stranded(free + self._vcpus[g] / len(free))).sum())

    def _leaving(self, guests: Ints) -> None:
        for g in guests.tolist():
            self._leave[g] = self._freed(g) * self._usd(self.terms.stranded_usd_h) + self._hot_leaving(g)

    def _use(self, rows: Ints) -> None:
        """How far `rows` are used beyond the mark: vCPUs and GiB, below 0 where they aren't."""
        picture, mark = self.picture, self.terms.mark
        size, gib = picture.size_vcpus[rows], picture.size_mib[rows] / 1024
        self._over[0, rows] = size * (1 - mark) - picture.vcpus[rows].sum(axis=1)
        self._over[1, rows] = gib * (1 - mark) - picture.mib[rows].sum(axis=1) / 1024
        self._pays[:, rows] = np.maximum(self._over[:, rows], 0.0)

    def _hot_change(self, rows: "int | slice", vcpus: "Floats | float", gib: "Floats | float") -> Floats:
        """USD more for being used beyond the mark, when so much more is used of `rows`."""
        terms, over, pays = self.terms, self._over[:, rows], self._pays[:, rows]
        more = (np.maximum(over[0] + vcpus, 0.0) - pays[0]) * self._usd(terms.hot_vcpu_usd_h)
        more += (np.maximum(over[1] + gib, 0.0) - pays[1]) * self._usd(terms.hot_gib_usd_h)
        return np.asarray(more, np.float64)

    def _hot_arriving(self, rows: "int | slice", vcpus: "Floats | float", gib: "Floats | float") -> Floats:
        return -self._hot_change(rows, vcpus, gib)

    def _hot_leaving(self, g: int) -> float:
        return -float(self._hot_change(int(self.picture.node[g]), -self._vcpus[g], -self._gib[g]))

    # -- pairs: a circle is a tenant, or a group that talks a lot ---------------------------------------------------

    def _circles(self) -> None:
        number: dict[tuple[bool, str], int] = {}
        self._of: list[list[int]] = []
        for guest in self.picture.guests:
            names = [(False, guest.tenant)] if guest.tenant else []
            names += [(True, group) for group in sorted(guest.near)]
            self._of.append([number.setdefault(name, len(number)) for name in names])
        self._talks = np.array([near for near, _ in number], np.bool_)
        worth = np.where(self._talks, self.terms.near_usd_h, self.terms.split_usd_h)
        self._pair_usd = self._usd(1.0) * worth
        self._where = np.zeros((len(number), len(self.picture.sites)))
        self._member = np.array([g for g, circles in enumerate(self._of) for _ in circles], np.int64)
        self._circle = np.array([circle for circles in self._of for circle in circles], np.int64)
        np.add.at(self._where, (self._circle, self.picture.site[self.picture.node[self._member]]), 1.0)
        order = np.argsort(self._circle, kind="stable")
        ends = np.cumsum(np.bincount(self._circle, minlength=len(number)))
        self._members = np.split(self._member[order], ends[:-1])

    def _fewer(self, circle: "Ints | int", site: "Ints | int") -> Floats:
        """(…, sites) pairs that are split no more when a member goes from `site` to each one."""
        fewer = self._where[circle] - (self._where[circle, site] - 1.0)[..., None]
        np.put_along_axis(fewer, np.asarray(site)[..., None], 0.0, axis=-1)
        return np.asarray(fewer, np.float64)

    def pairs(self, g: int) -> tuple[Floats, Floats]:
        """(sites,) each: pairs of its tenant and pairs that talk a lot, fewer for guest `g` in each site."""
        found = {False: np.zeros(len(self.picture.sites)), True: np.zeros(len(self.picture.sites))}
        for circle in self._of[g]:
            found[bool(self._talks[circle])] += self._fewer(circle, int(self.picture.site[self.picture.node[g]]))
        return found[False], found[True]

    def _site_terms(self) -> Floats:
        """(g, sites) what pairs gain in each site, minus the move's cost."""
        terms = -self._cost
        if len(self._member):
            fewer = self._fewer(self._circle, self.picture.site[self.picture.node[self._member]])
            np.add.at(terms, self._member, fewer * self._pair_usd[self._circle][:, None])
        return terms

    def _costs_of(self, g: int) -> list[float]:
        picture = self.picture
        here = picture.sites[picture.site[picture.node[g]]]
        return [self.costs.of(picture.guests[g].mib, here, site).usd for site in picture.sites]

    def _all_costs(self) -> Floats:
        return np.array([self._costs_of(g) for g in range(len(self._vcpus))], np.float64).reshape(
            -1, len(self.picture.sites)
        )
