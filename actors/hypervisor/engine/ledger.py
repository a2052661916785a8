"""The agent's own record of moves: which guests are frozen, what is reserved, what was made. Survives a restart."""

from typing import Final, Literal, Self

import msgspec

from actors.hypervisor.messages import GuestInfo, MovePath

Role = Literal["incoming", "outgoing"]
ENDED_MAX: Final = 256


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job on this node.

    `path`: of an outgoing one, once it was started. `coming`: the guest of an incoming one, as it is at its source.
    `made`: files and folders that this job made here, in order. `started`: libvirt was asked to move. `was_running`:
    the guest ran when it was frozen. `reason`/`libvirt_code`: libvirt's last word. `stopped_at`/`resumed_at`: Unix
    seconds of QEMU's STOP and RESUME since then, `loaded_at` of its migration's completion (0: not seen).
    """

    job: str
    guest: str
    role: Role
    peer: str
    uuid: str = ""
    coming: GuestInfo | None = None
    made: list[str] = []
    started: bool = False
    was_running: bool = False
    path: MovePath = "coded"
    reason: str = ""
    libvirt_code: int = 0
    stopped_at: float = 0.0
    resumed_at: float = 0.0
    loaded_at: float = 0.0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Every job under way on this node, by id. `ended`: those that ended last, oldest first; none of them begins
    again."""

    jobs: dict[str, JobRecord] = {}
    ended: list[str] = []

    def of_guest(self, guest: str) -> JobRecord | None:
        """The job that `guest` is frozen by, or None."""
        return next((record for record in self.jobs.values() if record.guest == guest), None)

    def incoming(self, guest: str) -> bool:
        """True when a job is bringing `guest` here."""
        record = self.of_guest(guest)
        return record is not None and record.role == "incoming"

    def reserved_mib(self, present: frozenset[str], but_for: str = "") -> int:
        """Memory promised to guests that are not `present` yet, job `but_for` left out."""
        return sum(
            record.coming.memory_mib
            for record in self.jobs.values()
            if record.coming is not None and record.guest not in present and record.job != but_for
        )

    def expected(self, but_for: str = "") -> list[JobRecord]:
        """The incoming jobs, job `but_for` left out."""
        return [record for record in self.jobs.values() if record.role == "incoming" and record.job != but_for]

    def put(self, record: JobRecord) -> Self:
        """The ledger with `record` in it."""
        return msgspec.structs.replace(self, jobs={**self.jobs, record.job: record})

    def drop(self, job: str) -> Self:
        """The ledger without `job`, which it may never have had: a word of its beginning may come after its end."""
        jobs = {key: value for key, value in self.jobs.items() if key != job}
        ended = [*(each for each in self.ended if each != job), job][-ENDED_MAX:]
        return msgspec.structs.replace(self, jobs=jobs, ended=ended)

    def seen(self, guest: str, event: str, at: float) -> Self:
        """The ledger after QEMU's `event` (STOP, RESUME, COMPLETED) of `guest` at Unix time `at`."""
        record = self.of_guest(guest)
        # STOP counts from the move's start on; an operator's pause before it is none of the job's.
        if record is None or (record.role == "outgoing" and not record.started):
            return self
        if event == "STOP":
            return self.put(msgspec.structs.replace(record, stopped_at=at))
        if event == "RESUME":
            return self.put(msgspec.structs.replace(record, resumed_at=at))
        if event == "COMPLETED":
            return self.put(msgspec.structs.replace(record, loaded_at=at))
        return self
