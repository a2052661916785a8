"""Putting guests on nodes and taking them off: the hard rules and the bookkeeping, as compiled kernels."""

import math

from models.placement.kernel import Floats, Ints, kernel
from models.placement.tables import (
    APART,
    BLOCKS8,
    BLOCKS16,
    CPU,
    DOMAINS,
    EMPTY,
    FREE,
    GPU,
    GPUS_MAX,
    GUESTS,
    MEMORY,
    TOGETHER,
    Guests,
    Nodes,
    State,
)

BOTH = 2
_EPS = 1e-9


@kernel
def bond_allows(nodes: Nodes, state: State, guests: Guests, g: int, n: int) -> bool:
    """Whether the group of guest `g` lets it onto node `n`."""
    group, bond = guests.group[g], guests.bond[g]
    if group < 0:
        return True
    if bond == APART:
        return bool(state.together[group, n] == 0)
    if bond == DOMAINS:
        rack = nodes.rack[n]
        return bool(state.racks[group, rack] == 0 or state.rack_domain[group, rack] == guests.domain[g])
    if bond == TOGETHER and state.together[group, n] == 0:
        return bool(state.together[group].sum() == 0)
    return True


@kernel
def cards_for(nodes: Nodes, state: State, guests: Guests, g: int, n: int) -> int:
    """The GPUs that `g` gets on `n` as a bit mask: the tightest for a share, whole free ones else; -1 when it can't."""
    wanted, share = guests.gpus[g], guests.share[g]
    if wanted == 0:
        return 0
    mask, found = 0, 0
    if wanted == 1 and share < 1.0:
        best = 2.0
        for i in range(nodes.gpus[n]):
            free = state.gpu[n, i]
            if free + _EPS >= share and free < best:
                best, mask, found = free, 1 << i, 1
        return mask if found else -1
    for i in range(nodes.gpus[n]):
        if found < wanted and state.gpu[n, i] + _EPS >= 1.0:
            mask |= 1 << i
            found += 1
    return mask if found == wanted else -1


@kernel
def candidates(
    nodes: Nodes, state: State, guests: Guests, g: int, barred: int, most: int, at: Ints, slots: Ints
) -> int:
    """Write the nodes and slots (a cell, or `BOTH`) that no hard rule keeps guest `g` from into `at` and `slots` (2n,).

    Never node `barred`; stops after `most`. Returns: how many there are.
    """
    cpu, memory, opened, cells, site, labels = (
        state.cpu,
        state.memory,
        state.open,
        nodes.cells,
        nodes.site,
        nodes.labels,
    )
    vcpus, need, sites, wanted = guests.vcpus[g] - _EPS, guests.memory[g] - _EPS, guests.sites[g], guests.labels[g]
    bound, spread = guests.group[g] >= 0 or guests.gpus[g] > 0, guests.cells[g] == BOTH
    found = 0
    for n in range(len(cells)):
        if not opened[n] or n == barred or not (sites >> site[n]) & 1 or wanted & labels[n] != wanted:
            continue
        if spread and cells[n] == BOTH:
            fits0 = min(cpu[n, 0], cpu[n, 1]) >= vcpus / 2 and min(memory[n, 0], memory[n, 1]) >= need / 2
            fits1 = False
        else:
            fits0 = cpu[n, 0] >= vcpus and memory[n, 0] >= need
            fits1 = cells[n] == BOTH and cpu[n, 1] >= vcpus and memory[n, 1] >= need
        if not (fits0 or fits1):
            continue
        if bound and not (bond_allows(nodes, state, guests, g, n) and cards_for(nodes, state, guests, g, n) >= 0):
            continue
        if fits0:
            at[found], slots[found] = n, BOTH if spread and cells[n] == BOTH else 0
            found += 1
        if fits1:
            at[found], slots[found] = n, 1
            found += 1
        if found >= most:
            break
    return found


