"""Rules for nodes, policies, flags and the version of the rules."""

from msgspec.structs import replace

from actors.control import author_rules, member_rules
from actors.control.commands import (
    AddMember,
    ClusterCommand,
    DrainNode,
    EnrolMember,
    EnrolNode,
    JoinNode,
    RemoveMember,
    RemoveNode,
    RemovePolicy,
    SetFlag,
    SetPolicy,
    Upgrade,
    VouchNode,
)
from actors.control.decision import Asked, Change, Outcome, Refusal, Refused
from actors.control.model import ControlState, Flag, Node, Policy
from actors.control.ownership import NODES_MAX, holds_lease, node_of, third_voice
from actors.migration.states import ENDED

POLICIES_MAX = 256
FLAG_NODES_MAX = 1024


def decide(state: ControlState, command: ClusterCommand, asked: Asked) -> Outcome:
    """What `command` does to `state`.

    Raises:
        Refused: nothing.
    """
    match command:
        case JoinNode():
            return _join(state, command, asked)
        case EnrolMember() | AddMember() | RemoveMember():
            outcome = member_rules.decide(state, command, asked)
            nodes = {change.key: change.record for change in outcome.changes if isinstance(change.record, Node)}
            if not (isinstance(command, RemoveMember) and command.lost):
                _keep_third_voice(state, {**state.nodes, **nodes})
            return outcome
        case EnrolNode() | VouchNode():
            return author_rules.decide(state, command, asked)
        case DrainNode():
            node = node_of(state, command.node)
            return _put_node(replace(node, draining=command.draining))
        case RemoveNode():
            return _remove(state, command)
        case SetPolicy():
            if command.name not in state.policies and len(state.policies) >= POLICIES_MAX:
                raise Refused(Refusal.FULL, f"there are {POLICIES_MAX} policies, which is all there can be")
            policy = Policy(name=command.name, value=command.value)
            return Outcome(changes=(Change("policies", command.name, policy),))
        case RemovePolicy():
            if command.name not in state.policies:
                raise Refused(Refusal.UNKNOWN, f"there is no policy {command.name}")
            return Outcome(changes=(Change("policies", command.name, None),))
        case SetFlag():
            return _flag(command)
        case Upgrade():
            return _upgrade(state, command)


def _put_node(node: Node) -> Outcome:
    return Outcome(changes=(Change("nodes", node.name, node),))


def _join(state: ControlState, command: JoinNode, asked: Asked) -> Outcome:
    known = state.nodes.get(command.node)
    if known is None and len(state.nodes) >= NODES_MAX:
        raise Refused(Refusal.FULL, f"there are {NODES_MAX} nodes, which is all there can be")
    if command.role == "witness" and known is not None and known.role == "host" and _uses(state, command.node):
        raise Refused(Refusal.IN_USE, f"{command.node} has {_uses(state, command.node)}: a witness has none")
    if 0 < command.speaks < state.cluster.version:
        raise Refused(
            Refusal.TOO_NEW, f"the rules in force are version {state.cluster.version}: update {command.node} first"
        )
    seats = [seat for seat in state.seats.values() if seat.node == command.node]
    if command.speaks and seats and all(seat.left for seat in seats):
        raise Refused(Refusal.NOT_YOURS, f"{command.node} was taken out of the members")
    node = Node(
        name=command.node,
        site=command.site,
        role=command.role,
        speaks=command.speaks,
        draining=known.draining if known else False,
        joined_at_ms=known.joined_at_ms if known else asked.at_ms,
    )
    _keep_third_voice(state, {**state.nodes, node.name: node})
    return _put_node(node)


def _remove(state: ControlState, command: RemoveNode) -> Outcome:
    node = node_of(state, command.node)
    if holds_lease(state, node.name):
        raise Refused(Refusal.LEASE_HELD, f"{node.name} still holds a lease: stop its agent first")
    if uses := _uses(state, node.name):
        raise Refused(Refusal.IN_USE, f"{node.name} still has {uses}")
    _keep_third_voice(state, {name: other for name, other in state.nodes.items() if name != node.name})
    gone = [Change("nodes", node.name, None), Change("leases", node.name, None)]
    if node.name in state.expiries:
        gone.append(Change("expiries", node.name, None))
    if node.name in state.authors:
        gone.append(Change("authors", node.name, None))
    if node.name in state.vouches:
        gone.append(Change("vouches", node.name, None))
    return Outcome(changes=tuple(gone))


def _uses(state: ControlState, node: str) -> str:
    """What keeps a node from being removed, in words; '' for nothing."""
    guests = (f"guest {guest.name}" for guest in state.guests.values() if guest.node == node)
    replicas = (f"a replica of {replica.guest}" for replica in state.replicas.values() if replica.node == node)
    moves = (
        f"move {job.id}" for job in state.jobs.values() if job.state not in ENDED and node in {job.source, job.target}
    )
    # The least of them, since tables have another order in a member that began from a snapshot.
    return min((*guests, *replicas, *moves), default="")


def _keep_third_voice(state: ControlState, nodes: dict[str, Node]) -> None:
    if state.cluster.terms.takeover == "lease" and third_voice(state.nodes) and not third_voice(nodes):
        raise Refused(
            Refusal.NO_THIRD_VOICE,
            "a single lost site could then end every lease: add a witness first, or set takeover to operator",
        )


def _flag(command: SetFlag) -> Outcome:
    if len(command.nodes_on) + len(command.nodes_off) > FLAG_NODES_MAX:
        raise Refused(Refusal.FULL, f"a flag names at most {FLAG_NODES_MAX} nodes")
    flag = Flag(
        component=command.component,
        percent=command.percent,
        nodes_on=command.nodes_on,
        nodes_off=command.nodes_off,
        killed=command.killed,
    )
    return Outcome(changes=(Change("flags", command.component, flag),))


def _upgrade(state: ControlState, command: Upgrade) -> Outcome:
    if command.to <= state.cluster.version:
        raise Refused(Refusal.STALE, f"the rules in force are already version {state.cluster.version}")
    members = [node for node in state.nodes.values() if node.speaks]
    behind = sorted(node.name for node in members if node.speaks < command.to)
    if behind or not members:
        who = ", ".join(behind) or "no member has said what it knows"
        raise Refused(Refusal.TOO_NEW, f"not every member knows version {command.to}: {who}")
    return Outcome(changes=(Change("cluster", "cluster", replace(state.cluster, version=command.to)),))
