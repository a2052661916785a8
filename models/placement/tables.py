"""What the simulator works on, as columns: nodes, guests, and the state of a cluster."""

from typing import NamedTuple

import numpy as np

from models.placement.kernel import Bools, Floats, Ints

GPUS_MAX = 8
"""GPUs of one node."""
EVERYWHERE = -1
"""A `sites` or `labels` mask that asks for nothing."""

ANY, TOGETHER, APART, DOMAINS = 0, 1, 2, 3
"""A guest's group asks for: nothing; one node for all; a node each; a rack holds members of one fault domain."""


class Nodes(NamedTuple):
    """Nodes, one row each, (n,). A node has one or two NUMA cells of `cpu` cores and `memory` GiB each."""

    cells: Ints
    cpu: Floats
    memory: Floats
    gpus: Ints
    site: Ints
    rack: Ints
    labels: Ints
    """Bit mask of the node's labels."""
    price: Floats
    """USD an hour."""
    held_cpu: Floats
    held_memory: Floats
    """(n, 2) what others than the guests hold of each cell."""


class Guests(NamedTuple):
    """Requests in the order they arrive, (g,): seconds, cores, GiB."""

    arrive: Floats
    leave: Floats
    """When it really ends; known to the simulator, and to a rule only through `expect`."""
    expect: Floats
    """When it is thought to end."""
    vcpus: Floats
    memory: Floats
    gpus: Ints
    share: Floats
    """Of each of its GPUs, 0..1."""
    cells: Ints
    """Cells over which it is spread, half and half: 1 or 2. On a node with one cell it makes no difference."""
    tenant: Ints
    owned: Ints
    """1 where the tenant is known; 0 for one that names none and counts as a tenant of its own."""
    group: Ints
    """-1: in no group."""
    bond: Ints
    domain: Ints
    """Fault domain within the group."""
    sites: Ints
    """Bit mask of the sites it may be in (sovereignty), or `EVERYWHERE`."""
    labels: Ints
    """Bit mask of labels that a node must have, or 0."""


class State(NamedTuple):
    """What is where. `cpu`, `memory` (n, 2) and `gpu` (n, GPUS_MAX) are what is free."""

    cpu: Floats
    memory: Floats
    gpu: Floats
    open: Bools
    """(n,) takes new guests: neither failed nor in maintenance."""
    occupants: Ints
    """(n,) guests."""
    exit: Floats
    """(n,) when the last guest is thought to leave; 0 for an empty node."""
    first: Ints
    """(n,) first guest of the node's list, -1 for none."""
    after: Ints
    before: Ints
    """(g,) the list's links."""
    where: Ints
    """(g,) node, or -1."""
    slot: Ints
    """(g,) cell, or 2 for both."""
    cards: Ints
    """(g,) bit mask of GPUs."""
    tenants: Ints
    """(tenants, sites) guests."""
    together: Ints
    """(groups, nodes) guests."""
    racks: Ints
    """(groups, racks) guests."""
    rack_domain: Ints
    """(groups, racks) the one fault domain that has guests there."""
    sums: Floats
    """(SUMS,) running totals, by the constants below."""
    site_free: Floats
    site_total: Floats
    """(sites,) cores."""


FREE, CPU, MEMORY, GPU, BLOCKS8, BLOCKS16, EMPTY, GUESTS = range(8)
"""Rows of `State.sums`: cores free; cores, GiB, GPUs given; cores free in whole blocks of 8 and 16; empty nodes."""


