"""What a policy sees of a slot that a request may go to: the same numbers for 10 nodes as for 10,000."""

import math

import numpy as np

from models.placement.kernel import Floats, Ints, kernel
from models.placement.slots import BOTH, candidates, left_free
from models.placement.tables import Guests, Nodes, State

FEATURES = (
    "cpu_left",
    "memory_left",
    "skew",
    "node_used",
    "node_empty",
    "longer",
    "shorter",
    "home",
    "tenant_elsewhere",
    "site_free",
    "order",
    "lost8",
    "lost16",
    "lost32",
    "gpu_left",
    "gpu_idle",
    "price",
    "size",
    "memory_size",
    "life",
    "cluster_free",
    "tight",
    "doublings",
    "apart",
    "fresh",
)
"""Columns of a slot's features, each about 0..1; `docs/placement.md` says what they are."""

HOUR_S = 3600.0
_EPS = 1e-9


@kernel
def home_of(state: State, guests: Guests, g: int) -> int:
    """The site with most of the tenant's guests, of those that `g` may be in; the freest one if it has none yet."""
    home, most = -1, 0
    for site in range(len(state.site_free)):
        if (guests.sites[g] >> site) & 1 and state.tenants[guests.tenant[g], site] > most:
            home, most = site, state.tenants[guests.tenant[g], site]
    if home >= 0:
        return home
    freest = -1.0
    for site in range(len(state.site_free)):
        free = state.site_free[site] / max(state.site_total[site], 1e-9)
        if (guests.sites[g] >> site) & 1 and free > freest:
            home, freest = site, free
    return home


@kernel
def exit_of(exit_s: float, count: int, now: float) -> float:
    """When a node is thought to be empty; one that is overdue is thought to need as long again."""
    return exit_s if exit_s >= now or count == 0 else now + (now - exit_s)


@kernel
def doublings_of(beyond_s: float) -> float:
    """By how many doublings of a quarter of an hour a guest keeps a node busy for longer; NILAS counts in them."""
    return math.floor(math.log2(1.0 + beyond_s / 900.0)) if beyond_s > 0 else 0.0


@kernel
def lost_blocks(free: float, vcpus: float, block: float) -> float:
    """Whole blocks that `vcpus` of `free` cores break up, beyond those that they fill."""
    return math.floor((free + _EPS) / block) - math.floor((free - vcpus + _EPS) / block) - vcpus / block


@kernel
def describe(
    out: Floats, nodes: Nodes, state: State, guests: Guests, g: int, now: float, at: Ints, slots: Ints, left: Floats
) -> None:
    """Write the features of each slot for guest `g` into `out`, (k, len(FEATURES))."""
    cpu, gpu, count, exits, site_free, site_total = (
        state.cpu,
        state.gpu,
        state.occupants,
        state.exit,
        state.site_free,
        state.site_total,
    )
    cells, cores, sites, gpus, price = nodes.cells, nodes.cpu, nodes.site, nodes.gpus, nodes.price
    vcpus, expect, tenant = guests.vcpus[g], guests.expect[g], state.tenants[guests.tenant[g]]
    home, mine = home_of(state, guests, g), tenant.sum()
    tenants, is_new = max(mine, 1), mine == 0 and guests.owned[g] == 1
    size, memory_size = math.log2(1 + vcpus) / 6, math.log2(1 + guests.memory[g]) / 9
    life = math.log1p(max(expect - now, 0.0) / HOUR_S) / 8
    cluster_free = site_free.sum() / site_total.sum()
    for k in range(len(at)):
        n, slot, row = at[k], slots[k], out[k]
        site = sites[n]
        cell, part = (0, vcpus / 2) if slot == BOTH else (slot, vcpus)
        times = 2.0 if slot == BOTH else 1.0
        beyond = (expect - exit_of(exits[n], count[n], now)) / HOUR_S if count[n] > 0 else 0.0
        row[0], row[1], row[2] = left[k, 0], left[k, 1], left[k, 0] - left[k, 1]
        row[3] = 1.0 - (cpu[n, 0] + cpu[n, 1]) / (cores[n] * cells[n])
        row[4] = 1.0 if count[n] == 0 else 0.0
        hours = math.log1p(abs(beyond)) / 8
        row[5], row[6] = (hours, 0.0) if beyond > 0 else (0.0, hours)
        row[7] = 1.0 if site == home else 0.0
        row[8] = (tenants - tenant[site]) / tenants if mine > 0 else 0.0
        row[9] = site_free[site] / max(site_total[site], _EPS)
        row[10] = n / len(cells)
        row[11] = times * lost_blocks(cpu[n, cell], part, 8.0)
        row[12] = times * lost_blocks(cpu[n, cell], part, 16.0)
        row[13] = times * lost_blocks(cpu[n, cell], part, 32.0)
        row[14] = left[k, 2]
        row[15] = gpu[n].sum() / 8 if gpus[n] > 0 and guests.gpus[g] == 0 else 0.0
        row[16] = price[n] / (cores[n] * cells[n])
        row[17], row[18], row[19], row[20] = size, memory_size, life, cluster_free
        row[21], row[22] = min(left[k, 0], left[k, 1]), doublings_of(beyond * HOUR_S)
        row[23] = math.log2(1.0 + mine - tenant[site]) / 8
        row[24] = row[9] if is_new else 0.0


@kernel
def observe(nodes: Nodes, state: State, guests: Guests, g: int, now: float, out: Floats, slots: Ints) -> int:
    """Fill `out` (n, features) and `slots` (n,) with each node's tightest slot for `g`, or -1 where a rule forbids it.

    Returns: how many nodes it may go to.
    """
    n = len(nodes.cpu)
    at, found = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
    count = candidates(nodes, state, guests, g, -1, 2 * n, at, found)
    left, rows = np.empty((count, 3)), np.empty((count, len(FEATURES)))
    left_free(nodes, state, guests, g, at[:count], found[:count], left)
    describe(rows, nodes, state, guests, g, now, at[:count], found[:count], left)
    slots[:] = -1
    fitting = 0
    for k in range(count):
        node = at[k]
        if slots[node] < 0:
            fitting += 1
        elif left[k, 0] + left[k, 1] >= out[node, 0] + out[node, 1]:
            continue
        slots[node] = found[k]
        out[node] = rows[k]
    return fitting
