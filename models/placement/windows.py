"""Cuts a trace into windows that are pre-filled from the days before, on as many nodes as a load asks for."""

from typing import NamedTuple

import numpy as np

from models.placement.kernel import Floats
from models.placement.tables import Guests, Nodes, make_nodes, take_guests, take_nodes

DAY_S = 86400.0


class Shape(NamedTuple):
    """A node: cells, and the cores and GiB of each."""

    cells: int = 2
    cpu: float = 32.0
    memory: float = 128.0


class Window(NamedTuple):
    """What one simulation takes. Guests that arrive before `span` (seconds) only warm the cluster up."""

    nodes: Nodes
    guests: Guests
    span: tuple[float, float]


def peak(guests: Guests, amount: Floats, span: tuple[float, float]) -> float:
    """The most of `amount` that guests want at the same time within `span`, if all of them got it."""
    alive = (guests.leave > span[0]) & (guests.arrive < span[1])
    at = np.concatenate([np.maximum(guests.arrive[alive], span[0]), guests.leave[alive]])
    change = np.concatenate([amount[alive], -amount[alive]])
    order = np.lexsort((change, at))
    return float(np.cumsum(change[order]).max(initial=0.0))


def cluster_for(guests: Guests, span: tuple[float, float], load: float, shape: Shape, sites: int = 1) -> Nodes:
    """Equal nodes whose cores are `load` times the peak demand of `span`; the sites follow one another."""
    count = max(int(np.ceil(load * peak(guests, guests.vcpus, span) / (shape.cells * shape.cpu))), sites)
    site = np.arange(count, dtype=np.int64) * sites // count
    return make_nodes(np.full(count, shape.cpu), np.full(count, shape.memory), cells=shape.cells, site=site)


def cluster_like(pattern: Nodes, guests: Guests, span: tuple[float, float], load: float) -> Nodes:
    """Nodes of `pattern` in turns until their cores are `load` times the peak demand of `span`, sorted by site."""
    wanted = load * peak(guests, guests.vcpus, span)
    cores = pattern.cpu * pattern.cells
    rounds = int(wanted // cores.sum()) + 1
    many = np.tile(np.arange(len(cores)), rounds)
    count = int(np.searchsorted(np.cumsum(cores[many]), wanted)) + 1
    rows = many[:count]
    nodes = take_nodes(pattern, rows[np.argsort(pattern.site[rows], kind="stable")])
    return nodes._replace(rack=np.arange(count, dtype=np.int64)) if rounds > 1 else nodes


def sample(guests: Guests, factor: float, seed: int) -> Guests:
    """`factor` times the demand: whole tenants of the trace at random, or the trace laid over itself days apart."""
    rng = np.random.default_rng(seed)
    first, last = float(guests.arrive[0]), float(guests.arrive[-1])
    copies = []
    left, tenants = factor, int(guests.tenant.max(initial=-1)) + 1
    groups = int(guests.group.max(initial=-1)) + 1
    for copy in range(int(np.ceil(factor))):
        keep = rng.random(tenants) < min(left, 1.0)
        rows = keep[guests.tenant]
        life = guests.leave[rows] - guests.arrive[rows]
        arrive = first + (guests.arrive[rows] - first + copy * DAY_S) % (last - first + 1.0)
        part = Guests._make(column[rows] for column in guests)
        group = np.where(part.group >= 0, part.group + copy * groups, -1)
        tenant = part.tenant + copy * tenants
        thought = arrive + (guests.expect[rows] - guests.arrive[rows])
        copies.append(part._replace(arrive=arrive, leave=arrive + life, expect=thought, tenant=tenant, group=group))
        left -= 1.0
    whole = Guests._make(np.concatenate(columns) for columns in zip(*copies, strict=True))
    return take_guests(whole, np.argsort(whole.arrive, kind="stable").astype(np.int64))


def cut(
    guests: Guests,
    count: int,
    load: float,
    *,
    seed: int = 0,
    hosts: int = 60,
    sites: int = 3,
    shape: Shape | None = None,
    pattern: Nodes | None = None,
    period: tuple[float, float] = (0.4, 1.0),
) -> list[Window]:
    """`count` windows that begin evenly through `period` (shares of the trace), of about `hosts` nodes each.

    Every window has another sample of tenants, is a quarter of the period long, and is pre-filled from everything
    before it. `load` 0.9 means that the nodes' cores are 0.9 of the window's peak demand. `pattern` gives the nodes
    instead of `shape`.

    Raises:
        ValueError: the trace has no lifetimes or is too short.
    """
    if len(guests.arrive) < 2 or not np.isfinite(guests.leave).any():
        raise ValueError("the trace has no lifetimes (life_s): nothing would ever leave")
    shape = Shape() if shape is None else shape
    length = float(guests.arrive[-1] - guests.arrive[0])
    if length <= 0:
        raise ValueError("all guests of the trace arrive at once: there is no time to cut windows from")
    begin, end = (float(guests.arrive[0]) + length * share for share in period)
    span_s = (end - begin) / 4
    cores = shape.cells * shape.cpu if pattern is None else float((pattern.cpu * pattern.cells).mean())
    windows = []
    for index, start in enumerate(np.linspace(begin, end - span_s, count)):
        span = (float(start), float(start) + span_s)
        seen = take_guests(guests, guests.arrive < span[1])
        factor = hosts * cores / max(load * peak(seen, seen.vcpus, span), 1.0)
        part = sample(seen, factor, seed * 10_007 + index)
        nodes = (
            cluster_for(part, span, load, shape, sites) if pattern is None else cluster_like(pattern, part, span, load)
        )
        windows.append(Window(nodes, part, span))
    return windows
