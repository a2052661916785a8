"""Emptying nodes: the targets are chosen as in a rebalancing, but every guest has to go."""

import numpy as np

from models.placement.rebalance import Move, Plan, Stay, make, measure
from models.placement.rebalance_cost import Costs
from models.placement.rebalance_inventory import Inventory
from models.placement.rebalance_worth import Terms, Worth

_HOSTS_TRIED = 64


def drain(inventory: Inventory, costs: Costs, terms: Terms, nodes: frozenset[str], *, force: bool = False) -> Plan:
    """Moves that empty `nodes`, whatever they cost: the guests with the fewest places first, each to where it gains
    most. With `force` guests of an affinity group follow one another to one host, and are apart for so long.

    Raises:
        ValueError: a node is not there.
    """
    worth = Worth(inventory, costs, terms)
    picture, before = worth.picture, measure(worth)
    if unknown := sorted(nodes - set(picture.row_of)):
        raise ValueError(f"there is no node {', '.join(unknown)}")
    rows = [picture.row_of[name] for name in nodes]
    picture.takes[rows] = False
    there = np.flatnonzero(np.isin(picture.node, rows)).tolist()
    fixed = [picture.guests[g] for g in there if picture.guests[g].fixed]
    left = {g for g in there if not picture.guests[g].fixed}
    moves = _alone(worth, left)
    if force:
        for block in _blocks(worth, left):
            made = _in_turn(worth, block)
            moves += made
            left -= set(block) if made else set()
    stays = [Stay(one.name, one.node, None, one.fixed) for one in fixed]
    for g in sorted(left):
        rule, words = picture.binding(g)
        stays.append(Stay(picture.guests[g].name, picture.hosts[picture.node[g]].name, rule, words))
    return Plan(tuple(moves), before, measure(worth), tuple(stays))


def _alone(worth: Worth, left: set[int]) -> list[Move]:
    """Move what can go by itself, and take it out of `left`."""
    picture = worth.picture
    moves: list[Move] = []
    while True:
        places = {g: int(picture.allowed(g).any(axis=1).sum()) for g in left}
        ready = [g for g in left if places[g]]
        if not ready:
            return moves
        g = min(ready, key=lambda one: (places[one], -picture.guests[one].mib, one))
        to, column = divmod(int(np.argmax(worth.net(g))), 2)
        moves.append(make(worth, g, to, column))
        left.discard(g)


def _blocks(worth: Worth, left: set[int]) -> list[list[int]]:
    """The guests of `left` that affinity holds together, block by block, the biggest guest first."""
    guests, open_, blocks = worth.picture.guests, set(left), []
    while open_:
        block = {min(open_)}
        while more := {
            g for g in open_ - block if guests[g].together & {group for one in block for group in guests[one].together}
        }:
            block |= more
        open_ -= block
        if any(guests[g].together for g in block):
            blocks.append(sorted(block, key=lambda g: (-guests[g].mib, g)))
    return blocks


def _in_turn(worth: Worth, block: list[int]) -> list[Move]:
    """The moves that bring all of `block` to one host; none when no host takes them all."""
    picture = worth.picture
    groups = frozenset(group for g in block for group in picture.guests[g].together)
    best = worth.net(block[0], groups).max(axis=1)
    for to in np.argsort(-best, kind="stable")[:_HOSTS_TRIED].tolist():
        if best[to] == -np.inf:
            break
        columns = _columns(worth, block, to, groups)
        if columns:
            names = [picture.guests[g].name for g in block]
            return [
                make(worth, g, to, column, tuple(name for name in names if name != picture.guests[g].name))
                for g, column in zip(block, columns, strict=True)
            ]
    return []


def _columns(worth: Worth, block: list[int], to: int, groups: frozenset[str]) -> list[int]:
    """The cells on `to` that take one guest of `block` after the other; none when they don't. Nothing is moved."""
    picture, columns, back = worth.picture, [], []
    for g in block:
        fits = picture.allowed(g, groups)[to]
        if not fits.any():
            break
        columns.append(int(np.argmax(fits)))
        back.append((g, int(picture.node[g]), int(picture.cell[g])))
        picture.move(g, to, picture.slot(g, to, columns[-1]))
    for g, node, cell in reversed(back):
        picture.move(g, node, cell)
    return columns if len(columns) == len(block) else []
