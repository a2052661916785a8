"""What holds in every control state; checked after each command in tests, and before a snapshot is believed."""

from collections.abc import Iterator

from actors.control import audit, sessions
from actors.control.guest_rules import GUESTS_MAX
from actors.control.model import ControlState, Guest, Job, Run, replica_key
from actors.control.move_rules import ENDED_JOBS_KEPT
from actors.control.ownership import epoch_at
from actors.migration.states import ENDED, PAST_NO_RETURN, Ruling


def faults(state: ControlState) -> list[str]:
    """What is wrong, in words; nothing in a good state."""
    return [*_keys(state), *_guests(state), *_jobs(state), *_bounds(state), *_trail(state)]


def _keys(state: ControlState) -> Iterator[str]:
    named = (
        *((key, node.name) for key, node in state.nodes.items()),
        *((key, lease.node) for key, lease in state.leases.items()),
        *((key, guest.name) for key, guest in state.guests.items()),
        *((key, job.id) for key, job in state.jobs.items()),
        *((key, replica_key(each.guest, each.node)) for key, each in state.replicas.items()),
        *((key, policy.name) for key, policy in state.policies.items()),
        *((key, flag.component) for key, flag in state.flags.items()),
        *((key, str(member.number)) for key, member in state.members.items()),
        *((key, author.node) for key, author in state.authors.items()),
        *((key, vouch.node) for key, vouch in state.vouches.items()),
        *((key, str(session.id)) for key, session in state.sessions.items()),
    )
    yield from (f"record {name} stands under {key}" for key, name in named if key != name)
    yield from (f"a lease of {node}, which is no node" for node in state.leases if node not in state.nodes)
    yield from (f"a key of {node}, which is no node" for node in state.authors if node not in state.nodes)
    if set(state.openings) != set(state.authors):
        yield "sessions were opened by nodes without a key, or a node with one can't open any"
    for replica in state.replicas.values():
        if replica.guest not in state.guests or replica.node not in state.nodes:
            yield f"the replica of {replica.guest} at {replica.node} is of no guest or at no node"


def _guests(state: ControlState) -> Iterator[str]:
    newest = epoch_at(state, state.applied)
    for guest in state.guests.values():
        if guest.node and guest.node not in state.nodes:
            yield f"guest {guest.name} is on {guest.node}, which is no node"
        if guest.run is Run.RUNNING and (not guest.node or not guest.epoch):
            yield f"guest {guest.name} runs without an owner"
        if guest.epoch > newest or guest.branch_epoch > guest.epoch:
            yield f"guest {guest.name} has epoch {guest.epoch}, which nobody gave"
        if guest.node and replica_key(guest.name, guest.node) in state.replicas:
            yield f"guest {guest.name} has a replica where it is"
        yield from _held(guest, state.jobs.get(guest.job))


def _held(guest: Guest, job: Job | None) -> Iterator[str]:
    if not guest.job:
        return
    if job is None or job.state in ENDED or job.guest != guest.name:
        yield f"guest {guest.name} is held by {guest.job}, which is no move of it under way"
    elif guest.run is not Run.RUNNING:
        yield f"guest {guest.name} is stopped and moves"
    elif job.state in PAST_NO_RETURN and (guest.node, guest.epoch) != (job.target, job.epoch):
        yield f"move {job.id} is past its point of no return, and {guest.name} is not {job.target}'s"
    elif job.state not in PAST_NO_RETURN and (guest.node != job.source or guest.epoch >= job.epoch):
        yield f"move {job.id} is before its point of no return, and {guest.name} is not {job.source}'s"


def _jobs(state: ControlState) -> Iterator[str]:
    for job in state.jobs.values():
        if job.state not in ENDED:
            guest = state.guests.get(job.guest)
            if guest is None or guest.job != job.id:
                yield f"move {job.id} is under way and does not hold {job.guest}"
            if job.source not in state.nodes or job.target not in state.nodes:
                yield f"move {job.id} goes between {job.source} and {job.target}, of which one is no node"
        if job.state in PAST_NO_RETURN and (not job.started or job.ruling is not Ruling.OPEN):
            yield f"move {job.id} is {job.state} and was not started, or was ruled back"


def _bounds(state: ControlState) -> Iterator[str]:
    if len(state.guests) > GUESTS_MAX:
        yield f"{len(state.guests)} guests"
    if sum(job.state in ENDED for job in state.jobs.values()) > ENDED_JOBS_KEPT:
        yield "too many ended moves"
    if len(state.sessions) > sessions.SESSIONS_MAX:
        yield f"{len(state.sessions)} sessions"
    if any(len(session.answers) > sessions.ANSWERS_KEPT for session in state.sessions.values()):
        yield "a session with too many answers"
    if state.revision > state.applied:
        yield f"revision {state.revision} is after entry {state.applied}"


def _trail(state: ControlState) -> Iterator[str]:
    entries = state.audit
    if len(entries) != min(state.audit_count, audit.KEPT):
        yield f"{len(entries)} audit entries of {state.audit_count}"
        return
    if entries and (entries[-1].link != state.audit_link or entries[-1].number != state.audit_count):
        yield "the audit trail does not end where it should"
    # The link before the first kept entry is gone with the entry itself, so that one is only followed, not proven.
    if entries and (wrong := audit.first_fault(entries[1:], before=entries[0].link)):
        yield f"audit entry {wrong} does not follow from the one before it"
