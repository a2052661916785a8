"""What a part of a node says about itself so that it can be started, watched and stopped."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Phase = Literal["pre-init", "core", "services", "post-init"]
PHASES: tuple[Phase, ...] = get_args(Phase)
Criticality = Literal["critical", "degraded", "warning"]


async def _nothing_to_do(_value: Any) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a node.

    Attributes:
        name: unique; dependents find what `start` returned under it.
        phase: the part of the start it belongs to; it may need components of its own and of earlier phases.
        start: called with the values of `needs` by name, returns this component's value (or None). It either succeeds
            or leaves nothing behind: a component whose start failed is not stopped. It may be cancelled.
        needs: names of the components that must be up before.
        after: names of components that it waits for and can do without: they must be up, or have been given up, before.
        criticality: what a failed start means. ``critical``: everything started is stopped again. ``degraded``: tried
            again after 1, 2 and 4 s, then the node goes on without. ``warning``: the node goes on without at once.
        health: called with the value; raises when the component is not well.
        stop: called with the value, once, when everything that needed it has stopped.
        deadline_s: limit of each start and of the stop, in seconds.
    """

    name: str
    phase: Phase
    start: Callable[[Mapping[str, Any]], Awaitable[Any]]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    criticality: Criticality = "critical"
    health: Callable[[Any], Awaitable[None]] = _nothing_to_do
    stop: Callable[[Any], Awaitable[None]] = _nothing_to_do
    deadline_s: float = 30.0
