"""Who has the guest? Decided by rule from what both hypervisors say, never assumed (V1, V2, V5, V11).

The source is read first, the target only after the source's answer: so "libvirt's job is over at the source" and then
"absent at the target" prove that nothing can start the guest at the target any more.
"""

from enum import StrEnum
from typing import NamedTuple

from actors.hypervisor.messages import MoveStatus
from actors.migration.events import Reading

# No copy of the guest is there that could run again as it was.
GONE = frozenset({"absent", "shut-off", "crashed"})


class Verdict(StrEnum):
    """What follows from the two accounts."""

    WAIT = "wait"
    ARRIVED = "arrived"
    UNDO_TARGET_FIRST = "undo-target-first"
    RESUME_SOURCE = "resume-source"
    SOURCE_RUNS = "source-runs"
    GUEST_ENDED = "guest-ended"


class Decision(NamedTuple):
    """A verdict and the reason in words."""

    verdict: Verdict
    reason: str


def executed(target: MoveStatus) -> bool:
    """True when the target runs the guest or has run it."""
    return target.guest_state == "running" or target.resumed_at > 0


def decide(source: Reading, target: Reading, *, stopped: bool) -> Decision:
    """The verdict; `stopped` is True when the source's QEMU was ever seen to stop for this move."""
    there, here = target.status, source.status
    if there is not None and executed(there):
        return Decision(Verdict.ARRIVED, "the target has executed the guest")
    if here is None:
        return Decision(Verdict.WAIT, f"the source does not answer: {source.problem}")
    if here.outcome == "succeeded":
        return Decision(Verdict.ARRIVED, "libvirt at the source confirms that the target took over")
    if here.outcome == "running":
        return Decision(Verdict.WAIT, "libvirt at the source is still at work on it")
    if there is None:
        if here.outcome == "failed" and here.guest_state == "running" and not stopped and not here.stopped_at:
            return Decision(Verdict.SOURCE_RUNS, "the source never stopped, so the target has nothing to run")
        return Decision(
            Verdict.WAIT,
            f"the guest is {here.guest_state} at the source; waiting for the target's account "
            f"before anything is decided: {target.problem}",
        )
    return _job_over(here.guest_state, there.guest_state, stopped=stopped or here.stopped_at > 0)


def _job_over(here: str, there: str, *, stopped: bool) -> Decision:
    """The verdict when libvirt's job is over at the source, both answered, and the target has not executed."""
    if here == "running" and stopped and there in {"incoming", "paused"}:
        # The source had handed over and libvirt took it back when it lost the answer: the target may still begin.
        return Decision(Verdict.UNDO_TARGET_FIRST, "the target must let go before the source is believed")
    if here == "running":
        return Decision(Verdict.SOURCE_RUNS, "the guest runs at the source")
    if here in GONE:
        if there == "paused":
            return Decision(Verdict.ARRIVED, "the only copy is at the target")
        return Decision(Verdict.GUEST_ENDED, f"the guest is {here} at the source and {there} at the target")
    if here == "paused" and there == "absent":
        return Decision(Verdict.RESUME_SOURCE, "the guest is paused at the source and provably absent at the target")
    if here == "paused" and there == "incoming":
        return Decision(Verdict.UNDO_TARGET_FIRST, "the target must let go before the source may go on")
    return Decision(
        Verdict.WAIT,
        f"the guest is {here} at the source and {there} at the target: an operator must end one of the two",
    )
