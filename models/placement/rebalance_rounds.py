"""When moves are made: only those that were worth it look after look, and never of a guest that came lately (V19)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from models.placement.rebalance import Plan, plan
from models.placement.rebalance_cost import Costs
from models.placement.rebalance_inventory import Inventory
from models.placement.rebalance_worth import Terms


@dataclass(frozen=True, slots=True)
class Rounds:
    """What is remembered from look to look.

    `seen`: (guest, target) and in how many looks running it paid, in the order in which they are to be made.
    `moved`: when each guest was last moved, in seconds of whatever clock `look` is given.
    """

    seen: Mapping[tuple[str, str], int] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)

    def after(self, guest: str, now_s: float) -> "Rounds":
        """With `guest` moved now."""
        seen = {pair: count for pair, count in self.seen.items() if pair[0] != guest}
        return Rounds(seen, {**self.moved, guest: now_s})


def look(
    inventory: Inventory, costs: Costs, terms: Terms, rounds: Rounds, now_s: float, most: int | None = None
) -> tuple[Rounds, Plan, Plan]:
    """One look: what is remembered from it, the plan of this look, and the plan of what is to be made now.

    The last has moves only that were in the plans of `terms.rounds` looks running, this one among them; it is made
    anew of them, so it holds by itself. Guests that were moved within `terms.dwell_s` stay.
    """
    rested = settled(inventory, rounds, now_s, terms)
    found = plan(rested, costs, terms, first=rounds.seen, most=most)
    seen = {pair: rounds.seen.get(pair, 0) + 1 for pair in ((move.guest, move.target) for move in found.moves)}
    ripe = [pair for pair, count in seen.items() if count >= terms.rounds]
    due = plan(rested, costs, terms, first=ripe, most=len(ripe), only=True)
    moved = {guest: at for guest, at in rounds.moved.items() if now_s - at < terms.dwell_s}
    return Rounds(seen, moved), found, due


def settled(inventory: Inventory, rounds: Rounds, now_s: float, terms: Terms) -> Inventory:
    """The inventory with the guests fixed that came lately."""
    guests = [
        replace(guest, fixed=guest.fixed or f"it was moved {now_s - rounds.moved[guest.name]:.0f} s ago")
        if guest.name in rounds.moved and now_s - rounds.moved[guest.name] < terms.dwell_s
        else guest
        for guest in inventory.guests
    ]
    return Inventory(list(inventory.hosts), guests)
