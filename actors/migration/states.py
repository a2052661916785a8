"""A move's states, steps and record. Times are Unix seconds."""

from enum import StrEnum
from typing import Literal

import msgspec

from actors.hypervisor.messages import MovePath

IfStalled = Literal["wait", "cancel"]


class State(StrEnum):
    """States of a move; docs/jobs.md maps them to libvirt's five steps."""

    BEGIN = "begin"
    PREPARE = "prepare"
    PERFORM = "perform"
    SWITCHOVER = "switchover"
    FINISH = "finish"
    CONFIRM = "confirm"
    ROLLING_BACK = "rolling-back"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
# From here on the target has executed the guest: it belongs there, whatever happens (V2).
PAST_NO_RETURN = frozenset({State.FINISH, State.CONFIRM, State.COMPLETED})
# Until the guest stops the pause that it may have can be changed.
PAUSE_OPEN = frozenset({State.BEGIN, State.PREPARE, State.PERFORM})


class Side(StrEnum):
    """Where a move leaves traces: at its two nodes, and in the agreed control state."""

    SOURCE = "source"
    TARGET = "target"
    STATE = "state"


class Step(StrEnum):
    """What can be done for a job; every step may be repeated."""

    FREEZE = "freeze"
    RECEIVE = "receive"
    WIRE = "wire"
    START = "start"
    COMMIT = "commit"
    ABORT = "abort"
    UNDO_SOURCE = "undo-source"
    UNDO_TARGET = "undo-target"
    FINISH_SOURCE = "finish-source"
    FINISH_TARGET = "finish-target"
    UNDO_STATE = "undo-state"
    FINISH_STATE = "finish-state"


SIDE_OF: dict[Step, Side] = {
    Step.UNDO_SOURCE: Side.SOURCE,
    Step.UNDO_TARGET: Side.TARGET,
    Step.FINISH_SOURCE: Side.SOURCE,
    Step.FINISH_TARGET: Side.TARGET,
    Step.UNDO_STATE: Side.STATE,
    Step.FINISH_STATE: Side.STATE,
}


_UNDOING = frozenset({Step.UNDO_SOURCE, Step.UNDO_TARGET, Step.UNDO_STATE})
_FINISHING = frozenset({Step.FINISH_SOURCE, Step.FINISH_TARGET, Step.FINISH_STATE})
# The steps that are ever instructed in each state.
STEPS_IN: dict[State, frozenset[Step]] = {
    State.BEGIN: frozenset({Step.FREEZE}),
    State.PREPARE: frozenset({Step.RECEIVE, Step.WIRE}),
    State.PERFORM: frozenset({Step.START}),
    State.SWITCHOVER: frozenset(),
    State.FINISH: frozenset({Step.COMMIT}),
    State.CONFIRM: _FINISHING | {Step.COMMIT},
    State.ROLLING_BACK: _UNDOING | {Step.ABORT},
    State.COMPLETED: _FINISHING,
    State.FAILED: _UNDOING,
    State.CANCELLED: _UNDOING,
}


class Ruling(StrEnum):
    """What a roll-back has found out for good; from then on only cleaning up is left."""

    OPEN = "open"
    SOURCE_KEEPS = "source-keeps"
    GUEST_ENDED = "guest-ended"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One move, as the journal keeps it.

    `owed`: sides where this job may have made something that is not cleaned up yet. `move_started`: libvirt may have
    been told to begin. `committed`: it is agreed on that the target owns the guest. `since`: when the present state was
    entered. `error` is the first failure; `note` says what the job waits for, or what else is worth knowing.

    `rtt_ms` of the link and `fixed_ms`, the part of the pause that no pages take, were expected at the beginning.
    `predicted_pause_ms`: when QEMU was last allowed to stop the guest. `pages_at`, `sent_at`: when the source handed
    the last pages and the last byte to the wire; `delivered_at`, `loaded_at`: when the target's QEMU got the last byte
    and had loaded all; 0 before. `stalled`: it gets nowhere as things are; `if_stalled`: what is to be done then.
    `path`: how guest memory crosses, chosen once, for the reason `path_reason`.
    """

    id: str
    guest: str
    source: str
    target: str
    pause_budget_ms: int
    created_at: float
    since: float
    state: State = State.BEGIN
    ended_at: float = 0.0
    owed: frozenset[Side] = frozenset()
    move_started: bool = False
    committed: bool = False
    cancel_asked: bool = False
    ruling: Ruling = Ruling.OPEN
    source_gone: bool = False
    rtt_ms: float = 0.0
    fixed_ms: float = 0.0
    if_stalled: IfStalled = "wait"
    stopped_at: float = 0.0
    resumed_at: float = 0.0
    pages_at: float = 0.0
    sent_at: float = 0.0
    delivered_at: float = 0.0
    loaded_at: float = 0.0
    predicted_pause_ms: float = -1.0
    stalled: bool = False
    error: str = ""
    error_fields: dict[str, str | int | float] = {}
    note: str = ""
    placement_reason: str = ""
    path: MovePath = "coded"
    path_reason: str = ""
    max_mbit: float = 0.0
    key: str = ""

    @property
    def ended(self) -> bool:
        """True when the state will not change any more (cleaning up may still be owed)."""
        return self.state in ENDED

    @property
    def settled(self) -> bool:
        """True when nothing at all is left to do."""
        return self.ended and not self.owed


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a job may stay in each state before its time-out event."""

    begin_s: float
    prepare_s: float
    perform_s: float
    switchover_s: float
    finish_s: float
    confirm_s: float
    rollback_s: float

    def of(self, state: State) -> float:
        """The limit of `state`, which must not be an ended one."""
        return {
            State.BEGIN: self.begin_s,
            State.PREPARE: self.prepare_s,
            State.PERFORM: self.perform_s,
            State.SWITCHOVER: self.switchover_s,
            State.FINISH: self.finish_s,
            State.CONFIRM: self.confirm_s,
            State.ROLLING_BACK: self.rollback_s,
        }[state]
