"""Tries rebalancing on recorded requests: the simulator stands still, guests are moved, and it goes on."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from models.placement.rebalance import Measures, Move, plan
from models.placement.rebalance_cost import Costs
from models.placement.rebalance_inventory import BOTH, Host, Inventory, Resident
from models.placement.rebalance_rounds import Rounds, look
from models.placement.rebalance_worth import Terms
from models.placement.rules import PLAIN, Rule
from models.placement.simulator import Outcome, Run, advance, begin, outcome, play
from models.placement.slots import put, take
from models.placement.tables import APART, TOGETHER, Guests
from models.placement.windows import Window

MIB = 1024.0


class Tried(NamedTuple):
    """One look: guests, moves made, what was before and after, and USD that they gain and cost."""

    guests: int
    moves: int
    before: Measures
    after: Measures
    gain_usd: float
    cost_usd: float


def inventory_of(run: Run) -> Inventory:
    """The cluster as a simulation has it now; guests with GPUs or in fault domains stay where they are."""
    nodes, state, guests = run.nodes, run.state, run.guests
    hosts = [
        Host(
            name=f"n{n}",
            site=f"s{nodes.site[n]}",
            vcpus=float(nodes.cpu[n]),
            mib=float(nodes.memory[n]) * MIB,
            free=tuple((float(state.cpu[n, c]), float(state.memory[n, c]) * MIB) for c in range(int(nodes.cells[n]))),
            takes=bool(state.open[n]),
            labels=_bits(int(nodes.labels[n]), "l"),
            usd_h=float(nodes.price[n] / (nodes.cpu[n] * nodes.cells[n])),
        )
        for n in range(len(nodes.cpu))
    ]
    return Inventory(hosts, [_resident(guests, g, run) for g in np.flatnonzero(state.where >= 0).tolist()])


def snapshot(window: Window, rule: Rule) -> Run:
    """The window's cluster in the middle of its span, filled under `rule` from all that came before."""
    middle = (window.span[0] + window.span[1]) / 2
    run = begin(window.nodes, window.guests, (window.span[0], window.span[1]))
    play(run, 0, int(np.searchsorted(window.guests.arrive, middle)), int(rule), PLAIN)
    advance(run, middle, int(rule), PLAIN)
    return run


def rounds_on(run: Run, costs: Costs, terms: Terms, rounds: int) -> Iterator[Tried]:
    """`rounds` plans, each carried out in full, while nobody comes or leaves; no guest is moved twice."""
    fixed: set[str] = set()
    for _ in range(rounds):
        inventory = inventory_of(run)
        guests = [_fixed(guest) if guest.name in fixed else guest for guest in inventory.guests]
        made = plan(Inventory(list(inventory.hosts), guests), costs, terms)
        apply(run, made.moves)
        fixed |= {move.guest for move in made.moves}
        gain, cost = sum(move.gain.usd for move in made.moves), sum(move.cost.usd for move in made.moves)
        yield Tried(len(guests), len(made.moves), made.before, made.after, gain, cost)


def live(window: Window, rule: Rule, costs: Costs, terms: Terms, every_s: float) -> tuple[Outcome, list[int]]:
    """The whole window with a look every `every_s` seconds of its span: its figures, and the moves of each look."""
    run = begin(window.nodes, window.guests, window.span)
    arrive, seen, rounds, moves = window.guests.arrive, 0, Rounds(), []
    for now in np.arange(window.span[0], window.span[1], every_s).tolist():
        until = int(np.searchsorted(arrive, now))
        play(run, seen, until, int(rule), PLAIN)
        advance(run, now, int(rule), PLAIN)
        seen = until
        rounds, _, due = look(inventory_of(run), costs, terms, rounds, now)
        apply(run, due.moves)
        for move in due.moves:
            rounds = rounds.after(move.guest, now)
        moves.append(len(due.moves))
    play(run, seen, len(arrive), int(rule), PLAIN)
    advance(run, float(run.span[1]), int(rule), PLAIN)
    return outcome(run), moves


def apply(run: Run, moves: Iterable[Move]) -> None:
    """Carry moves out in the simulation."""
    for move in moves:
        g, n = int(move.guest[1:]), int(move.target[1:])
        take(run.nodes, run.state, run.guests, g)
        put(run.nodes, run.state, run.guests, g, n, move.cell, 0)


def _resident(guests: Guests, g: int, run: Run) -> Resident:
    group, bond = int(guests.group[g]), int(guests.bond[g])
    sites, here = int(guests.sites[g]), f"n{run.state.where[g]}"
    odd = guests.gpus[g] > 0 or (group >= 0 and bond not in (TOGETHER, APART))
    return Resident(
        name=f"g{g}",
        node=here,
        vcpus=float(guests.vcpus[g]),
        mib=float(guests.memory[g]) * MIB,
        cell=int(run.state.slot[g]),
        spread=bool(guests.cells[g] == BOTH),
        tenant=f"t{guests.tenant[g]}",
        sites=frozenset() if sites < 0 else _bits(sites, "s"),
        labels=_bits(int(guests.labels[g]), "l"),
        together=frozenset({f"g{group}"} if group >= 0 and bond == TOGETHER else ()),
        apart=frozenset({f"g{group}"} if group >= 0 and bond == APART else ()),
        fixed="it has GPUs or a fault domain" if odd else "",
    )


def _bits(mask: int, letter: str) -> frozenset[str]:
    return frozenset(f"{letter}{bit}" for bit in range(mask.bit_length()) if mask >> bit & 1)


def _fixed(guest: Resident) -> Resident:
    return replace(guest, fixed="it was moved")
