"""Which guests to move so that the cluster is better off: a plan under a budget, each move feasible after those before.

A greedy search over single moves. Each guest's best move is bounded from above; the highest bound is looked at again,
and made when it holds, so that a move changes little of what has to be looked at (lazy greedy: Minoux, "Accelerated
greedy algorithms for maximizing submodular set functions", 1978; here gains may also grow, so bounds are raised too).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.placement.cluster import Bools, Floats
from models.placement.hard_rules import HardRule
from models.placement.rebalance_cost import Cost, Costs
from models.placement.rebalance_inventory import Inventory
from models.placement.rebalance_picture import EPS
from models.placement.rebalance_words import reason, without
from models.placement.rebalance_worth import BLOCKS, Gain, Terms, Worth

_LOOKS_PER_MOVE = 400
"""Bounds that are looked at again for a move at most: beyond that what is left is hardly better than nothing."""


@dataclass(frozen=True, slots=True)
class Move:
    """Take `guest` from `source` to `cell` of `target` (or `BOTH`).

    `reason`: what it brings; `without`: what stays as it is otherwise.

    `parts`: the guests of its affinity groups that it leaves for a time, in a drain that was forced.
    """

    guest: str
    source: str
    target: str
    cell: int
    gain: Gain
    cost: Cost
    reason: str
    without: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """A guest of a drained node that nobody can take, and the rule that binds."""

    guest: str
    node: str
    rule: HardRule | None
    reason: str


@dataclass(frozen=True, slots=True)
class Measures:
    """Shares, 0..1: of the free vCPUs outside whole blocks of 8 and 16; of the pairs of a tenant's (and of talking)
    guests in two sites. `hot`: hosts used beyond the mark."""

    fragmentation8: float
    fragmentation16: float
    split_pairs: float
    near_pairs: float
    hot: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in their order, what the cluster is like before and after them, and of a drain what stays."""

    moves: tuple[Move, ...]
    before: Measures
    after: Measures
    stays: tuple[Stay, ...] = ()


def plan(
    inventory: Inventory,
    costs: Costs,
    terms: Terms,
    *,
    first: Iterable[tuple[str, str]] = (),
    most: int | None = None,
    only: bool = False,
) -> Plan:
    """The moves of one look, each worth more than its cost by the margin, after those before it.

    `first`: (guest, target) of an earlier look, taken in their order as far as they still pay, and `only` they or
    others too. `most`: moves at most instead of the budget of `terms`. A guest is moved once at most.
    """
    worth = Worth(inventory, costs, terms)
    before = measure(worth)
    budget = allowance(len(inventory.guests), terms) if most is None else most
    moves: list[Move] = []
    rows = {guest.name: g for g, guest in enumerate(worth.picture.guests)}
    free = np.array([not guest.fixed for guest in worth.picture.guests], np.bool_)
    for name, target in first:
        g, to = rows.get(name, -1), worth.picture.row_of.get(target, -1)
        if len(moves) >= budget or g < 0 or to < 0 or not free[g]:
            continue
        net = worth.net(g)[to]
        if net.max() > terms.margin_usd:
            moves.append(make(worth, g, to, int(np.argmax(net))))
            free[g] = False
    if not only:
        moves += _greedy(worth, free, budget - len(moves))
    return Plan(tuple(moves), before, measure(worth))


def allowance(guests: int, terms: Terms) -> int:
    """How many of so many guests one look may move."""
    return max(int(terms.churn * guests), 1)


def measure(worth: Worth) -> Measures:
    """How the cluster stands."""
    picture = worth.picture
    taking = picture.vcpus[picture.takes]
    free = np.maximum(taking, 0.0)
    whole = float(free.sum())
    in8, in16 = (float((block * np.floor((free + EPS) / block)).sum()) for block in BLOCKS)
    split, near = worth.split_shares()
    used = np.maximum(
        1 - picture.vcpus.sum(axis=1) / np.maximum(picture.size_vcpus, 1e-9),
        1 - picture.mib.sum(axis=1) / np.maximum(picture.size_mib, 1e-9),
    )
    shares = (1.0 - in8 / whole, 1.0 - in16 / whole) if whole else (0.0, 0.0)
    return Measures(shares[0], shares[1], split, near, int((used > worth.terms.mark).sum()))


def _greedy(worth: Worth, free: Bools, most: int) -> list[Move]:
    """Up to `most` moves of guests that are `free`, the best first."""
    margin = worth.terms.margin_usd
    moves: list[Move] = []
    bound = np.array([worth.net(g).max() if ok else -np.inf for g, ok in enumerate(free)], np.float64)
    looks = _LOOKS_PER_MOVE * max(most, 1)
    while len(moves) < most and len(bound) and looks > 0:
        g = int(np.argmax(bound))
        if bound[g] <= margin:
            break
        net = worth.net(g)
        looks -= 1
        at = int(np.argmax(net))
        to, column = divmod(at, 2)
        if net[to, column] < bound[g] - 1e-9:
            bound[g] = net[to, column]
            continue
        here = int(worth.picture.node[g])
        moves.append(make(worth, g, to, column))
        free[g] = False
        bound = _raised(worth, g, here, to, bound, free)
    return moves


def _raised(worth: Worth, moved: int, here: int, to: int, bound: Floats, free: Bools) -> Floats:
    """The bounds after `moved` went from `here` to `to`: raised where they may have grown."""
    picture = worth.picture
    bound = np.maximum(bound, worth.bound(np.array([here, to])))
    changed = (picture.node == here) | (picture.node == to)
    changed[worth.touched(moved, far=bool(picture.site[here] != picture.site[to]))] = True
    for g in np.flatnonzero(changed & free).tolist():
        bound[g] = worth.net(g).max()
    bound[~free] = -np.inf
    return bound


def make(worth: Worth, g: int, to: int, column: int, parts: tuple[str, ...] = ()) -> Move:
    """Make the move, and say why."""
    picture = worth.picture
    gain, cost = worth.gain(g, to, column)
    source, cell = picture.hosts[picture.node[g]].name, picture.slot(g, to, column)
    why, otherwise = reason(worth, g, to, gain), without(worth, g, to, gain)
    worth.move(g, to, column)
    return Move(picture.guests[g].name, source, picture.hosts[to].name, cell, gain, cost, why, otherwise, parts)