def empty_state(nodes: Nodes, guests: Guests) -> State:
    """A cluster of `nodes` with none of `guests` placed yet."""
    n, g = len(nodes.cpu), len(guests.arrive)
    one = nodes.cells < 2
    cpu = np.repeat(nodes.cpu[:, None], 2, axis=1)
    memory = np.repeat(nodes.memory[:, None], 2, axis=1)
    cpu[one, 1] = 0.0
    memory[one, 1] = 0.0
    cpu, memory = np.maximum(cpu - nodes.held_cpu, 0.0), np.maximum(memory - nodes.held_memory, 0.0)
    gpu = (np.arange(GPUS_MAX)[None, :] < nodes.gpus[:, None]).astype(np.float64)
    groups = int(guests.group.max(initial=-1)) + 1
    racks, sites = int(nodes.rack.max(initial=0)) + 1, int(nodes.site.max(initial=0)) + 1
    tenants = int(guests.tenant.max(initial=0)) + 1
    site_total = np.bincount(nodes.site, weights=cpu.sum(axis=1), minlength=sites).astype(np.float64)
    sums = np.zeros(8)
    sums[FREE], sums[EMPTY] = cpu.sum(), n
    sums[BLOCKS8], sums[BLOCKS16] = (8 * (cpu // 8)).sum(), (16 * (cpu // 16)).sum()
    none = np.full(g, -1, np.int64)
    return State(
        cpu=cpu,
        memory=memory,
        gpu=gpu,
        open=np.ones(n, np.bool_),
        occupants=np.zeros(n, np.int64),
        exit=np.zeros(n),
        first=np.full(n, -1, np.int64),
        after=none.copy(),
        before=none.copy(),
        where=none.copy(),
        slot=np.zeros(g, np.int64),
        cards=np.zeros(g, np.int64),
        tenants=np.zeros((tenants, sites), np.int64),
        together=np.zeros((groups, n), np.int64),
        racks=np.zeros((groups, racks), np.int64),
        rack_domain=np.zeros((groups, racks), np.int64),
        sums=sums,
        site_free=site_total.copy(),
        site_total=site_total,
    )


def make_nodes(
    cpu: Floats, memory: Floats, *, cells: int | Ints = 1, site: Ints | None = None, gpus: Ints | None = None
) -> Nodes:
    """Nodes with `cpu` cores and `memory` GiB **in each cell**, each a rack of its own, without labels."""
    n = len(cpu)
    zeros = np.zeros(n, np.int64)
    return Nodes(
        cells=np.broadcast_to(np.asarray(cells, np.int64), (n,)).copy(),
        cpu=np.asarray(cpu, np.float64),
        memory=np.asarray(memory, np.float64),
        gpus=zeros.copy() if gpus is None else np.asarray(gpus, np.int64),
        site=zeros.copy() if site is None else np.asarray(site, np.int64),
        rack=np.arange(n, dtype=np.int64),
        labels=zeros.copy(),
        price=np.zeros(n),
        held_cpu=np.zeros((n, 2)),
        held_memory=np.zeros((n, 2)),
    )


def make_guests(arrive: Floats, leave: Floats, vcpus: Floats, memory: Floats, **columns: Ints | Floats) -> Guests:
    """Guests of these columns, sorted by arrival; the others as given, or plain: alone, anywhere, in no group."""
    g = len(arrive)
    ints = {
        "gpus": 0,
        "cells": 1,
        "tenant": -1,
        "owned": int("tenant" in columns),
        "group": -1,
        "bond": ANY,
        "domain": 0,
        "sites": EVERYWHERE,
        "labels": 0,
    }
    unknown = set(columns) - set(Guests._fields)
    if unknown:
        raise ValueError(f"guests have no column {', '.join(sorted(unknown))}")
    order = np.argsort(arrive, kind="stable")
    full: dict[str, Ints | Floats] = {
        "arrive": arrive,
        "leave": leave,
        "expect": leave,
        "vcpus": vcpus,
        "memory": memory,
    }
    full |= {"share": np.zeros(g)} | {name: np.full(g, value, np.int64) for name, value in ints.items()} | columns
    if "tenant" not in columns:
        full["tenant"] = np.arange(g)
    floats = (*Guests._fields[:5], "share")
    typed = {name: np.asarray(full[name], np.float64 if name in floats else np.int64)[order] for name in Guests._fields}
    return Guests._make(typed[name] for name in Guests._fields)


def take_guests(guests: Guests, rows: Ints | Bools) -> Guests:
    """These rows, with tenants and groups numbered anew so that their tables stay small."""
    part = Guests._make(column[rows] for column in guests)
    tenant = np.unique(part.tenant, return_inverse=True)[1].astype(np.int64)
    group = part.group.copy()
    grouped = group >= 0
    group[grouped] = np.unique(group[grouped], return_inverse=True)[1]
    return part._replace(tenant=tenant, group=group)


def take_nodes(nodes: Nodes, rows: Ints | Bools) -> Nodes:
    """These rows."""
    return Nodes._make(column[rows] for column in nodes)
