"""The event simulator: arrivals, departures, failures and maintenance over a cluster, one compiled loop."""

from typing import NamedTuple

import numpy as np

from models.placement.kernel import Floats, Ints, kernel
from models.placement.rules import PLAIN, Knobs, Rule, pick
from models.placement.slots import put, take
from models.placement.tables import (
    BLOCKS8,
    BLOCKS16,
    CPU,
    EMPTY,
    FREE,
    GPU,
    MEMORY,
    Guests,
    Nodes,
    State,
    empty_state,
)

CLOSE, OPEN, FAIL = 0, 1, 2
"""Kinds of node events: maintenance begins (guests are moved off), it is back, it dies (guests start elsewhere)."""

DENIED, UNSEEN = -1, -2
"""In `Run.placed`: no node could take the guest; it has not arrived yet."""

SECONDS, MOVES, MOVED_GIB, RESTARTS, LOST, NEXT_LEAVER, NEXT_EVENT = 8, 9, 10, 11, 12, 13, 14
"""Rows of `Run.tally` after the first eight, which are the sums of `State.sums` times seconds."""


class Events(NamedTuple):
    """Node events in the order of time, (e,)."""

    at: Floats
    node: Ints
    kind: Ints


class Run(NamedTuple):
    """One simulation under way: what is to happen, and what has been counted."""

    nodes: Nodes
    guests: Guests
    state: State
    leavers: Ints
    """Guests in the order in which they leave."""
    events: Events
    span: Floats
    """(2,) seconds: only what happens in between is counted."""
    clock: Floats
    """(1,)"""
    tally: Floats
    placed: Ints
    """(g,) the node that a guest was first put on, or `DENIED` or `UNSEEN`."""
    pairs: Ints
    """(sites, sites) pairs of guests of one tenant, by where the two were when the second came."""


