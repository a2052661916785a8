"""The best that anybody could do who knew everything beforehand, by OR-Tools' CP-SAT: an oracle for small cases."""

from typing import NamedTuple

import numpy as np

from models.placement.kernel import Ints
from models.placement.tables import EVERYWHERE, Guests, Nodes


class Optimum(NamedTuple):
    """`placed` (g,): node or -1. No plan rejects less than `rejected_bound` of the cores; this one rejects `rejected`.

    The two are equal when the search ended within its time.
    """

    placed: Ints
    rejected: float
    rejected_bound: float


def optimum(nodes: Nodes, guests: Guests, *, limit_s: float = 10.0, seed: int = 0) -> Optimum:
    """Place `guests` so that the fewest cores are rejected; each stays where it is for its whole life.

    For nodes with one cell and guests without groups and GPUs, whose cores are whole numbers; labels and sites hold.
    One thread, so the same seed gives the same plan where the search ends within its limit.

    Raises:
        ValueError: there is something else.
    """
    from ortools.sat.python import cp_model

    _check(nodes, guests)
    count, width = len(guests.arrive), len(nodes.cpu)
    memory = np.ceil(guests.memory * 1024).astype(np.int64)
    room = np.floor((nodes.memory - nodes.held_memory[:, 0]) * 1024).astype(np.int64)
    cores = np.floor(nodes.cpu - nodes.held_cpu[:, 0]).astype(np.int64)
    model = cp_model.CpModel()
    puts = {(g, n): model.new_bool_var("") for g in range(count) for n in range(width) if _may(nodes, guests, g, n)}
    for g in range(count):
        model.add_at_most_one(puts[g, n] for n in range(width) if (g, n) in puts)
    for first in range(count):  # what is on a node grows only when a guest arrives
        at = guests.arrive[first]
        there = [g for g in range(count) if guests.arrive[g] <= at < guests.leave[g] or g == first]
        for n in range(width):
            mine = [g for g in there if (g, n) in puts]
            model.add(sum(int(guests.vcpus[g]) * puts[g, n] for g in mine) <= int(cores[n]))
            model.add(sum(int(memory[g]) * puts[g, n] for g in mine) <= int(room[n]))
    model.maximize(sum(int(guests.vcpus[g]) * put for (g, _), put in puts.items()))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.solve(model)
    placed = np.full(count, -1, np.int64)
    for (g, n), put in puts.items():
        if solver.value(put):
            placed[g] = n
    asked = float(guests.vcpus.sum())
    return Optimum(placed, 1 - solver.objective_value / asked, 1 - solver.best_objective_bound / asked)


def _may(nodes: Nodes, guests: Guests, g: int, n: int) -> bool:
    sites, labels = int(guests.sites[g]), int(guests.labels[g])
    fits = bool(guests.vcpus[g] <= nodes.cpu[n] and guests.memory[g] <= nodes.memory[n])
    return (
        fits
        and (sites == EVERYWHERE or bool(sites >> int(nodes.site[n]) & 1))
        and labels & int(nodes.labels[n]) == labels
    )


def _check(nodes: Nodes, guests: Guests) -> None:
    if (nodes.cells != 1).any() or (guests.group >= 0).any() or (guests.gpus > 0).any():
        raise ValueError("the optimum is for nodes with one cell and guests without groups and GPUs")
    if not np.array_equal(guests.vcpus, np.round(guests.vcpus)):
        raise ValueError("the optimum is for guests with whole cores")
