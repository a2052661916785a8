"""Clients: each asks for one thing after the other and remembers what it was told."""

from random import Random
from typing import TYPE_CHECKING

from benchmarks.agreeing.history import Fate, Operation
from benchmarks.agreeing.machine import What
from benchmarks.agreeing.node import TICK_US

if TYPE_CHECKING:
    from benchmarks.agreeing.world import World

_PATIENCE_US = 25 * TICK_US
_ASKS = 12


class Client:
    """One client. It asks whom it believes to lead, follows hints, and gives up on an operation after some time."""

    def __init__(self, number: int, world: "World", chance: Random) -> None:
        self.number, self.world, self.chance = number, world, chance
        self._known: dict[int, int] = {}
        self._asks = 0
        self._waits_for: Operation | None = None

    def begin(self) -> None:
        """Ask for something."""
        world = self.world
        draw, key = self.chance.random(), self.chance.randrange(world.plan.keys)
        what = What.GET if draw < 0.4 else What.PUT if draw < 0.8 else What.SWAP
        operation = world.operation(self.number, what, key, self._known.get(key, 0))
        operation.then = self._ended
        self._asks, self._waits_for = 0, operation
        self._try(operation, 0)

    def _try(self, operation: Operation, hint: int) -> None:
        """Ask `hint`, or anybody if that is nobody."""
        world = self.world
        node = world.nodes.get(hint) or world.nodes[self.chance.choice(list(world.nodes))]
        refused = node.ask(operation)
        self._asks += 1
        if refused is None:
            world.note("ask", node.me, operation)
            world.schedule.after(_PATIENCE_US, self._give_up, operation)
        elif self._asks < _ASKS:
            world.schedule.after(self.chance.randrange(TICK_US) + 1, self._try, operation, refused)
        else:
            operation.end(Fate.LOST, 0, world.schedule.now_us)

    def _ended(self, operation: Operation) -> None:
        if operation.fate is Fate.DONE:
            self._known[operation.key] = operation.result if operation.what is What.GET else operation.value
        self._give_up(operation)

    def _give_up(self, operation: Operation) -> None:
        if self._waits_for is operation:
            self._waits_for = None
            self.world.schedule.after(self.chance.randrange(self.world.plan.pause_us) + 1, self.begin)
