"""The rules of thumb, and the learned scores, as one compiled choice: the best slot that no hard rule forbids."""

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from models.placement.features import FEATURES, describe, doublings_of, exit_of, home_of
from models.placement.fragments import gpu_fragments
from models.placement.kernel import Floats, Ints, kernel
from models.placement.slots import candidates, cards_for, left_free
from models.placement.tables import Guests, Nodes, State


class Rule(IntEnum):
    """How a slot is scored. `NILAS` trusts `Guests.expect`; `SCORED` is a weighted sum plus a small network."""

    FIRST_FIT = 0
    BEST_FIT = 1
    WORST_FIT = 2
    RANDOM = 3
    ALIGNMENT = 4
    SITE_STICKY = 5
    FGD = 6
    NILAS = 7
    SCORED = 8


class Weights(NamedTuple):
    """Of `SCORED`: ``linear @ f + out @ tanh(f @ hidden + bias)``; shapes (F,), (F, H), (H,), (H,). H may be 0."""

    linear: Floats
    hidden: Floats
    bias: Floats
    out: Floats


class Knobs(NamedTuple):
    """What a rule needs beside the state: weights, the mix of GPU requests (m, 5) that FGD looks ahead to, a seed."""

    weights: Weights
    mix: Floats
    seed: int


def linear_weights(**weights: float) -> Weights:
    """Weights by the features' names, 0 where none is given."""
    unknown = set(weights) - set(FEATURES)
    if unknown:
        raise ValueError(f"no feature {', '.join(sorted(unknown))}; there are {', '.join(FEATURES)}")
    linear = np.array([weights.get(name, 0.0) for name in FEATURES])
    return Weights(linear, np.zeros((len(FEATURES), 0)), np.zeros(0), np.zeros(0))


PLAIN = Knobs(linear_weights(), np.zeros((0, 5)), 0)
"""Knobs of the rules that need none."""

_STICKY = 1000.0
_NEW_NODE = 40.0


@kernel
def _chance(seed: int, g: int, n: int) -> float:
    """A number in 0..1 that looks random, the same for the same arguments."""
    mixed = (seed * 2654435761 + g * 40503 + n * 69069 + 12345) & 0xFFFFFFFF
    for _ in range(3):
        mixed ^= (mixed << 13) & 0xFFFFFFFF
        mixed ^= mixed >> 17
        mixed ^= (mixed << 5) & 0xFFFFFFFF
    return mixed / 4294967296.0


@kernel
def network(weights: Weights, features: Floats, scores: Floats) -> None:
    """The score of each slot's features (k, F) into `scores` (k,)."""
    linear, hidden, bias, out = weights.linear, weights.hidden, weights.bias, weights.out
    for k in range(len(scores)):
        total = 0.0
        for f in range(features.shape[1]):
            total += linear[f] * features[k, f]
        for h in range(len(out)):
            inner = bias[h]
            for f in range(features.shape[1]):
                inner += hidden[f, h] * features[k, f]
            total += out[h] * math.tanh(inner)
        scores[k] = total


@kernel
def _nilas(state: State, guests: Guests, g: int, now: float, at: Ints, scores: Floats) -> None:
    """Take off by how much `g` is thought to keep each node busy for longer, in doublings of a quarter of an hour."""
    count, exits, expect = state.occupants, state.exit, guests.expect[g]
    for k in range(len(at)):
        n = at[k]
        beyond = expect - exit_of(exits[n], count[n], now)
        scores[k] -= 10 * (_NEW_NODE if count[n] == 0 else doublings_of(beyond))


@kernel
def _sticky(nodes: Nodes, state: State, guests: Guests, g: int, at: Ints, scores: Floats) -> None:
    """Prefer the tenant's site by far, else the freest one."""
    site, free, total = nodes.site, state.site_free, state.site_total
    home = home_of(state, guests, g)
    for k in range(len(at)):
        where = site[at[k]]
        scores[k] += _STICKY if where == home else 10 * free[where] / max(total[where], 1e-9)


