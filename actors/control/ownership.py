"""Questions to the control state about owners; the rules ask them, and so do agents before they touch a guest."""

from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from actors.control.decision import Change, Refusal, Refused
from actors.control.model import ControlState, Guest, Job, Lease, LeaseState, Node, Run, replica_key
from actors.migration.states import ENDED, PAST_NO_RETURN

LINEAGE_BITS = 32
NODES_MAX = 1024
RISK_NAMES_MAX = 20


class Right(StrEnum):
    """What a node may do with a guest that it finds on itself."""

    RUN = "run"
    """It is the owner: start it, resume it, keep it running while its lease lasts."""
    LEAVE = "leave"
    """A move is under way: whoever drives the move decides, the agent leaves the guest as it is."""
    NONE = "none"
    """Never run it: what is here is of an earlier owner."""


class Standing(NamedTuple):
    """A right and the epoch that it comes with (0 for none)."""

    right: Right
    epoch: int


def standing(state: ControlState, guest: str, node: str) -> Standing:
    """What `node` may do with `guest`. On top of it comes the lease, by the holder's own clock."""
    record = state.guests.get(guest)
    if record is None or record.run is Run.STOPPED:
        return Standing(Right.NONE, 0)
    job = state.jobs.get(record.job)
    if job is not None and job.state not in PAST_NO_RETURN:
        # From its beginning on: what an agent reads now it may act on after the guest has left.
        if node == job.source:
            return Standing(Right.LEAVE, record.epoch)
        if node == job.target and job.started:
            return Standing(Right.LEAVE, job.epoch)
    return Standing(Right.RUN, record.epoch) if node == record.node else Standing(Right.NONE, 0)


def may_execute(state: ControlState, guest: Guest) -> frozenset[str]:
    """The nodes of which any might execute the guest: the owner, and in a started move both sides."""
    if guest.run is Run.STOPPED:
        return frozenset()
    job = state.jobs.get(guest.job)
    if job is not None and job.started and job.state not in PAST_NO_RETURN:
        return frozenset({job.source, job.target})
    return frozenset({guest.node})


def epoch_at(state: ControlState, index: int) -> int:
    """The epoch of a grant in entry `index`: above every earlier one, also of a guest that was removed and defined
    anew, and above those that a lost part of the cluster may have given."""
    return (state.cluster.lineage << LINEAGE_BITS) + index


def holds_lease(state: ControlState, node: str) -> bool:
    """True while nothing proves or decrees that `node` runs no guests."""
    lease = state.leases.get(node)
    return lease is not None and lease.state is LeaseState.ACTIVE


def held_by(state: ControlState, guest: Guest) -> list[str]:
    """The nodes of which any might execute the guest by a lease that has not ended; nobody else gets it before."""
    return sorted(node for node in may_execute(state, guest) if holds_lease(state, node))


def third_voice(nodes: dict[str, Node]) -> bool:
    """Can the majority outlive the loss of any one site or member? Only then may leases end by time.

    Three members in one site; with more sites, a third site or a witness.
    """
    members = [node for node in nodes.values() if node.speaks]
    sites = {node.site for node in members}
    if len(members) < 3:
        return False
    return len(sites) != 2 or any(node.role == "witness" for node in members)


def risk_of(state: ControlState, nodes: tuple[str, ...]) -> str:
    """What an operator risks by decreeing that `nodes` run nothing; one sentence, the same at every member."""
    held = {node for node in nodes if holds_lease(state, node)}
    names = sorted(name for name, guest in state.guests.items() if may_execute(state, guest) & held)
    where = ", ".join(sorted(set(nodes)))
    if not names:
        return f"Nothing: no guest can be running on {where}."
    listed = ", ".join(names[:RISK_NAMES_MAX])
    if len(names) > RISK_NAMES_MAX:
        mark = blake2b("\n".join(names).encode(), digest_size=4).hexdigest()
        listed += f" and {len(names) - RISK_NAMES_MAX} more (list {mark})"
    return f"It is not proven that {where} stopped running: {listed}. Each may then run twice and damage its disks."


# -- for the rules: the record, or a refusal --------------------------------------------------------------------------


def guest_of(state: ControlState, name: str) -> Guest:
    """The guest, or `unknown`."""
    if (guest := state.guests.get(name)) is None:
        raise Refused(Refusal.UNKNOWN, f"there is no guest {name}")
    return guest


def node_of(state: ControlState, name: str) -> Node:
    """The node, or `unknown`."""
    if (node := state.nodes.get(name)) is None:
        raise Refused(Refusal.UNKNOWN, f"there is no node {name}")
    return node


def job_of(state: ControlState, name: str) -> Job:
    """The move, or `unknown`."""
    if (job := state.jobs.get(name)) is None:
        raise Refused(Refusal.UNKNOWN, f"there is no move {name}")
    return job


def lease_of(state: ControlState, name: str, number: int) -> Lease:
    """The node's active lease of that number, or `lease-ended`."""
    lease = state.leases.get(name)
    if lease is None or lease.number != number or lease.state is not LeaseState.ACTIVE:
        now = f"lease {lease.number} is {lease.state}" if lease else "it has none"
        raise Refused(Refusal.LEASE_ENDED, f"lease {number} of {name} is over: {now}")
    return lease


def taker_of(state: ControlState, name: str) -> Node:
    """A node that may be given guests: a host with a lease that is not being emptied."""
    node = node_of(state, name)
    if node.role != "host":
        raise Refused(Refusal.NO_HOST, f"{name} is a witness and runs no guests")
    if node.draining:
        raise Refused(Refusal.DRAINING, f"{name} is being emptied")
    if not holds_lease(state, name):
        raise Refused(Refusal.NO_LEASE, f"{name} holds no lease")
    return node


def at_epoch(guest: Guest, epoch: int) -> None:
    """Refuse `stale` when the guest's epoch is not the one that the command was made for."""
    if guest.epoch != epoch:
        raise Refused(Refusal.STALE, f"{guest.name} is at epoch {guest.epoch}, not {epoch}")


def not_moving(guest: Guest) -> None:
    """Refuse `busy` while a move holds the guest."""
    if guest.job:
        raise Refused(Refusal.BUSY, f"{guest.name} is held by move {guest.job}")


def live(job: Job) -> Job:
    """The move itself, or `not-then` when it has ended."""
    if job.state in ENDED:
        raise Refused(Refusal.NOT_THEN, f"move {job.id} is {job.state}")
    return job


def own_replica(state: ControlState, guest: str, node: str) -> list[Change]:
    """The end of the replica at `node`, if there is one, for a guest that `node` becomes the owner of."""
    key = replica_key(guest, node)
    return [Change("replicas", key, None)] if key in state.replicas else []
