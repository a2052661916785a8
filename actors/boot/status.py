"""How far a node's start is: what `/readyz` and `novacron status` show."""

from typing import Literal

import msgspec

from actors.boot.component import Criticality, Phase

Progress = Phase | Literal["ready", "halted", "stopped"]
State = Literal["waiting", "starting", "retrying", "up", "failed", "skipped", "stopped"]


class ComponentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One component. Times are in seconds.

    `reason` says why it is not up or, when it is, of what its last try failed. `started_after_s` is null until it
    starts; `took_s` runs from its first start until it was up or given up, retries included.
    """

    name: str
    phase: Phase
    criticality: Criticality
    state: State
    reason: str = ""
    started_after_s: float | None = None
    took_s: float = 0.0


class BootStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The whole start.

    `phase`: the first phase in which something is not settled; then ``ready``, ``halted`` or ``stopped``. `ready` is
    true also when degraded or warning components are missing. `elapsed_s`: until ready, or until now. `sequential_s`:
    the sum of all `took_s`, which is at most what starting one after another would have taken on an idle machine.
    """

    phase: Progress
    ready: bool
    elapsed_s: float
    sequential_s: float
    components: list[ComponentStatus]


class Unhealthy(msgspec.Struct, frozen=True, kw_only=True):
    """A component that is up but not well, and why."""

    name: str
    criticality: Criticality
    reason: str