@kernel
def _score(
    rule: int,
    nodes: Nodes,
    state: State,
    guests: Guests,
    g: int,
    now: float,
    knobs: Knobs,
    at: Ints,
    slots: Ints,
    scores: Floats,
) -> None:
    """The score of each slot under every rule but `FGD`; more is better."""
    left = np.empty((len(at), 3))
    left_free(nodes, state, guests, g, at, slots, left)
    if rule == Rule.SCORED:
        features = np.empty((len(at), len(FEATURES)))
        describe(features, nodes, state, guests, g, now, at, slots, left)
        network(knobs.weights, features, scores)
        return
    for k in range(len(at)):
        scores[k] = -min(left[k, 0], left[k, 1])
    if rule == Rule.WORST_FIT:
        scores *= -1
    elif rule == Rule.RANDOM:
        for k in range(len(at)):
            scores[k] = _chance(knobs.seed, g, at[k] * 3 + slots[k])
    elif rule == Rule.ALIGNMENT:
        for k in range(len(at)):
            n = at[k]
            cpu, memory = guests.vcpus[g] / nodes.cpu[n], guests.memory[g] / nodes.memory[n]
            cards = guests.gpus[g] * guests.share[g] / max(nodes.gpus[n], 1)
            scores[k] = -(cpu * left[k, 0] + memory * left[k, 1] + cards * left[k, 2])
    elif rule == Rule.SITE_STICKY:
        _sticky(nodes, state, guests, g, at, scores)
    elif rule == Rule.NILAS:
        _nilas(state, guests, g, now, at, scores)


@kernel
def _fgd(nodes: Nodes, state: State, guests: Guests, g: int, n: int, mix: Floats) -> tuple[float, int]:
    """FGD: minus the growth of node `n`'s GPU fragments by its best cards for `g`, and those cards."""
    before = gpu_fragments(nodes, state, n, mix, 0.0, 0.0, 0, 0.0)
    vcpus, memory, share = guests.vcpus[g], guests.memory[g], guests.share[g]
    if guests.gpus[g] != 1 or share >= 1.0:
        cards = cards_for(nodes, state, guests, g, n)
        return before - gpu_fragments(nodes, state, n, mix, vcpus, memory, cards, share), cards
    best, chosen = -np.inf, 0
    for i in range(nodes.gpus[n]):
        if state.gpu[n, i] + 1e-9 >= share:
            gain = before - gpu_fragments(nodes, state, n, mix, vcpus, memory, 1 << i, share)
            if gain > best:
                best, chosen = gain, 1 << i
    return best, chosen


@kernel
def pick(
    rule: int, nodes: Nodes, state: State, guests: Guests, g: int, now: float, knobs: Knobs, barred: int
) -> tuple[int, int, int]:
    """Node, slot and cards for guest `g` (node -1: none may take it); never node `barred`. Ties: the first node."""
    n = len(nodes.cpu)
    at, slots = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
    count = candidates(nodes, state, guests, g, barred, 1 if rule == Rule.FIRST_FIT else 2 * n, at, slots)
    if count == 0:
        return -1, 0, 0
    if rule == Rule.FIRST_FIT:
        return at[0], slots[0], cards_for(nodes, state, guests, g, at[0])
    scores = np.empty(count)
    if rule == Rule.FGD:
        cards = np.empty(count, np.int64)
        for k in range(count):
            scores[k], cards[k] = _fgd(nodes, state, guests, g, at[k], knobs.mix)
        best = int(np.argmax(scores))
        return at[best], slots[best], cards[best]
    _score(rule, nodes, state, guests, g, now, knobs, at[:count], slots[:count], scores)
    best = int(np.argmax(scores))
    return at[best], slots[best], cards_for(nodes, state, guests, g, at[best])