@kernel
def left_free(nodes: Nodes, state: State, guests: Guests, g: int, at: Ints, slots: Ints, left: Floats) -> None:
    """Write the shares of cores, memory and GPUs that guest `g` leaves free in each slot into `left` (k, 3)."""
    cpu, memory, all_cpu, all_memory = state.cpu, state.memory, nodes.cpu, nodes.memory
    gpu, gpus = state.gpu, nodes.gpus
    vcpus, need, cards = guests.vcpus[g], guests.memory[g], guests.gpus[g] * guests.share[g]
    for k in range(len(at)):
        n, slot = at[k], slots[k]
        if slot == BOTH:
            left[k, 0] = (cpu[n, 0] + cpu[n, 1] - vcpus) / (2 * all_cpu[n])
            left[k, 1] = (memory[n, 0] + memory[n, 1] - need) / (2 * all_memory[n])
        else:
            left[k, 0] = (cpu[n, slot] - vcpus) / all_cpu[n]
            left[k, 1] = (memory[n, slot] - need) / all_memory[n]
        left[k, 2] = 0.0
        if gpus[n] > 0:
            left[k, 2] = (gpu[n].sum() - cards) / gpus[n]


@kernel
def _count(nodes: Nodes, state: State, n: int, sign: float) -> None:
    """Add (or take away) what node `n` contributes to the sums that are not linear."""
    for c in range(nodes.cells[n]):
        free = state.cpu[n, c] + _EPS
        state.sums[BLOCKS8] += sign * 8.0 * math.floor(free / 8.0)
        state.sums[BLOCKS16] += sign * 16.0 * math.floor(free / 16.0)
    if state.occupants[n] == 0:
        state.sums[EMPTY] += sign


@kernel
def _use(state: State, guests: Guests, g: int, n: int, sign: float) -> None:
    """Give (or give back) cores, memory and GPUs of node `n` in the slot and cards noted for `g`."""
    slot = state.slot[g]
    if slot == BOTH:
        for c in range(2):
            state.cpu[n, c] -= sign * guests.vcpus[g] / 2
            state.memory[n, c] -= sign * guests.memory[g] / 2
    else:
        state.cpu[n, slot] -= sign * guests.vcpus[g]
        state.memory[n, slot] -= sign * guests.memory[g]
    for i in range(GPUS_MAX):
        if (state.cards[g] >> i) & 1:
            state.gpu[n, i] -= sign * guests.share[g]
    state.sums[CPU] += sign * guests.vcpus[g]
    state.sums[FREE] -= sign * guests.vcpus[g]
    state.sums[MEMORY] += sign * guests.memory[g]
    state.sums[GPU] += sign * guests.gpus[g] * guests.share[g]
    state.sums[GUESTS] += sign


@kernel
def put(nodes: Nodes, state: State, guests: Guests, g: int, n: int, slot: int, cards: int) -> None:
    """Place guest `g`; the caller has checked that it may be there."""
    _count(nodes, state, n, -1.0)
    state.where[g], state.slot[g], state.cards[g] = n, slot, cards
    _use(state, guests, g, n, 1.0)
    state.occupants[n] += 1
    _count(nodes, state, n, 1.0)
    head = state.first[n]
    state.after[g], state.before[g], state.first[n] = head, -1, g
    if head >= 0:
        state.before[head] = g
    state.exit[n] = max(state.exit[n], guests.expect[g])
    site = nodes.site[n]
    state.tenants[guests.tenant[g], site] += 1
    state.site_free[site] -= guests.vcpus[g]
    group = guests.group[g]
    if group >= 0:
        state.together[group, n] += 1
        state.racks[group, nodes.rack[n]] += 1
        state.rack_domain[group, nodes.rack[n]] = guests.domain[g]


@kernel
def take(nodes: Nodes, state: State, guests: Guests, g: int) -> None:
    """Take guest `g` off its node."""
    n = state.where[g]
    _count(nodes, state, n, -1.0)
    _use(state, guests, g, n, -1.0)
    state.occupants[n] -= 1
    _count(nodes, state, n, 1.0)
    before, after = state.before[g], state.after[g]
    if before >= 0:
        state.after[before] = after
    else:
        state.first[n] = after
    if after >= 0:
        state.before[after] = before
    if guests.expect[g] >= state.exit[n]:
        state.exit[n] = 0.0
        other = state.first[n]
        while other >= 0:
            state.exit[n] = max(state.exit[n], guests.expect[other])
            other = state.after[other]
    site = nodes.site[n]
    state.tenants[guests.tenant[g], site] -= 1
    state.site_free[site] += guests.vcpus[g]
    group = guests.group[g]
    if group >= 0:
        state.together[group, n] -= 1
        state.racks[group, nodes.rack[n]] -= 1
    state.where[g] = -1
