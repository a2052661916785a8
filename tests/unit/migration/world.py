"""Two simulated hypervisors with their agents, and one guest between them: what libvirt does, step by step."""

from actors.hypervisor.messages import MoveStatus
from actors.migration.events import Reading

UNREACHABLE = Reading(problem="no answer")


class Side:
    """One node as its agent and its libvirt have it."""

    def __init__(self, guest: str) -> None:
        self.guest = guest
        self.outcome = "none"
        self.prepared = False
        self.ended = False
        self.reachable = True
        self.stopped_at = 0.0
        self.resumed_at = 0.0

    def status(self) -> MoveStatus:
        return MoveStatus(
            outcome=self.outcome,
            guest_state=self.guest,
            stopped_at=self.stopped_at,
            resumed_at=self.resumed_at,
        )

    def read(self) -> Reading:
        return Reading(status=self.status()) if self.reachable else UNREACHABLE


class StepRefused(Exception):
    """The agent would not do it."""


class World:
    """The pair. `libvirt` is the phase of its migration: idle, copying, stopped, handed-over or over."""

    def __init__(self) -> None:
        self.source = Side("running")
        self.target = Side("absent")
        self.libvirt = "idle"
        self.target_executed = False
        self.guest_ended = False
        self.finish_in_flight = False
        self.clock = 100.0
        self.agreed = ""

    # -- what the agents do -------------------------------------------------------------------------------------

    def freeze(self) -> None:
        self._open(self.source)

    def receive(self) -> None:
        self._open(self.target)

    def start(self) -> None:
        if not self.source.prepared:
            raise StepRefused
        if self.libvirt == "idle":
            self.libvirt = "copying"
            self.source.outcome = "running"

    def abort(self) -> None:
        """Until the hand-over libvirt gives up when told to."""
        if self.libvirt in {"copying", "stopped"}:
            self.libvirt_fails(target_cleaned=True)

    def undo_source(self, *, resume: bool) -> None:
        if resume and self.source.guest == "paused":
            self.source.guest = "running"
        self._close(self.source)

    def undo_target(self) -> None:
        if self.target.guest == "running":
            raise StepRefused
        self.target.guest = "absent"
        self._close(self.target)

    def finish_source(self) -> None:
        self.source.guest = "absent"
        self._close(self.source)

    def finish_target(self) -> None:
        self._close(self.target)

    def agree(self, owner: str) -> None:
        """The control state learns who has the guest for good: once, and only what is true (V3)."""
        assert self.agreed in {"", owner}, f"{owner} was agreed on after {self.agreed}"
        assert self.target_executed == (owner == "target"), f"{owner} does not have it"
        self.agreed = owner

    # -- what libvirt and the guest do --------------------------------------------------------------------------

    def libvirt_prepares(self) -> None:
        if self.libvirt == "copying" and self.target.guest == "absent" and self.target.prepared:
            self.target.guest = "incoming"

    def libvirt_stops_source(self) -> None:
        if self.libvirt == "copying" and self.target.guest == "incoming":
            self.libvirt = "stopped"
            self.source.guest = "paused"
            self.source.stopped_at = self._tick()

    def libvirt_hands_over(self) -> None:
        if self.libvirt == "stopped" and self.target.guest == "incoming":
            self.libvirt = "handed-over"
            self.target.guest = "running"
            self.target.resumed_at = self._tick()
            self.target_executed = True

    def libvirt_confirms(self) -> None:
        if self.libvirt == "handed-over":
            self.libvirt = "over"
            self.source.guest = "absent"
            self.source.outcome = "succeeded"

    def libvirt_fails(self, *, target_cleaned: bool) -> None:
        """The move breaks before the hand-over; the source resumes."""
        if self.libvirt in {"copying", "stopped"}:
            self.libvirt = "over"
            self.source.outcome = "failed"
            if self.source.guest == "paused":
                self.source.guest = "running"
            if target_cleaned and self.target.guest == "incoming":
                self.target.guest = "absent"

    def libvirtd_dies_at_source(self, *, target_cleaned: bool, forgets: bool) -> None:
        """The source stays as it is: paused when it had stopped, even after the hand-over."""
        if self.libvirt in {"copying", "stopped", "handed-over"}:
            self.finish_in_flight = self.libvirt == "stopped"
            self.libvirt = "over"
            self.source.outcome = "none" if forgets else "failed"
            if target_cleaned and self.target.guest == "incoming":
                self.target.guest = "absent"

    def finish_arrives_late(self) -> None:
        """The source's libvirtd had sent its last call before it died."""
        if self.finish_in_flight and self.target.guest == "incoming":
            self.target.guest = "running"
            self.target.resumed_at = self._tick()
            self.target_executed = True
        self.finish_in_flight = False

    def target_cleans_up(self) -> None:
        """libvirt at the target notices that the source's side is gone."""
        if self.libvirt == "over" and self.target.guest == "incoming":
            self.target.guest = "absent"

    def guest_powers_off(self) -> None:
        if self.libvirt == "copying" and self.source.guest == "running":
            self.guest_ended = True
            self.source.guest = "absent"
            self.libvirt = "over"
            self.source.outcome = "failed"

    def _tick(self) -> float:
        self.clock += 0.1
        return self.clock

    @staticmethod
    def _open(side: Side) -> None:
        if side.ended:
            # An order that comes late, for a job that was ended here, must not bring it back.
            raise StepRefused
        side.prepared = True

    @staticmethod
    def _close(side: Side) -> None:
        side.prepared = False
        side.ended = True
