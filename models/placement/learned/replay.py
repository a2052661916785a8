"""Plays a window as a cluster would live it: lifetimes are learned from earlier departures and thought of again."""

import numpy as np

from models.placement.kernel import Ints
from models.placement.learned.lifetimes import Lifetimes
from models.placement.rules import PLAIN, Knobs, Rule
from models.placement.simulator import Run, advance, begin, play, simulate
from models.placement.tables import Guests
from models.placement.windows import Window

AGAIN_S = 1800.0
"""How often the lifetimes of all guests are thought of again."""
FAR_S = 1e12
"""When every guest is thought to leave where nothing is known: none outlasts another."""


def simulate_blind(window: Window, rule: Rule, knobs: Knobs = PLAIN) -> Run:
    """`window` under `rule` with no idea of any lifetime."""
    nothing = np.full(len(window.guests.arrive), FAR_S)
    return simulate(window.nodes, window.guests._replace(expect=nothing), rule, window.span, knobs)


def simulate_predicted(
    window: Window,
    rule: Rule,
    knobs: Knobs = PLAIN,
    *,
    lifetimes: Lifetimes | None = None,
    again_s: float = AGAIN_S,
) -> Run:
    """`window` under `rule` with lifetimes as known when its span begins, every guest's anew each `again_s`.

    What came before the span is warmed up under the same knowledge. `lifetimes` is `known_before(window)` where that
    was asked before; where nothing had left: blind.
    """
    lifetimes = known_before(window) if lifetimes is None else lifetimes
    if lifetimes is None:
        return simulate_blind(window, rule, knobs)
    guests = window.guests
    kinds = lifetimes.kinds(guests)
    first = lifetimes.remaining(kinds, np.zeros(len(kinds)))
    guests = guests._replace(expect=guests.arrive + first.typical)
    run = begin(window.nodes, guests, window.span)
    for start, end, now in _turns(guests, again_s):
        play(run, start, end, int(rule), knobs)
        _think_again(run, lifetimes, kinds, now)
    advance(run, float(run.span[1]), int(rule), knobs)
    return run


def known_before(window: Window) -> Lifetimes | None:
    """The lifetimes that can be known when the span begins; None where nobody had left."""
    try:
        return Lifetimes.fit(window.guests, window.span[0])
    except ValueError:
        return None


def without_the_past(window: Window, hours: float) -> Window:
    """The window without guests that left more than `hours` before its span: less to simulate, the same span.

    Tenants keep their numbers, so that what was learned from the whole window holds.
    """
    rows = window.guests.leave > window.span[0] - hours * 3600.0
    return window._replace(guests=Guests._make(column[rows] for column in window.guests))


def _turns(guests: Guests, again_s: float) -> list[tuple[int, int, float]]:
    """Arrivals (first, after the last) of each turn that has any, and the latest time that is reached in it."""
    turn = ((guests.arrive - guests.arrive[0]) // again_s).astype(np.int64)
    begins = np.flatnonzero(np.diff(turn, prepend=-1))
    ends = np.append(begins[1:], len(turn))
    return [(int(b), int(e), float(guests.arrive[e - 1])) for b, e in zip(begins, ends, strict=True)]


def _think_again(run: Run, lifetimes: Lifetimes, kinds: Ints, now: float) -> None:
    """Set when each guest that is there is thought to leave, and what follows from it for its node."""
    state, guests = run.state, run.guests
    here = np.flatnonzero(state.where >= 0)
    left = lifetimes.remaining(kinds[here], np.maximum(now - guests.arrive[here], 0.0))
    guests.expect[here] = now + left.typical
    state.exit[:] = 0.0
    np.maximum.at(state.exit, state.where[here], guests.expect[here])
