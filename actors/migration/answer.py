"""What the engine's answer to one event is made of: the next job, and the instructions in their order."""

import msgspec

from actors.migration.events import Announce, Deadline, Do, Instruction, Read
from actors.migration.states import ENDED, Deadlines, Job, State, Step

RETRY_S = 1.0


class Answer:
    """Begins as `job` without instructions; `at` is when the event happened."""

    def __init__(self, job: Job, at: float, deadlines: Deadlines) -> None:
        self.job = job
        self.instructions: list[Instruction] = []
        self._at = at
        self._deadlines = deadlines

    def _set(self, **changes: object) -> None:
        self.job = msgspec.structs.replace(self.job, **changes)

    def _enter(self, state: State) -> None:
        self._set(state=state, since=self._at)
        self.instructions.append(Announce(kind="state", job=self.job))
        if state not in ENDED:
            self.instructions.append(Deadline(state=state, after_s=self._deadlines.of(state)))

    def _rearm(self) -> None:
        left_s = self.job.since + self._deadlines.of(self.job.state) - self._at
        self.instructions.append(Deadline(state=self.job.state, after_s=max(RETRY_S, left_s)))

    def _overdue(self) -> None:
        self._set(since=self._at)
        self._rearm()
        self.instructions.append(Announce(kind="error", job=self.job))

    def _explain(self, reason: str) -> None:
        if self.job.note != reason:
            self._set(note=reason)
            self.instructions.append(Announce(kind="state", job=self.job))

    def _do(self, step: Step, *, resume: bool = False, beside: bool = False, after_s: float = 0.0) -> None:
        self.instructions.append(Do(step=step, resume=resume, beside=beside, after_s=after_s))

    def _read(self, after_s: float = 0.0) -> None:
        self.instructions.append(Read(after_s=after_s))
