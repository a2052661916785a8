"""What goes into the engine (events) and what comes out (instructions). Times are Unix seconds."""

import msgspec

from actors.hypervisor.messages import MoveStatus
from actors.migration.states import Job, State, Step


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A node's own account of the move, read afresh (V11); `status` is None when it did not answer (`problem`)."""

    status: MoveStatus | None = None
    problem: str = ""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The job is in the journal and may begin."""

    at: float


class Restarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A new manager found the job in the journal; whatever the old one was doing may or may not have happened."""

    at: float


class CancelAsked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The operator wants the guest to stay."""

    at: float


class TimedOut(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`state` has lasted as long as it may."""

    at: float
    state: State


class StepDone(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`step`, instructed in state `issued_in`, took effect."""

    at: float
    issued_in: State
    step: Step


class StepFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """`step` answered with error `code`; after a time-out it may have taken effect all the same."""

    at: float
    issued_in: State
    step: Step
    code: str
    fields: dict[str, str | int | float] = {}


class Observed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Both hypervisors' accounts. The target is always read *after* the source's answer was there.

    `target` is None when it was not asked, since the source's account settles the matter. `codec_failure` says why the
    encoder or decoder gave up, '' when it did not. `pages_at`, `sent_at`: when the encoder handed on the last pages and
    the last byte of all, 0 when it does not say.
    """

    at: float
    issued_in: State
    source: Reading
    target: Reading | None
    codec_failure: str = ""
    pages_at: float = 0.0
    sent_at: float = 0.0


class PauseChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The operator allows another pause."""

    at: float
    pause_ms: int


Event = Started | Restarted | CancelAsked | TimedOut | StepDone | StepFailed | Observed | PauseChanged


class Do(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Perform `step` after `after_s` seconds and report it. `resume`: with UNDO_SOURCE, let the paused guest go on.

    `beside`: what follows need not wait until it is done.
    """

    step: Step
    resume: bool = False
    beside: bool = False
    after_s: float = 0.0


class Read(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read both hypervisors after `after_s` seconds and report `Observed`."""

    after_s: float = 0.0


class Deadline(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Report `TimedOut(state)` in `after_s` seconds; replaces the deadline before."""

    state: State
    after_s: float


class Announce(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell those who watch how the job is now. `kind`: state, stalled or error."""

    kind: str
    job: Job


Instruction = Do | Read | Deadline | Announce
