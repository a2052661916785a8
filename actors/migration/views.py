"""How a job looks from outside."""

from actors.errors import error_from
from actors.migration.messages import JobView, Progress
from actors.migration.pause import account, pause_ms
from actors.migration.states import PAST_NO_RETURN, Job, Side, State


def view(job: Job, progress: Progress) -> JobView:
    """The job as callers see it."""
    error = error_from(job.error, job.error_fields) if job.error else None
    message = str(error) if error else job.note
    if error and not job.ended and job.note:
        message = f"{error} Now: {job.note}"
    if job.state is State.CANCELLED:
        message = "Cancelled by request; the guest stayed where it was."
    if job.ended and job.owed:
        where = {Side.SOURCE: job.source, Side.TARGET: job.target, Side.STATE: "the control state"}
        places = ", ".join(where[side] for side in sorted(job.owed))
        message = f"{message} Cleaning up at {places} goes on.".lstrip()
    return JobView(
        id=job.id,
        guest=job.guest,
        source=job.source,
        target=job.target,
        state=job.state,
        created_at=job.created_at,
        ended_at=job.ended_at,
        pause_budget_ms=job.pause_budget_ms,
        pause_ms=pause_ms(job),
        pause=account(job),
        stalled=job.stalled and not job.ended,
        total_s=job.ended_at - job.created_at if job.ended else -1.0,
        owner=job.target if job.state in PAST_NO_RETURN else job.source,
        error=job.error,
        error_fields=job.error_fields,
        message=message,
        next_step=error.next_step if error else "",
        placement_reason=job.placement_reason,
        path=job.path,
        path_reason=job.path_reason,
        progress=progress,
    )
