"""Rules for guests: definitions, starts and stops, failovers, replicas."""

from msgspec.structs import replace

from actors.control.commands import (
    DefineGuest,
    FailOver,
    GuestCommand,
    MarkReplica,
    RemoveGuest,
    RemoveReplica,
    SetReplica,
    StartGuest,
    StopGuest,
)
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.model import ControlState, Guest, Replica, Run, replica_key
from actors.control.move_rules import oldest_ended
from actors.control.ownership import (
    at_epoch,
    epoch_at,
    guest_of,
    held_by,
    holds_lease,
    node_of,
    not_moving,
    own_replica,
    taker_of,
)
from actors.migration.states import PAST_NO_RETURN, State

GUESTS_MAX = 10_000
DEFINITION_BYTES_MAX = 64 << 20
REPLICAS_PER_GUEST_MAX = 4


def decide(state: ControlState, command: GuestCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case DefineGuest():
            return _define(state, command, asked)
        case RemoveGuest():
            return _remove(state, command)
        case StartGuest():
            return _start(state, command, asked)
        case StopGuest():
            return _stop(state, command, asked)
        case FailOver():
            return _fail_over(state, command, asked)
        case SetReplica():
            return _set_replica(state, command, asked)
        case MarkReplica():
            return _mark_replica(state, command)
        case RemoveReplica():
            _replica_of(state, command.guest, command.node)
            return Outcome(changes=(Change("replicas", replica_key(command.guest, command.node), None),))


def _put(guest: Guest, *more: Change, number: int = 0, detail: str = "") -> Outcome:
    return Outcome(changes=(Change("guests", guest.name, guest), *more), number=number, detail=detail)


def _define(state: ControlState, command: DefineGuest, asked: Asked) -> Outcome:
    old = state.guests.get(command.guest)
    if (old.definition_number if old else 0) != command.after:
        raise Refused(
            Refusal.STALE,
            f"the definition of {command.guest} is number {old.definition_number if old else 0}, not {command.after}",
        )
    room = DEFINITION_BYTES_MAX - len(command.definition) * 4
    if len(state.guests) - bool(old) >= GUESTS_MAX or sum(len(g.definition) for g in state.guests.values()) > room:
        raise Refused(
            Refusal.FULL,
            f"{GUESTS_MAX} guests and {DEFINITION_BYTES_MAX >> 20} MiB of definitions are all there can be",
        )
    if old is None:
        new = Guest(name=command.guest, definition=command.definition, definition_number=asked.index)
    else:
        not_moving(old)
        new = replace(old, definition=command.definition, definition_number=asked.index)
    return _put(new, number=asked.index)


def _remove(state: ControlState, command: RemoveGuest) -> Outcome:
    guest = guest_of(state, command.guest)
    at_epoch(guest, command.epoch)
    if guest.run is not Run.STOPPED:
        raise Refused(Refusal.RUNNING, f"{guest.name} runs on {guest.node}: stop it first")
    keys = sorted(key for key, each in state.replicas.items() if each.guest == guest.name)
    replicas = [Change("replicas", key, None) for key in keys]
    return Outcome(changes=(Change("guests", guest.name, None), *replicas))


def _start(state: ControlState, command: StartGuest, asked: Asked) -> Outcome:
    guest = guest_of(state, command.guest)
    at_epoch(guest, command.epoch)
    if guest.run is not Run.STOPPED:
        raise Refused(Refusal.RUNNING, f"{guest.name} is already granted to {guest.node}")
    taker_of(state, command.node)
    epoch = epoch_at(state, asked.index)
    owned = replace(guest, node=command.node, run=Run.RUNNING, epoch=epoch, branch_epoch=epoch)
    return _put(owned, *own_replica(state, guest.name, command.node), number=epoch)


def _stop(state: ControlState, command: StopGuest, asked: Asked) -> Outcome:
    guest = guest_of(state, command.guest)
    at_epoch(guest, command.epoch)
    not_moving(guest)
    if guest.run is Run.STOPPED:
        return Outcome(number=guest.epoch)
    if asked.by != f"node:{guest.node}" and holds_lease(state, guest.node):
        raise Refused(Refusal.NOT_YOURS, f"only the agent of {guest.node} knows that {guest.name} has stopped")
    return _put(replace(guest, run=Run.STOPPED), number=guest.epoch)


def _fail_over(state: ControlState, command: FailOver, asked: Asked) -> Outcome:
    guest = guest_of(state, command.guest)
    at_epoch(guest, command.epoch)
    if guest.run is Run.STOPPED:
        raise Refused(Refusal.NOT_RUNNING, f"nobody owns {guest.name}: start it instead")
    if held := held_by(state, guest):
        raise Refused(Refusal.LEASE_HELD, f"{', '.join(held)} may still run {guest.name}: the lease has not ended")
    taker_of(state, command.to)
    epoch = epoch_at(state, asked.index)
    changes = own_replica(state, guest.name, command.to)
    detail = "boots from its disks; what was in memory is lost"
    if command.checkpoint >= 0:
        replica = _replica_of(state, guest.name, command.to)
        if replica.of_epoch < guest.branch_epoch or command.checkpoint < replica.checkpoint:
            raise Refused(
                Refusal.STALE,
                f"the replica at {command.to} has checkpoint {replica.checkpoint} of epoch {replica.of_epoch}, and"
                f" {guest.name} began anew at epoch {guest.branch_epoch}",
            )
        detail = f"goes on from checkpoint {command.checkpoint}; what came after it is lost"
    if job := state.jobs.get(guest.job):
        over = State.COMPLETED if job.state in PAST_NO_RETURN else State.FAILED
        lost = replace(job, state=over, error=f"{guest.name} failed over to {command.to}", ended_index=asked.index)
        changes += [Change("jobs", job.id, lost), *oldest_ended(state)]
    owned = replace(guest, node=command.to, epoch=epoch, branch_epoch=epoch, job="")
    said = f". {command.reason}" if command.reason else ""
    return _put(owned, *changes, number=epoch, detail=f"{guest.name} {detail}{said}")


def _replica_of(state: ControlState, guest: str, node: str) -> Replica:
    if (replica := state.replicas.get(replica_key(guest, node))) is None:
        raise Refused(Refusal.UNKNOWN, f"there is no replica of {guest} at {node}")
    return replica


def _set_replica(state: ControlState, command: SetReplica, asked: Asked) -> Outcome:
    guest = guest_of(state, command.guest)
    if node_of(state, command.node).role != "host":
        raise Refused(Refusal.NO_HOST, f"{command.node} is a witness and keeps no replicas")
    if guest.node == command.node:
        raise Refused(Refusal.SAME_NODE, f"{guest.name} is on {command.node} itself")
    key = replica_key(command.guest, command.node)
    old = state.replicas.get(key)
    if old is None and sum(each.guest == guest.name for each in state.replicas.values()) >= REPLICAS_PER_GUEST_MAX:
        raise Refused(Refusal.FULL, f"{guest.name} has {REPLICAS_PER_GUEST_MAX} replicas, which is all there can be")
    new = (
        replace(old, rpo_ms=command.rpo_ms)
        if old
        else Replica(guest=guest.name, node=command.node, generation=asked.index, rpo_ms=command.rpo_ms)
    )
    return Outcome(changes=(Change("replicas", key, new),), number=new.generation)


def _mark_replica(state: ControlState, command: MarkReplica) -> Outcome:
    guest = guest_of(state, command.guest)
    replica = _replica_of(state, command.guest, command.node)
    if replica.generation != command.generation:
        raise Refused(Refusal.STALE, f"that replica is generation {replica.generation}, not {command.generation}")
    if command.of_epoch != guest.epoch or guest.run is Run.STOPPED:
        raise Refused(Refusal.STALE, f"{guest.name} is {guest.run} at epoch {guest.epoch}, not {command.of_epoch}")
    if (command.of_epoch, command.checkpoint) <= (replica.of_epoch, replica.checkpoint):
        raise Refused(Refusal.STALE, f"checkpoint {replica.checkpoint} is already known")
    new = replace(
        replica,
        of_epoch=command.of_epoch,
        checkpoint=command.checkpoint,
        captured_at_ms=command.captured_at_ms,
    )
    return Outcome(changes=(Change("replicas", replica_key(replica.guest, replica.node), new),))
