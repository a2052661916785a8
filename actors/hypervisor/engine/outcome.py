"""How a move stands, from what libvirt says now and what the ledger knows (V11: read, never assumed)."""

from actors.hypervisor.engine.ledger import JobRecord
from actors.hypervisor.engine.states import JOB_RUNNING
from actors.hypervisor.messages import MoveStatus


def outgoing(record: JobRecord, guest_state: str, stats: dict[str, int], *, calling: bool) -> MoveStatus:
    """The source's account. `stats`: libvirt's job of the domain, {} for none; `calling`: our call has not returned.

    libvirt undefines the guest here only once the target has confirmed, so an absent guest is a finished move.
    """
    if not record.started:
        outcome = "none"
    elif guest_state == "absent":
        outcome = "succeeded"
    elif calling or stats.get("type", 0) in JOB_RUNNING:
        outcome = "running"
    else:
        outcome = "failed"
    return _status(record, outcome, guest_state, stats)


def incoming(record: JobRecord, guest_state: str, stats: dict[str, int]) -> MoveStatus:
    """The target's account: running until the guest has executed here."""
    if guest_state in {"running", "paused"}:
        outcome = "succeeded"
    elif guest_state in {"incoming", "absent"}:
        outcome = "running"
    else:
        outcome = "failed"
    return _status(record, outcome, guest_state, stats)


def _status(record: JobRecord, outcome: str, guest_state: str, stats: dict[str, int]) -> MoveStatus:
    failed = outcome == "failed"
    return MoveStatus(
        outcome=outcome,
        guest_state=guest_state,
        reason=(record.reason or "libvirt no longer has the job") if failed else "",
        libvirt_code=record.libvirt_code if failed else 0,
        memory_total=stats.get("memory_total", 0),
        memory_remaining=stats.get("memory_remaining", 0),
        memory_processed=stats.get("memory_processed", 0),
        disk_total=stats.get("disk_total", 0),
        disk_remaining=stats.get("disk_remaining", 0),
        dirty_pages_per_s=stats.get("memory_dirty_rate", 0),
        iteration=stats.get("memory_iteration", 0),
        downtime_ms=stats.get("downtime", 0),
        stopped_at=record.stopped_at,
        resumed_at=record.resumed_at,
        loaded_at=record.loaded_at,
    )
