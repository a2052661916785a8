"""Which moves of a plan may begin: several at once, but none before what it rests on."""

from collections.abc import Sequence

from actors.placement.messages import PlannedMove

PLANNED, MOVING = "planned", "moving"


def startable(moves: Sequence[PlannedMove], states: Sequence[str], at_once: int) -> list[int]:
    """The moves to begin now, in the plan's order, so that at most `at_once` are under way.

    A move waits for each earlier one that has not ended and frees room at its target, or whose guest a group ties to
    its own.
    """
    room = at_once - sum(state == MOVING for state in states)
    found: list[int] = []
    for index, move in enumerate(moves):
        if len(found) >= room:
            break
        earlier = [moves[one] for one in range(index) if states[one] in (PLANNED, MOVING)]
        if states[index] == PLANNED and not any(_rests_on(move, one) for one in earlier):
            found.append(index)
    return found


def _rests_on(move: PlannedMove, earlier: PlannedMove) -> bool:
    return earlier.source == move.target or not set(earlier.groups).isdisjoint(move.groups)
