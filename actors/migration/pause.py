"""The account of a pause: what was predicted, what it was, and where the time went. Pure."""

from collections.abc import Sequence
from statistics import median

import msgspec

from actors.migration.states import Job

# Between stop and resume: the last byte to the target, QEMU's word that all is loaded, libvirt's Finish.
ONE_WAY_TRIPS = 3
# What device state and resuming take on a quiet host, until this source has moved something to this target.
WORK_MS = 100.0
PAST_MOVES = 5


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """One pause in milliseconds, each moment by its own host's clock; -1: not known.

    `predicted_ms` is of the moment at which QEMU was allowed to stop. The four parts add up to `total_ms`: the last
    pages until they are in the target's QEMU; device state saved, carried and loaded; three ways across the link; and
    the rest: libvirt's last words on both hosts and the target's first instruction.
    """

    total_ms: float = -1.0
    predicted_ms: float = -1.0
    last_pages_ms: float = -1.0
    device_state_ms: float = -1.0
    round_trips_ms: float = -1.0
    resume_ms: float = -1.0


def account(job: Job) -> Pause:
    """The account of `job`, as far as it is known."""
    total_ms = pause_ms(job)
    if total_ms < 0 or not (job.pages_at and job.sent_at and job.delivered_at and job.loaded_at):
        return Pause(total_ms=total_ms, predicted_ms=job.predicted_pause_ms)
    one_way_ms = job.rtt_ms / 2
    # Differences of one clock where that can be had: the source's for what was sent, the target's for what was loaded.
    device_ms = max(0.0, job.sent_at - job.pages_at) * 1000 + max(0.0, job.loaded_at - job.delivered_at) * 1000
    pages_ms = (job.delivered_at - job.stopped_at) * 1000 - one_way_ms - max(0.0, job.sent_at - job.pages_at) * 1000
    pages_ms = min(max(0.0, pages_ms), total_ms)
    device_ms = min(device_ms, total_ms - pages_ms)
    trips_ms = min(ONE_WAY_TRIPS * one_way_ms, total_ms - pages_ms - device_ms)
    return Pause(
        total_ms=total_ms,
        predicted_ms=job.predicted_pause_ms,
        last_pages_ms=pages_ms,
        device_state_ms=device_ms,
        round_trips_ms=trips_ms,
        resume_ms=total_ms - pages_ms - device_ms - trips_ms,
    )


def pause_ms(job: Job) -> float:
    """From the source's STOP to the target's RESUME, -1 while unknown (or when the nodes' clocks make it negative)."""
    if not (job.stopped_at and job.resumed_at) or job.resumed_at < job.stopped_at:
        return -1.0
    return (job.resumed_at - job.stopped_at) * 1000


def expected_fixed_ms(rtt_ms: float, past: Sequence[Job]) -> float:
    """What a pause will take beside its pages: the median of the last moves in `past` (newest first), else a guess."""
    seen = [one for one in map(account, past) if one.last_pages_ms >= 0][:PAST_MOVES]
    if not seen:
        return ONE_WAY_TRIPS * rtt_ms / 2 + WORK_MS
    return median(one.total_ms - one.last_pages_ms for one in seen)