def no_events() -> Events:
    """Nothing happens to any node."""
    return Events(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def begin(nodes: Nodes, guests: Guests, span: tuple[float, float], events: Events | None = None) -> Run:
    """A simulation of `guests` (sorted by arrival) on empty `nodes`, counting within `span` (seconds)."""
    if len(guests.arrive) and np.any(np.diff(guests.arrive) < 0):
        raise ValueError("guests must be in the order of their arrival: use make_guests")
    state = empty_state(nodes, guests)
    sites = len(state.site_free)
    return Run(
        nodes=nodes,
        guests=guests,
        state=state,
        leavers=np.argsort(guests.leave, kind="stable").astype(np.int64),
        events=no_events() if events is None else events,
        span=np.asarray(span, np.float64),
        clock=np.zeros(1),
        tally=np.zeros(16),
        placed=np.full(len(guests.arrive), UNSEEN, np.int64),
        pairs=np.zeros((sites, sites), np.int64),
    )


def simulate(
    nodes: Nodes,
    guests: Guests,
    rule: Rule,
    span: tuple[float, float],
    knobs: Knobs = PLAIN,
    events: Events | None = None,
) -> Run:
    """Run all of `guests` through `rule`; guests that arrive before `span` warm the cluster up."""
    run = begin(nodes, guests, span, events)
    play(run, 0, len(guests.arrive), int(rule), knobs)
    advance(run, float(run.span[1]), int(rule), knobs)
    return run


@kernel
def _pass_time(run: Run, until: float) -> None:
    """Count the sums over the time since the clock, and set the clock."""
    since = max(run.clock[0], run.span[0])
    end = min(until, run.span[1])
    if end > since:
        for i in range(len(run.state.sums)):
            run.tally[i] += run.state.sums[i] * (end - since)
        run.tally[SECONDS] += end - since
    run.clock[0] = max(run.clock[0], until)


@kernel
def counted(run: Run, at: float) -> bool:
    """Whether what happens at `at` is counted."""
    return bool(run.span[0] <= at < run.span[1])


@kernel
def place(run: Run, g: int, n: int, slot: int, cards: int) -> None:
    """Put an arriving guest on node `n` (-1 denies it) and count it and its pairs."""
    if n < 0:
        run.placed[g] = DENIED
        return
    run.placed[g] = n
    if counted(run, run.guests.arrive[g]):
        here = run.nodes.site[n]
        for site in range(len(run.state.site_free)):
            run.pairs[here, site] += run.state.tenants[run.guests.tenant[g], site]
    put(run.nodes, run.state, run.guests, g, n, slot, cards)


@kernel
def _empty_node(run: Run, n: int, rule: int, knobs: Knobs, alive: bool, now: float) -> None:
    """Take the guests off node `n`: moved when it is `alive` (or left there), else restarted or lost."""
    g = run.state.first[n]
    while g >= 0:
        following = run.state.after[g]
        slot, cards = run.state.slot[g], run.state.cards[g]
        take(run.nodes, run.state, run.guests, g)
        to, to_slot, to_cards = pick(rule, run.nodes, run.state, run.guests, g, now, knobs, n)
        if to >= 0:
            put(run.nodes, run.state, run.guests, g, to, to_slot, to_cards)
        elif alive:
            put(run.nodes, run.state, run.guests, g, n, slot, cards)
        if counted(run, now):
            if to < 0 and not alive:
                run.tally[LOST] += 1
            elif to >= 0 and alive:
                run.tally[MOVES] += 1
                run.tally[MOVED_GIB] += run.guests.memory[g]
            elif to >= 0:
                run.tally[RESTARTS] += 1
        g = following


@kernel
def advance(run: Run, until: float, rule: int, knobs: Knobs) -> None:
    """Let guests leave and nodes fail, close and open up to `until`; `rule` places those that have to go."""
    leaver, event = int(run.tally[NEXT_LEAVER]), int(run.tally[NEXT_EVENT])
    while True:
        leaves = run.guests.leave[run.leavers[leaver]] if leaver < len(run.leavers) else np.inf
        happens = run.events.at[event] if event < len(run.events.at) else np.inf
        if min(leaves, happens) > until:
            break
        _pass_time(run, min(leaves, happens))
        if leaves <= happens:
            g = run.leavers[leaver]
            leaver += 1
            if run.state.where[g] >= 0:
                take(run.nodes, run.state, run.guests, g)
            continue
        n, kind = run.events.node[event], run.events.kind[event]
        event += 1
        run.state.open[n] = kind == OPEN
        if kind != OPEN:
            _empty_node(run, n, rule, knobs, kind == CLOSE, happens)
    _pass_time(run, until)
    run.tally[NEXT_LEAVER], run.tally[NEXT_EVENT] = leaver, event


@kernel
def play(run: Run, first: int, end: int, rule: int, knobs: Knobs) -> None:
    """Let the guests `first` to `end` (exclusive) arrive, as far as they do within the span."""
    for g in range(first, end):
        now = run.guests.arrive[g]
        if now >= run.span[1]:
            break
        advance(run, now, rule, knobs)
        n, slot, cards = pick(rule, run.nodes, run.state, run.guests, g, now, knobs, -1)
        place(run, g, n, slot, cards)


class Outcome(NamedTuple):
    """What one run came to. Shares are 0..1; allocated and fragmentation are means over time."""

    guests: int
    rejected_guests: float
    rejected_cores: float
    cpu_allocated: float
    memory_allocated: float
    gpu_allocated: float
    fragmentation8: float
    """Share of the free cores that don't lie in whole blocks of 8 in one cell."""
    fragmentation16: float
    empty_nodes: float
    split_pairs: float
    """Share of the pairs of one tenant's guests that are in two sites."""
    moves: int
    moved_gib: float
    restarts: int
    lost: int


def outcome(run: Run) -> Outcome:
    """The figures of a finished run, over its span."""
    nodes, guests, tally = run.nodes, run.guests, run.tally
    seen = (guests.arrive >= run.span[0]) & (guests.arrive < run.span[1]) & (run.placed != UNSEEN)
    denied = seen & (run.placed == DENIED)
    seconds = max(float(tally[SECONDS]), 1e-9)
    mean = tally[:8] / seconds
    free = max(float(mean[FREE]), 1e-9)
    pairs = max(int(run.pairs.sum()), 1)
    return Outcome(
        guests=int(seen.sum()),
        rejected_guests=_share(denied.sum(), seen.sum()),
        rejected_cores=_share(guests.vcpus[denied].sum(), guests.vcpus[seen].sum()),
        cpu_allocated=_share(mean[CPU], (nodes.cpu * nodes.cells).sum()),
        memory_allocated=_share(mean[MEMORY], (nodes.memory * nodes.cells).sum()),
        gpu_allocated=_share(mean[GPU], nodes.gpus.sum()),
        fragmentation8=1.0 - float(mean[BLOCKS8]) / free,
        fragmentation16=1.0 - float(mean[BLOCKS16]) / free,
        empty_nodes=_share(mean[EMPTY], len(nodes.cpu)),
        split_pairs=1.0 - float(np.trace(run.pairs)) / pairs if run.pairs.any() else 0.0,
        moves=int(tally[MOVES]),
        moved_gib=float(tally[MOVED_GIB]),
        restarts=int(tally[RESTARTS]),
        lost=int(tally[LOST]),
    )


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
